"""Results as tables for a terminal."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from benchmarks.costs import Profile
from benchmarks.results import Cell, Results
from benchmarks.routes import SETTINGS, Route
from benchmarks.session import OPERATIONS
from benchmarks.timing import Spread

_TITLES = {operation.name: operation.title for operation in OPERATIONS}


def title_of(operation: str) -> str:
    """An operation in words."""
    return _TITLES.get(operation, operation)


def route_title(route: str) -> str:
    """A route in words."""
    known = {each.value for each in Route}
    return SETTINGS[Route(route)].title if route in known else route


def per_operation(total: int, operations: int) -> str:
    """An exact figure of one operation, with as many digits as it takes to tell it from its neighbours."""
    value = total / operations
    return str(total // operations) if total % operations == 0 else f"{value:.3f}"


def show_time(nanoseconds: float) -> str:
    """A time of the host, to three digits."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def show_ratio(ratio: Spread | None) -> str:
    """A ratio with the quartiles around it."""
    return "" if ratio is None else f"{_short(ratio.middle)} [{_short(ratio.low)}-{_short(ratio.high)}]"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def new_ladder_table(profile: Profile | None) -> Table:
    """The table of the ladder, empty: exits, hypercalls, guest instructions, and modelled cycles."""
    table = Table("route", "exits", "calls", "instr.", "host time", "of native's", title_justify="left")
    if profile is not None:
        table.add_column("cycles" + ("" if profile.is_verified else " *"))
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def operation_table(cells: Sequence[Cell], results: Results, profile: Profile | None) -> Table:
    """One operation: a row for each route by which it can be done, and why it can't by the others."""
    table = new_ladder_table(profile)
    table.title = title_of(cells[0].operation)
    for cell in cells:
        if cell.counts is not None:
            table.add_row(*_ladder_row(cell, results, profile))
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.absent is not None:
            reasons.setdefault(cell.absent, []).append(cell.route)
    table.caption = "\n".join(f"not by {', '.join(routes)}: {reason}" for reason, routes in reasons.items())
    table.caption_justify = "left"
    return table


def _ladder_row(cell: Cell, results: Results, profile: Profile | None) -> Iterable[str]:
    counts = cell.counts
    assert counts is not None
    yield cell.route
    for total in (counts.exits, counts.hypercalls, counts.instructions):
        yield per_operation(total, counts.operations)
    yield show_time(cell.time.middle)
    yield show_ratio(results.ratio(cell)) if cell.route != Route.NATIVE.value else "1"
    if profile is not None:
        cycles = profile.cycles(Route(cell.route), counts)
        yield "" if cycles is None else f"{cycles:.0f}"


def shares_table(cell: Cell) -> Table:
    """Where a macro-guest's time goes."""
    table = Table("reason", "exits", "host time", "share", title=f"{title_of(cell.operation)}: {cell.route}")
    for column in table.columns[1:]:
        column.justify = "right"
    whole = sum(share.nanoseconds for share in cell.shares) or 1
    for share in cell.shares:
        table.add_row(
            share.reason,
            str(share.count or ""),
            show_time(share.nanoseconds),
            f"{share.nanoseconds / whole:.1%}",
        )
    return table


def curves_table(results: Results) -> Table:
    """The scaling curves."""
    table = Table(
        "curve", "size", "exits", "instructions", "host time", title="when there is more and more of it"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for point in results.curves:
        exact = [per_operation(total, point.operations) for total in (point.exits, point.instructions)]
        table.add_row(point.curve, str(point.size), *exact, show_time(point.time.middle))
    return table


def reference_table(results: Results) -> Table:
    """Beside another hypervisor: the same guests, each timed by itself."""
    table = Table("operation", "route", "pvemu", "reference", "times as fast", title="beside the reference")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in results.reference:
        cell = results.cell(row.operation, row.route)
        if cell is None or not cell.samples or not row.samples:
            continue
        theirs = sorted(row.samples)[len(row.samples) // 2]
        faster = theirs / cell.time.middle
        table.add_row(
            title_of(row.operation),
            row.route,
            show_time(cell.time.middle),
            show_time(theirs),
            f"{faster:.2f}" + ("" if faster >= 1 else " SLOWER"),
        )
    return table
