"""How two ways to do one thing are measured: in turns, so that a busy moment hits both, and by medians."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

REPETITIONS: Final = 7

#: Does the thing once; gives the seconds that it took, without what has to be set up before.
Measurement = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """Two ways to do the same.

    Attributes:
        name: what is done; unit: what one number stands for ("ns a hypercall").
        ours, other: the ways; other_name: what the other one is.
        scale: from the seconds of one measurement to the unit.
        goal: the least ratio (other's time by ours) that is promised; None: nothing is.
    """

    name: str
    unit: str
    ours: Measurement
    other: Measurement
    other_name: str
    scale: float
    goal: float | None = None


@dataclass(frozen=True)
class Row:
    """The outcome: medians in the benchmark's unit; `ratio` is how many times faster ours is."""

    name: str
    unit: str
    ours: float
    other: float
    other_name: str
    ratio: float
    goal: float | None

    @property
    def reached(self) -> bool:
        """Whether the promise holds."""
        return self.goal is None or self.ratio >= self.goal


def measure(benchmark: Benchmark, repetitions: int = REPETITIONS) -> Row:
    """Measure both ways in turn. The ratio is the median of the ratios of neighbours in time."""
    pairs = [(benchmark.ours(), benchmark.other()) for _ in range(repetitions)]
    ours, other = (median(column) * benchmark.scale for column in zip(*pairs, strict=True))
    ratio = median(second / first for first, second in pairs)
    return Row(benchmark.name, benchmark.unit, ours, other, benchmark.other_name, ratio, benchmark.goal)


def recorded(seconds: float) -> Measurement:
    """A measurement that was made once, elsewhere."""
    return lambda: seconds


def seconds_of(action: Callable[[], object]) -> float:
    """The seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
