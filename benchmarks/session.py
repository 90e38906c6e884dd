"""One run of the benchmark: which cells, how often, in which order, and what is told while it goes on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Protocol

from benchmarks import ladder, macro_guests
from benchmarks.counting import count
from benchmarks.environment import describe_machine, describe_versions
from benchmarks.jobs import Job
from benchmarks.ladder import Operation
from benchmarks.macro_guests import shares_of
from benchmarks.results import Cell, Results
from benchmarks.routes import Route
from benchmarks.scaling import CURVES, Curve, measure_point
from benchmarks.turns import sample_in_turns
from pvemu.abi.errors import PvemuError

OPERATIONS: Final = (*ladder.OPERATIONS, *macro_guests.OPERATIONS)
_MACROS: Final = frozenset(operation.name for operation in macro_guests.OPERATIONS)


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Attributes:
        machines: how many are made for each cell, one after the other: some are slower than others by where
            their memory happens to lie.
        turns: samples of each of them, besides the one that warms up.
        point_samples: samples for each point of a curve.
        seed: decides the order within each turn. Counts don't depend on it.
    """

    quick: bool = False
    seed: int = 0
    machines: int = 8
    turns: int = 40
    curves: bool = True
    point_samples: int = 30

    @classmethod
    def quickly(cls, seed: int = 0, *, curves: bool = True) -> "Settings":
        """What a person waits for."""
        return cls(True, seed, machines=4, turns=20, curves=curves, point_samples=9)


class Listener(Protocol):
    """Who is told how far a run is."""

    def begin(self, steps: int) -> None:
        """There are so many steps to come."""

    def step(self, what: str) -> None:
        """The next step is made; `what` names it."""

    def finished(self, operation: Operation, cells: Sequence[Cell], results: Results) -> None:
        """All routes of an operation are measured."""


def choose(names: Sequence[str]) -> tuple[list[Operation], list[Curve]]:
    """What is meant by some names; by none, everything.

    Raises:
        PvemuError: a name means nothing.
    """
    known = {operation.name for operation in OPERATIONS} | {curve.name for curve in CURVES}
    for name in names:
        if name not in known:
            raise PvemuError(f"there is no benchmark {name}: `pvemu bench --list` shows their names")
    if not names:
        return list(OPERATIONS), list(CURVES)
    return (
        [operation for operation in OPERATIONS if operation.name in names],
        [curve for curve in CURVES if curve.name in names],
    )


def measure(names: Sequence[str], settings: Settings, listener: Listener) -> Results:
    """Measure; what is told to the listener does not matter for the results."""
    operations, curves = choose(names)
    if not settings.curves:
        curves = [] if not names else curves
    results = Results(describe_machine(), describe_versions(), asdict(settings))
    points = [(curve, size) for curve in curves for size in curve.sizes(settings.quick)]
    steps = sum(len(operation.routes) + settings.machines * settings.turns for operation in operations)
    listener.begin(steps + len(points))
    for operation in operations:
        cells = _measure_operation(operation, settings, listener)
        results.cells += cells
        listener.finished(operation, cells, results)
    for curve, size in points:
        listener.step(f"{curve.name} {size}")
        try:
            results.curves.append(measure_point(curve, size, settings.point_samples))
        except PvemuError as reason:  # a curve is as long as the machine lets it be
            results.notes.append(f"{curve.name} {size}: {reason}")
    return results


def _measure_operation(operation: Operation, settings: Settings, listener: Listener) -> list[Cell]:
    jobs = [Job(operation, route, settings.turns + 1) for route in operation.routes]
    counted = {}
    for job in jobs:
        listener.step(str(job))
        counted[job.route] = count(job)
    samples: dict[Route, list[float]] = {job.route: [] for job in jobs}
    for number in range(settings.machines):
        found = sample_in_turns(jobs, settings.seed + number, lambda: listener.step(operation.name))
        for route, values in found.items():
            samples[route] += values
    by_route = {job.route: job for job in jobs}
    cells = []
    for route in Route:
        if route in by_route:
            shares = shares_of(by_route[route]) if operation.name in _MACROS else []
            name = route.value
            cells.append(Cell(operation.name, name, None, counted[route], samples[route], shares))
        elif route in operation.absent:
            cells.append(Cell(operation.name, route.value, operation.absent[route]))
    return cells
