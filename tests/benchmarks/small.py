"""Small results to test with: real counts of a few cells, and times that are made up."""

from benchmarks.counting import Counts
from benchmarks.results import Cell, Point, Results, Share


def counts(exits: int = 2, instructions: int = 8) -> Counts:
    """Of two operations."""
    return Counts(2, exits, 0, instructions, {"page fault": exits} if exits else {})


def results(*, exits: int = 2, slower: float = 1.0) -> Results:
    """A machine with one operation by two routes, a macro-guest and a curve."""
    return Results(
        {"processor": "<a processor>"},
        {"pvemu": "0"},
        {"seed": 5},
        [
            Cell("interrupts", "native", None, counts(0), [10.0, 20.0, 10.0]),
            Cell("interrupts", "trap", None, counts(exits), [100.0 * slower, 200.0 * slower, 100.0 * slower]),
            Cell("interrupts", "int-0x82", "there is no such hypercall"),
            Cell(
                "work",
                "hvm-nested",
                None,
                counts(),
                [5e6],
                [Share("page fault", 2, 900), Share("HLT", 1, 100)],
            ),
        ],
        [Point("ports", 1, 2, 2, 20, [1000.0]), Point("ports", 64, 2, 2, 20, [1100.0])],
    )
