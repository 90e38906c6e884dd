"""Event channels and grants."""

from typing import Final

from benchmarks.promises.cases import Case, against_xen
from benchmarks.promises.measuring import Benchmark

_CASES: Final = (
    Case("s", "send to a masked port", 100_000, 2282),
    Case("n", "send to self, upcall and iret", 100_000, 6454),
    Case("q", "query of the grant table's size", 100_000, 2238),
    Case("g", "map and unmap a grant", 20_000, 40_032),
)


def benchmarks() -> list[Benchmark]:
    """One benchmark for each case of channels.gk."""
    return against_xen("channels.gk", _CASES)
