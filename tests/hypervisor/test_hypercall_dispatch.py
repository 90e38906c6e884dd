"""The table of hypercalls: what has a row and a handler is reached, anything else is -ENOSYS."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.abi.errno import Errno
from pvemu.abi.hypercalls import BY_NAME, HYPERCALLS
from pvemu.hypervisor import families
from pvemu.toolstack.machine import Outcome

GUEST = Path(__file__).parents[1] / "guests" / "hypercalls.gk"
ENOSYS = -int(Errno.ENOSYS) & 0xFFFFFFFF
MakeMachine = Callable[..., Machine]


def make_calls(make_machine: MakeMachine, calls: list[tuple[int, ...]]) -> tuple[Machine, list[int]]:
    """The results of hypercalls, each a number and up to five arguments."""
    image = assemble_file(GUEST)
    machine = make_machine(image.elf, memory=8, privileged=True)
    memory = machine.domain.memory
    table = b"".join(struct.pack("<8I", *call, *[0] * (8 - len(call))) for call in calls)
    memory.copy_to_guest(image.symbols["calls"], table)
    memory.write_u32(image.symbols["entries"], len(calls))
    assert machine.run(1).outcome is Outcome.POWEROFF, machine.log_lines
    return machine, [memory.read_u32(image.symbols["calls"] + 32 * index + 24) for index in range(len(calls))]


def test_a_row_with_a_handler_is_reached(make_machine: MakeMachine) -> None:
    ends_the_guest = {
        "iret",
        "sched_op",
        "sched_op_compat",
        "set_trap_table",
        "set_callbacks",
        "stack_switch",
    }
    names = [name for name in families.supported() if name not in ends_the_guest]
    calls = [(BY_NAME[name].number, 0xFFFF, 0xFFFFFFF0, 0, 0x7FF0) for name in names]
    machine, results = make_calls(make_machine, calls)
    assert len(results) == len(names) >= 20
    assert all(machine.hypervisor.counters[BY_NAME[name].number] for name in names)


def test_a_number_without_a_row_is_refused(make_machine: MakeMachine) -> None:
    numbers = {row.number for row in HYPERCALLS}
    missing = [number for number in range(80) if number not in numbers] + [0x80000000, 0xFFFFFFFF, 0x10011]
    _, results = make_calls(make_machine, [(number,) for number in missing])
    assert results == [ENOSYS] * len(missing)


def test_a_row_without_a_handler_is_refused(make_machine: MakeMachine) -> None:
    handled = set(families.supported())
    rows = [row.number for row in HYPERCALLS if row.name not in handled]
    _, results = make_calls(make_machine, [(number,) for number in rows])
    assert results == [ENOSYS] * len(rows)


def test_only_rows_that_a_pv_guest_may_call_have_handlers() -> None:
    assert all("pv32" in BY_NAME[name].guests for name in families.supported())


@pytest.mark.parametrize("command", [0, 1, 5, 7, 2, 8, 9])
def test_xen_version_with_a_bad_buffer_is_efault_unless_it_needs_none(
    make_machine: MakeMachine, command: int
) -> None:
    _, results = make_calls(make_machine, [(BY_NAME["xen_version"].number, command, 0xFFFFF000)])
    needs_none = {0: 4 << 16 | 17, 7: -int(Errno.EINVAL) & 0xFFFFFFFF}
    assert results == [needs_none.get(command, -int(Errno.EFAULT) & 0xFFFFFFFF)]
