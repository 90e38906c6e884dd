"""Hypercalls that an argument can make very long: they stop for the deadline, and give others their turn."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.abi.hypercalls import BY_NAME
from pvemu.toolstack.machine import Outcome

MakeMachine = Callable[..., Machine]

#: Far less than any of these calls needs, were it allowed to go on.
MAX_TIME = 0.005

FULL_SPACE = Path(__file__).parents[1] / "guests" / "full_space.gk"
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
