"""The report: one HTML file with all tables and plots, which needs nothing but a browser."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from benchmarks.costs import profile_names, read_profile
from benchmarks.counting import Counts
from benchmarks.plots import Drawing
from benchmarks.results import Cell, Results
from benchmarks.routes import Route
from benchmarks.tables import per_operation, route_title, show_ratio, show_time, title_of

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
p.absent { color: #666; font-size: .9em; margin: .1rem 0; }
svg { max-width: 100%; height: auto; }
"""
#: What an SVG file begins with, which has no place within HTML.
_PROLOGUE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
#: Names within a drawing: all drawings are in one document.
_NAMES: Final = re.compile(r'(\bid="|href="#|url\(#)')


def html_report(results: Results, drawings: Sequence[Drawing]) -> str:
    """The report's text."""
    return "".join(_document(results, drawings))


def _document(results: Results, drawings: Sequence[Drawing]) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>pvemu bench</title>'
    yield f"<style>{_STYLE}</style></head><body>\n<h1>What a trap costs, what a hypercall costs</h1>\n"
    yield "<p>Exits, hypercalls and instructions are exact: they are the same in every run. Host times "
    yield "are medians; ratios are of samples taken one after the other, with their quartiles. Modelled "
    yield "cycles are by cost profile; a star says that its numbers were not all checked.</p>\n"
    for title, facts in (
        ("machine", results.machine),
        ("versions", results.versions),
        ("run", results.settings),
    ):
        yield _table(("", title), ((name, str(value)) for name, value in facts.items()))
    for number, drawing in enumerate(drawings):
        yield f"<h2>{escape(drawing.title)}</h2>\n{_embedded(drawing.svg, number)}\n"
    yield "<h2>The ladder</h2>\n"
    for operation in dict.fromkeys(cell.operation for cell in results.cells):
        yield from _operation([cell for cell in results.cells if cell.operation == operation], results)
    if results.curves:
        yield "<h2>Curves</h2>\n"
        rows = (
            (
                point.curve,
                str(point.size),
                per_operation(point.exits, point.operations),
                per_operation(point.instructions, point.operations),
                show_time(point.time.middle),
            )
            for point in results.curves
        )
        yield _table(("curve", "size", "exits", "instructions", "host time"), rows)
    for note in results.notes:
        yield f'<p class="absent">not measured: {escape(note)}</p>\n'
    yield "</body></html>\n"


def _operation(cells: Sequence[Cell], results: Results) -> Iterator[str]:
    yield f"<h3>{escape(title_of(cells[0].operation))}</h3>\n"
    yield _table(
        (
            *("route", "exits", "hypercalls", "instructions", "host time", "of native's"),
            *("exits by reason", "modelled cycles"),
        ),
        (_cells_of(cell, cell.counts, results) for cell in cells if cell.counts is not None),
    )
    for cell in cells:
        if cell.absent is not None:
            yield f'<p class="absent">not by {escape(cell.route)}: {escape(cell.absent)}</p>\n'
        if cell.shares:
            yield _table((cell.route, "exits", "host time", "share"), _shares(cell))


def _cells_of(cell: Cell, counts: Counts, results: Results) -> Iterator[str]:
    yield route_title(cell.route)
    for total in (counts.exits, counts.hypercalls, counts.instructions):
        yield per_operation(total, counts.operations)
    yield show_time(cell.time.middle)
    yield show_ratio(results.ratio(cell))
    yield ", ".join(
        f"{reason} {per_operation(number, counts.operations)}" for reason, number in counts.reasons.items()
    )
    priced = ((each, each.cycles(Route(cell.route), counts)) for each in map(read_profile, profile_names()))
    yield ", ".join(
        f"{profile.name} {cycles:.0f}{'' if profile.is_verified else '*'}"
        for profile, cycles in priced
        if cycles is not None
    )


def _shares(cell: Cell) -> Iterator[tuple[str, str, str, str]]:
    whole = sum(share.nanoseconds for share in cell.shares) or 1
    for share in cell.shares:
        count = str(share.count or "")
        yield share.reason, count, show_time(share.nanoseconds), f"{share.nanoseconds / whole:.1%}"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join(_row("td", row) for row in rows)
    return f"<table>{_row('th', head)}{body}</table>\n"


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>\n"


def _embedded(svg: str, number: int) -> str:
    return _NAMES.sub(rf"\g<1>d{number}-", _PROLOGUE.sub("", svg))
