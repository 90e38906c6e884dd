"""Two runs beside each other: what must be the same and is not, and how far the times have moved."""

from dataclasses import dataclass
from typing import Final

from rich.table import Table

from benchmarks.results import Cell, Results
from benchmarks.tables import per_operation, show_ratio, title_of

_NATIVE = "native"
#: Ratios of two runs on one quiet computer are that close to each other.
CLOSE: Final = 0.1


@dataclass(frozen=True)
class Difference:
    """An exact figure that differs: of one operation by one route, as text of both."""

    operation: str
    route: str
    figure: str
    first: str
    second: str


@dataclass(frozen=True)
class Movement:
    """A ratio to the native route in both runs; `change` is the second by the first."""

    operation: str
    route: str
    first: str
    second: str
    change: float

    @property
    def is_close(self) -> bool:
        """Whether the ratios are within 10 % of each other."""
        return max(self.change, 1 / self.change) <= 1 + CLOSE


def differences(first: Results, second: Results) -> list[Difference]:
    """All exact figures that differ, of cells and curves that both runs have."""
    found = [
        Difference(one.operation, one.route, figure, left, right)
        for one, other in _pairs(first, second)
        for figure, left, right in _exact_figures(one, other)
        if left != right
    ]
    points = {(point.curve, point.size): point for point in second.curves}
    for point in first.curves:
        other_point = points.get((point.curve, point.size))
        if other_point is None:
            continue
        for figure in ("exits", "instructions"):
            left, right = (
                per_operation(getattr(each, figure), each.operations) for each in (point, other_point)
            )
            if left != right:
                found.append(Difference(point.curve, str(point.size), figure, left, right))
    return found


def movements(first: Results, second: Results) -> list[Movement]:
    """How far the ratios to the native route have moved."""
    found = []
    for one, other in _pairs(first, second):
        before, after = first.ratio(one), second.ratio(other)
        if before is None or after is None or one.route == _NATIVE:
            continue
        change = after.middle / before.middle
        found.append(Movement(one.operation, one.route, show_ratio(before), show_ratio(after), change))
    return found


def difference_table(found: list[Difference]) -> Table:
    """The exact figures that differ."""
    table = Table("operation", "route", "figure", "first", "second", title="exact figures that differ")
    for each in found:
        table.add_row(title_of(each.operation), each.route, each.figure, each.first, each.second)
    return table


def movement_table(found: list[Movement]) -> Table:
    """The ratios of both runs."""
    table = Table(
        *("operation", "route", "first", "second", "change", f"within {CLOSE:.0%}"),
        title="host time as a multiple of native's",
    )
    for each in found:
        table.add_row(
            *(each.operation, each.route, each.first, each.second),
            *(f"{each.change - 1:+.1%}", "yes" if each.is_close else "NO"),
        )
    close = sum(each.is_close for each in found)
    table.caption = f"{close} of {len(found)} ratios are within {CLOSE:.0%} of each other"
    return table


def _pairs(first: Results, second: Results) -> list[tuple[Cell, Cell]]:
    both = ((cell, second.cell(cell.operation, cell.route)) for cell in first.cells)
    return [
        (one, other)
        for one, other in both
        if other is not None and one.counts is not None and other.counts is not None
    ]


def _exact_figures(one: Cell, other: Cell) -> list[tuple[str, str, str]]:
    left, right = one.counts, other.counts
    assert left is not None and right is not None
    figures = [
        (
            name,
            per_operation(getattr(left, name), left.operations),
            per_operation(getattr(right, name), right.operations),
        )
        for name in ("exits", "hypercalls", "instructions")
    ]
    for reason in sorted({*left.reasons, *right.reasons}):
        figures.append(
            (
                reason,
                per_operation(left.reasons.get(reason, 0), left.operations),
                per_operation(right.reasons.get(reason, 0), right.operations),
            )
        )
    return figures
