"""Guests that can't go on are crashed, with a reason and their registers in the log."""

from collections.abc import Callable

import pytest

from pvemu import Machine
from pvemu.toolstack.machine import Outcome

MakeMachine = Callable[..., Machine]

HEAD = """
guest "crash"
section .text
start:  mov eax, 0x11223344
        mov ebp, 0x55667788
"""
TRAPS = """
trap_table traps
        trap 6, handler
        trap 13, handler
        trap 14, handler
end
handler: HANDLER
"""

#: What the guest does -> what the log's first line says.
CASES = {
    "ud2": "Unhandled: vec 6, #UD[",
    "cli": "Unhandled: vec 13, #GP[0000]",
    "xor ecx, ecx\ndiv ecx": "Unhandled: vec 0, #DE[",
    "mov eax, [0x10]": "Unhandled: vec 14, #PF[0000]",
    "mov [0x10], eax": "Unhandled: vec 14, #PF[0002]",
    "int 0x55": "Unhandled: vec 13, #GP[02aa]",
    "jmp 0x20000000": "Unhandled: vec 14, #PF[0010]",
    "mov eax, 0xabc8\nmov ds, eax": "Unhandled: vec 13, #GP[abc8]",
}


@pytest.mark.parametrize(("body", "reason"), CASES.items())
def test_an_exception_without_a_handler_crashes_the_domain(
    make_machine: MakeMachine, body: str, reason: str
) -> None:
    machine = make_machine(HEAD + body + "\njmp $", memory=8)
    assert machine.run(1).outcome is Outcome.CRASH
    assert machine.log_lines[0].startswith(f"(XEN) d1v0: {reason}")


@pytest.mark.parametrize(
    ("setup", "handler", "words"),
    [
        ("mov esp, 0x1000", "jmp $", "no room for an exception frame"),
        ("mov esp, 2", "jmp $", "no room for an exception frame"),
        ("nop", "ud2", "no room for an exception frame"),
        ("nop", "mov eax, [0x10]", "no room for an exception frame"),
    ],
)
def test_a_handler_that_can_not_be_entered_crashes_the_domain(
    make_machine: MakeMachine, setup: str, handler: str, words: str
) -> None:
    text = HEAD + "hypercall set_trap_table, traps\n" + setup + "\nud2\n" + TRAPS.replace("HANDLER", handler)
    machine = make_machine(text, memory=8)
    assert machine.run(1).outcome is Outcome.CRASH
    assert words in machine.log_lines[0]


def test_the_log_of_a_crash_has_the_registers(make_machine: MakeMachine) -> None:
    machine = make_machine(HEAD + "ud2", memory=8)
    machine.run(1)
    log = "\n".join(machine.log_lines)
    for words in (
        "eax: 11223344",
        "ebp: 55667788",
        "RIP:    e019:[<c010000a>]",
        "cs: e019",
        "Guest stack trace",
    ):
        assert words in log


def test_a_stack_that_can_not_be_read_does_not_spoil_the_log(make_machine: MakeMachine) -> None:
    machine = make_machine(HEAD + "mov esp, 0xfffffffe\nud2", memory=8)
    assert machine.run(1).outcome is Outcome.CRASH
    assert "unreadable" in machine.log_lines[-1]


def test_a_crashed_guest_stays_crashed(make_machine: MakeMachine) -> None:
    machine = make_machine(HEAD + "ud2", memory=8)
    first, lines = machine.run(1), len(machine.log_lines)
    second = machine.run(1)
    assert (first.outcome, second.outcome, len(machine.log_lines)) == (Outcome.CRASH, Outcome.CRASH, lines)
