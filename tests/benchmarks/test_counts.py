"""What is counted is what the guest does: exits, hypercalls and instructions of one operation, exactly."""

import itertools
from dataclasses import replace

import pytest

from benchmarks.counting import Counts, count
from benchmarks.jobs import GUESTS, GuestFailed, Job
from benchmarks.ladder import OPERATIONS, Operation
from benchmarks.macro_guests import WORK
from benchmarks.routes import SETTINGS, Route
from benchmarks.session import OPERATIONS as ALL

_ROUNDS = 2
_BY_NAME = {operation.name: operation for operation in ALL}


def counted(operation: str, route: Route, body_runs: int = 3) -> Counts:
    """A cell of the ladder, in small."""
    return count(Job(replace(_BY_NAME[operation], count=body_runs, counts={}), route, _ROUNDS))


def per_operation(found: Counts) -> tuple[float, float]:
    """Exits and hypercalls of one operation."""
    return found.exits / found.operations, found.hypercalls / found.operations


# Exits and hypercalls that follow from the guest's source and from what each route is.
_EXPECTED = {
    ("interrupts", Route.NATIVE): (0, 0),
    ("interrupts", Route.TRAP): (2, 0),
    ("interrupts", Route.SHARED): (0, 0),
    ("interrupts", Route.NESTED): (0, 0),
    ("read-cr2", Route.TRAP): (1, 0),
    ("read-cr2", Route.SHARED): (0, 0),
    ("task-switched", Route.TRAP): (2, 0),
    ("task-switched", Route.INT): (2, 2),
    ("task-switched", Route.PAGE): (2, 2),
    ("null-hypercall", Route.INT): (1, 1),
    ("null-hypercall", Route.MULTICALL): (1 / 32, 33 / 32),
    ("null-hypercall", Route.PVHVM): (1, 1),
    ("load-cr3", Route.TRAP): (1, 0),
    ("load-cr3", Route.PAGE): (1, 1),
    ("load-cr3", Route.SHADOW): (1, 0),
    ("load-cr3", Route.NESTED): (0, 0),
    ("one-entry", Route.PAGE): (1, 1),
    ("one-entry", Route.NESTED): (0, 0),
    ("system-call", Route.TRAP): (1, 0),
    ("system-call", Route.PAGE): (2, 1),
    ("context-switch", Route.PAGE): (2, 2),
    ("context-switch", Route.MULTICALL): (1, 3),
    ("timer", Route.PAGE): (1, 1),
    ("timer", Route.NESTED): (3, 0),
    ("timer", Route.PVHVM): (1, 1),
    ("console-line", Route.PAGE): (1, 1),
    ("console-line", Route.SHARED): (0, 0),
    ("console-line", Route.NESTED): (16, 0),
    # Of each sector the status and the data, and the command's six registers.
    ("block-read-4k", Route.NATIVE): (0, 0),
    ("block-read-4k", Route.SHADOW): (8 + 8 + 6, 0),
    ("block-read-4k", Route.NESTED): (8 + 8 + 6, 0),
    ("block-read-64k", Route.NESTED): (128 + 128 + 6, 0),
}


@pytest.mark.parametrize(("operation", "route"), _EXPECTED, ids=str)
def test_an_operation_has_the_exits_and_hypercalls_that_its_route_needs(operation: str, route: Route) -> None:
    assert per_operation(counted(operation, route)) == _EXPECTED[operation, route]


def test_instructions_are_those_of_the_loop() -> None:
    # DEC and JNZ, and of interrupts CLI and STI.
    assert counted("nothing", Route.NATIVE, 5).instructions == 2 * 5
    assert counted("interrupts", Route.TRAP, 5).instructions == 4 * 5


@pytest.mark.parametrize(
    ("route", "hypercalls"),
    [(Route.PAGE, 1024), (Route.BATCH_8, 128), (Route.BATCH_32, 32), (Route.BATCH_128, 8)],
)
def test_a_thousand_entries_take_one_hypercall_a_batch_and_a_flush(route: Route, hypercalls: int) -> None:
    found = counted("thousand-entries", route, 1)
    assert (found.exits, found.hypercalls) == (hypercalls + 1, hypercalls + 1)


def test_a_domain_answers_each_event_by_one_of_its_own() -> None:
    # Each of the two sends and sleeps.
    assert per_operation(counted("event-answer", Route.PAGE)) == (4, 4)


def test_two_runs_count_the_same() -> None:
    assert counted("demand-fault", Route.SHADOW, 8) == counted("demand-fault", Route.SHADOW, 8)
    assert counted("block-read-4k", Route.PVHVM) == counted("block-read-4k", Route.PVHVM)


@pytest.mark.parametrize("route", WORK.routes)
def test_a_unit_of_work_is_done_by_every_route(route: Route) -> None:
    found = counted("work", route, 1)
    assert found.instructions > 0
    assert (found.exits == 0) == SETTINGS[route].is_bare


def test_every_route_of_every_operation_is_measured_or_said_to_be_absent() -> None:
    for operation in OPERATIONS:
        assert set(operation.routes) | set(operation.absent) == set(Route), operation.name
        assert not set(operation.routes) & set(operation.absent), operation.name


def test_every_guest_begins_with_its_name_and_what_it_does() -> None:
    for path in GUESTS.glob("*.gk"):
        assert path.read_text().startswith(f"; {path.name} - "), path.name


def test_every_cell_has_a_guest_that_can_be_assembled() -> None:
    cells = itertools.chain.from_iterable(((each, route) for route in each.routes) for each in ALL)
    for operation, route in cells:
        assert Job(operation, route, _ROUNDS).image().elf.startswith(b"\x7fELF")


def test_a_guest_that_does_not_power_off_is_reported() -> None:
    broken = Operation(
        "broken", "", "block.gk", {Route.PAGE: 1}, 1, defines={"BYTES": 4096}
    )  # it has no disk
    with pytest.raises(GuestFailed, match="broken by hypercall-page ended with crash"):
        count(Job(broken, Route.PAGE, _ROUNDS))
