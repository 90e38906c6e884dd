"""Hypercalls that an argument can make very long: they stop for the deadline, and give others their turn."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.abi.hypercalls import BY_NAME
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.machine import Outcome

MakeMachine = Callable[..., Machine]

#: Far less than any of these calls needs, were it allowed to go on.
MAX_TIME = 0.005

TESTS = Path(__file__).parents[1]
FULL_SPACE = TESTS / "guests/full_space.gk"
LONG_WORK, LONG_WORK_ON_XEN = TESTS / "guests/long_work.gk", TESTS / "golden/guests/long_work.txt"
HEAD = """
guest "endless", virt_base=0xC0000000
"""
ENDLESS_CONSOLE = """
section .text
start:  hypercall console_io, CONSOLEIO_write, 0x30000000, 0xC0000000
        hypercall sched_op, SCHEDOP_shutdown, reason
reason: dd SHUTDOWN_poweroff
"""
ENDLESS_TIMERS = """
section .text
start:  mov esi, 0x70000000
again:  inc esi
        mov eax, __HYPERVISOR_set_timer_op
        mov ebx, esi
        mov ecx, 0x100000
        int 0x82
        jmp again
"""


def test_console_output_without_end_stops_at_the_deadline(make_machine: MakeMachine) -> None:
    machine = make_machine(HEAD + ENDLESS_CONSOLE, memory=768, machine_memory=1024, privileged=True)
    run = machine.run(MAX_TIME)
    assert run.outcome is Outcome.DEADLINE
    assert len(machine.console_bytes) < 1 << 22


def test_timers_set_without_end_take_no_room(make_machine: MakeMachine) -> None:
    machine = make_machine(HEAD + ENDLESS_TIMERS, memory=8)
    assert machine.run(MAX_TIME).outcome is Outcome.DEADLINE
    assert len(machine.hypervisor.timers._queue) < 200


@pytest.mark.parametrize(
    ("call", "count", "words"),
    [
        ("set_trap_table", 0, (0x11111111, 0x11111111)),
        ("multicall", 1 << 26, (BY_NAME["xen_version"].number, 0)),
    ],
)
def test_a_list_all_over_the_address_space_stops_at_the_deadline(
    make_machine: MakeMachine, call: str, count: int, words: tuple[int, int]
) -> None:
    """A few tables are enough to show one page at all addresses, and so a list of gigabytes."""
    image = assemble_file(FULL_SPACE)
    machine = make_machine(image.elf, memory=8)
    settings = {
        "word_0": words[0],
        "word_1": words[1],
        "call_number": BY_NAME[call].number,
        "count": count,
    }
    for name, value in settings.items():
        machine.domain.memory.write_u32(image.symbols[name], value)
    assert machine.run(MAX_TIME).outcome is Outcome.DEADLINE
    assert machine.domain.memory.read_u32(image.symbols["refused"]) == 0
    assert machine.domain.memory.read_u32(image.symbols["pattern"]) == words[0]


@pytest.mark.parametrize("microseconds", [1, 7, 50, 400])
def test_a_hypercall_that_is_stopped_again_and_again_has_the_same_outcome(
    make_machine: MakeMachine, microseconds: int
) -> None:
    """Pinning, a batch and unpinning go on where they stopped; all counts are right in between."""
    machine = make_machine(assemble_file(LONG_WORK).elf, memory=16)
    whole = make_machine(assemble_file(LONG_WORK).elf, memory=16)
    assert whole.run(1).outcome is Outcome.POWEROFF
    auditor, slices = Auditor(machine.hypervisor), 0
    while (run := machine.run(microseconds / 1e6)).outcome is Outcome.DEADLINE:
        slices += 1
        if slices % 128 == 0:
            auditor.audit()
    assert run.outcome is Outcome.POWEROFF
    auditor.audit()
    assert machine.console_bytes.decode().splitlines() == LONG_WORK_ON_XEN.read_text().splitlines()
    stopped = sum(machine.hypervisor.counters) - sum(whole.hypervisor.counters)
    assert stopped > 0 or microseconds > 100
