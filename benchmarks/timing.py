"""What is not exact about a cell: the host's time, and what of it is taken for undisturbed.

It is the time that the host's processor spends on it, so that what else runs there does not count.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

#: One of so many samples is taken for undisturbed, but so many at least.
_SHARE: Final = 6
_LEAST: Final = 3


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Python's search for cycles would come in the middle of a sample, and cost what the heap is large."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class Spread:
    """A median with the quartiles around it."""

    middle: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles of some values; of one or two the quartiles are the ends."""
    if len(values) < 3:
        return Spread(median(values), min(values), max(values))
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high)


def undisturbed(samples: Sequence[float]) -> list[float]:
    """The quickest sixth of some samples, three at least, in order.

    A processor that is shared with other machines is by turns fast and half as fast again, for parts of a
    second. The median of all would tell how often it was which; the least one alone can be a lucky one.
    """
    return sorted(samples)[: max(len(samples) // _SHARE, _LEAST)]


def ratios(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """How many times as long as those of `base`, taken in the same turns, the undisturbed samples are."""
    pairs = zip(undisturbed(samples), undisturbed(base), strict=True)
    return [sample / other for sample, other in pairs]
