"""Plots of results, with matplotlib (the extra `bench`)."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.results import Cell, Results
from benchmarks.routes import Route
from benchmarks.scaling import CURVES
from benchmarks.tables import title_of
from benchmarks.timing import spread

#: One colour and one mark a route, the same in all plots.
_LOOKS: Final[dict[str, tuple[str, str]]] = {
    Route.NATIVE.value: ("#444444", "|"),
    Route.TRAP.value: ("#d62728", "o"),
    Route.INT.value: ("#ff9d3c", "s"),
    Route.PAGE.value: ("#e0740c", "D"),
    Route.MULTICALL.value: ("#b8860b", "^"),
    Route.BATCH_8.value: ("#9acd32", "<"),
    Route.BATCH_32.value: ("#5faf2f", ">"),
    Route.BATCH_128.value: ("#2e7d1b", "v"),
    Route.SHARED.value: ("#17becf", "*"),
    Route.SHADOW.value: ("#9467bd", "P"),
    Route.NESTED.value: ("#1f5fb4", "X"),
    Route.PVHVM.value: ("#e377c2", "h"),
}
_WIDTH: Final = 9.0
#: Space above and below a curve, as a factor: noise shall not look like a trend.
_MARGIN: Final = 4
#: How much of the distance of two rows the marks of one of them take.
_ROW: Final = 0.7
_SETTINGS: Final = {"svg.hashsalt": "pvemu", "font.size": 9, "svg.fonttype": "path"}
#: Parts of a macro-guest's time that are shown by name; the smaller ones are one.
_PARTS: Final = 8
_OTHERS: Final = "other exits"


@dataclass(frozen=True)
class Drawing:
    """A plot, as text of an SVG file and bytes of a PNG file. `name` is that of its files."""

    name: str
    title: str
    svg: str
    png: bytes

    def save(self, folder: Path) -> None:
        """Write both files."""
        (folder / f"{self.name}.svg").write_text(self.svg)
        (folder / f"{self.name}.png").write_bytes(self.png)


def draw_all(results: Results) -> list[Drawing]:
    """Every plot for which there are figures."""
    with matplotlib.rc_context(_SETTINGS):
        drawings = [
            _ladder(
                results, "times", "host time of one operation", "nanoseconds", lambda cell: cell.time.middle
            ),
            _ladder(results, "exits", "exits of one operation", "exits", _exits),
        ]
        if any(cell.shares for cell in results.cells):
            drawings.append(_shares([cell for cell in results.cells if cell.shares]))
        if results.curves:
            drawings.append(_curves(results))
        if results.reference:
            drawings.append(_reference(results))
    return drawings


def _exits(cell: Cell) -> float:
    assert cell.counts is not None
    return cell.counts.exits / cell.counts.operations


def _ladder(results: Results, name: str, title: str, unit: str, value: Callable[[Cell], float]) -> Drawing:
    """A row for each operation, a mark for each route, on a logarithmic scale."""
    operations = list(dict.fromkeys(cell.operation for cell in results.cells))
    figure = Figure(figsize=(_WIDTH, 1.4 + 0.5 * len(operations)), layout="constrained")
    axes = figure.add_subplot()
    for number, (route, (colour, mark)) in enumerate(_LOOKS.items()):
        # One below the other, so that routes that cost the same don't hide each other.
        below = (number / (len(_LOOKS) - 1) - 0.5) * _ROW
        cells = [cell for cell in results.cells if cell.route == route and cell.counts is not None]
        if cells:
            axes.scatter(
                [value(cell) for cell in cells],
                [operations.index(cell.operation) + below for cell in cells],
                c=colour,
                marker=mark,
                s=45,
                label=route,
                zorder=3,
                clip_on=False,
            )
    if name == "exits":
        axes.set_xscale("symlog", linthresh=0.02)
        axes.set_xlim(left=0)
    else:
        axes.set_xscale("log")
    axes.set_yticks(range(len(operations)), [title_of(operation) for operation in operations])
    axes.set_ylim(len(operations) - 0.5, -0.5)
    axes.set_xlabel(unit)
    axes.grid(True, axis="x", alpha=0.3)
    for row in range(1, len(operations)):
        axes.axhline(row - 0.5, color="#cccccc", linewidth=0.5)
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    return _finish(figure, name, title)


def _shares(cells: Sequence[Cell]) -> Drawing:
    """A bar for each route, as long as the unit of work takes, in parts by reason."""
    totals: dict[str, float] = {}
    for cell in cells:
        for share in cell.shares:
            totals[share.reason] = totals.get(share.reason, 0) + share.nanoseconds
    named = sorted(totals, key=lambda reason: -totals[reason])[:_PARTS]
    title = "a unit of work: where the host's time goes"
    figure = Figure(figsize=(_WIDTH, 1.6 + 0.5 * len(cells)), layout="constrained")
    axes = figure.add_subplot()
    begins = [0.0] * len(cells)
    for number, reason in enumerate([*named, _OTHERS]):
        widths = [
            sum(
                share.nanoseconds
                for share in cell.shares
                if share.reason == reason or (reason == _OTHERS and share.reason not in named)
            )
            / 1e6
            for cell in cells
        ]
        axes.barh(
            range(len(cells)), widths, left=begins, label=reason, color=matplotlib.colormaps["tab10"](number)
        )
        begins = [begin + width for begin, width in zip(begins, widths, strict=True)]
    axes.set_yticks(range(len(cells)), [cell.route for cell in cells])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds, with what it takes to time each exit")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return _finish(figure, "work", title)


def _curves(results: Results) -> Drawing:
    """A small plot for each curve, both axes logarithmic, with a line for a cost in proportion to the size.

    What one piece of many costs then stays the same, and what a thing of the size costs grows with it.
    """
    curves = [curve for curve in CURVES if any(point.curve == curve.name for point in results.curves)]
    rows = -(-len(curves) // 2)
    title = "when there is more and more of it"
    figure = Figure(figsize=(_WIDTH, 2.7 * rows), layout="constrained")
    for number, curve in enumerate(curves):
        axes = figure.add_subplot(rows, 2, number + 1)
        points = sorted(
            (point for point in results.curves if point.curve == curve.name), key=lambda point: point.size
        )
        spreads = [point.time for point in points]
        sizes = [point.size for point in points]
        middles = [each.middle / 1e3 for each in spreads]
        begin = 0 if curve.builds else middles.index(max(middles[:2]))  # one domain has nothing to switch
        line = [middles[begin] * (size / sizes[begin] if curve.builds else 1) for size in sizes]
        axes.plot(sizes, line, linestyle="--", color="#888888", label="in proportion")
        axes.plot(sizes, middles, marker="o", color="#1f5fb4", label="measured")
        axes.fill_between(
            sizes, [each.low / 1e3 for each in spreads], [each.high / 1e3 for each in spreads], alpha=0.2
        )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_ylim(min(*middles, *line) / _MARGIN, max(*middles, *line) * _MARGIN)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=7, frameon=False)
        axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=7)
        axes.set_title(curve.title, fontsize=9)
        axes.set_xlabel(curve.axis)
        axes.set_ylabel(f"µs a {curve.unit}")
        axes.grid(True, alpha=0.3)
    return _finish(figure, "curves", title)


def _reference(results: Results) -> Drawing:
    """A bar for each guest that ran on both: right of 1, pvemu is faster."""
    rows: list[tuple[str, float]] = []
    for row in results.reference:
        cell = results.cell(row.operation, row.route)
        if cell is not None and cell.samples and row.samples:
            rows.append(
                (f"{title_of(row.operation)}, {row.route}", spread(row.samples).middle / cell.time.middle)
            )
    title = "how many times as fast as the reference"
    figure = Figure(figsize=(_WIDTH, 1.2 + 0.22 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    colours = ["#2e7d1b" if value >= 1 else "#d62728" for _, value in rows]
    axes.barh(range(len(rows)), [value for _, value in rows], color=colours)
    axes.axvline(1, color="#444444")
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_title(title)
    return _finish(figure, "reference", title)


def _finish(figure: Any, name: str, title: str) -> Drawing:
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", dpi=110)
    lines = (line.rstrip() for line in svg.getvalue().splitlines())
    return Drawing(name, title, "\n".join(lines) + "\n", png.getvalue())
