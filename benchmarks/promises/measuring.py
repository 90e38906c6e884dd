"""How two ways to do one thing are measured: in turns, and by the quickest of the measurements."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.timing import ratios, undisturbed

REPETITIONS: Final = 9

#: Does the thing once; gives the seconds that it took, without what has to be set up before.
Measurement = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """Two ways to do the same.

    Attributes:
        name: what is done; unit: what one number stands for ("ns a hypercall").
        ours, other: the ways; other_name: what the other one is. Without one ours is measured alone.
        scale: from the seconds of one measurement to the unit.
        per_second: how many of the unit one measurement does, where a rate is shown and not a time.
        goal: the least ratio (other's time by ours) that is promised; None: nothing is.
    """

    name: str
    unit: str
    ours: Measurement
    other: Measurement | None = None
    other_name: str = ""
    scale: float = 1
    per_second: float | None = None
    goal: float | None = None

    def figure(self, seconds: float) -> float:
        """What is shown for a measurement that took so long."""
        return seconds * self.scale if self.per_second is None else self.per_second / seconds


@dataclass(frozen=True)
class Row:
    """The outcome: what was undisturbed, in the benchmark's unit; `ratio`: how many times faster ours is."""

    name: str
    unit: str
    ours: float
    other: float | None
    other_name: str
    ratio: float | None
    goal: float | None

    @property
    def reached(self) -> bool:
        """Whether the promise holds."""
        return self.goal is None or (self.ratio is not None and self.ratio >= self.goal)


def measure(benchmark: Benchmark, repetitions: int = REPETITIONS) -> Row:
    """Measure both ways in turn, so that a busy moment hits both; what is disturbed by it does not count."""
    if benchmark.other is None:
        alone = _middle(benchmark, [benchmark.ours() for _ in range(repetitions)])
        return Row(benchmark.name, benchmark.unit, alone, None, "", None, benchmark.goal)
    pairs = [(benchmark.ours(), benchmark.other()) for _ in range(repetitions)]
    first, second = zip(*pairs, strict=True)
    ours, other = _middle(benchmark, first), _middle(benchmark, second)
    ratio = median(ratios(second, first))
    return Row(benchmark.name, benchmark.unit, ours, other, benchmark.other_name, ratio, benchmark.goal)


def _middle(benchmark: Benchmark, seconds: Sequence[float]) -> float:
    return benchmark.figure(median(undisturbed(seconds)))


def recorded(seconds: float) -> Measurement:
    """A measurement that was made once, elsewhere."""
    return lambda: seconds


def seconds_of(action: Callable[[], object]) -> float:
    """The seconds that an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
