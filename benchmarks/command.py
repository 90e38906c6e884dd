"""What `pvemu bench` does: it measures and shows, or compares two runs, or makes a report of one."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import tables
from benchmarks.compare import difference_table, differences, movement_table, movements
from benchmarks.costs import Profile, profile_names, read_profile
from benchmarks.ladder import Operation
from benchmarks.reference import measure_reference
from benchmarks.results import Cell, Results, read_results
from benchmarks.scaling import CURVES
from benchmarks.session import OPERATIONS, Settings, measure
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.screen import Screen

#: Exit status of a comparison: exact figures differ.
DIFFERENT: Final = 1
_UNVERIFIED: Final = "* numbers of this profile were not all checked against their source"


@dataclass(frozen=True)
class Outputs:
    """Where results go besides the terminal.

    Attributes:
        json: a file for all of it, None for none; html, figures: a report and a folder for its plots.
        profile: the name of a cost profile; None: no modelled cycles.
    """

    json: Path | None = None
    html: Path | None = None
    figures: Path | None = None
    profile: str | None = None


def run(names: Sequence[str], settings: Settings, outputs: Outputs, reference: str | None) -> int:
    """Measure, show and write; the exit status.

    Raises:
        PvemuError: a name means nothing, a file can't be written, the reference does not run.
    """
    _check(outputs)
    profile = None if outputs.profile is None else read_profile(outputs.profile)
    console = Screen(highlight=False)
    with Display(console, profile) as display:
        results = measure(names, settings, display)
    if results.curves:
        console.print(tables.curves_table(results))
    for note in results.notes:
        console.print(f"not measured: {note}", markup=False)
    if reference is not None:
        results.reference += measure_reference(reference, results, console)
        console.print(tables.reference_table(results))
    if profile is not None and not profile.is_verified:
        console.print(_UNVERIFIED)
    write(results, outputs)
    return 0


def write(results: Results, outputs: Outputs) -> None:
    """Write the files that are asked for."""
    if outputs.json is not None:
        _write(outputs.json, results.to_json())
    if outputs.html is not None or outputs.figures is not None:
        from benchmarks.plots import draw_all
        from benchmarks.report import html_report

        drawings = draw_all(results)
        if outputs.figures is not None:
            outputs.figures.mkdir(parents=True, exist_ok=True)
            for drawing in drawings:
                drawing.save(outputs.figures)
        if outputs.html is not None:
            _write(outputs.html, html_report(results, drawings))


def report(path: Path, outputs: Outputs) -> int:
    """Make the files of a run that was measured before."""
    _check(outputs)
    write(read_results(path), outputs)
    return 0


def compare(first: Path, second: Path) -> int:
    """Show two runs beside each other; the exit status says whether exact figures differ."""
    results = read_results(first), read_results(second)
    console = Screen(highlight=False)
    moved = movements(*results)
    if moved:
        console.print(movement_table(moved))
    found = differences(*results)
    if found:
        console.print(difference_table(found))
        return DIFFERENT
    console.print("Exits, hypercalls and instructions are the same in both.")
    return 0


def list_names() -> int:
    """Show what can be measured."""
    console = Screen(highlight=False)
    table = Table("name", "what", "routes")
    for operation in OPERATIONS:
        table.add_row(operation.name, operation.title, " ".join(route.value for route in operation.routes))
    for curve in CURVES:
        table.add_row(curve.name, curve.title, f"a curve over {curve.axis}")
    console.print(table)
    console.print(f"cost profiles: {', '.join(profile_names())}")
    return 0


class Display:
    """The terminal while a run goes on: a bar, and each operation's table as soon as it is there."""

    def __init__(self, console: Screen, profile: Profile | None) -> None:
        self._console, self._profile = console, profile
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._shown = self._progress if console.is_terminal else nullcontext()
        self._task: TaskID | None = None

    def __enter__(self) -> "Display":
        self._shown.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._shown.__exit__(None, None, None)

    def begin(self, steps: int) -> None:
        """There are so many steps to come."""
        self._task = self._progress.add_task("", total=steps)

    def step(self, what: str) -> None:
        """The next step is made."""
        assert self._task is not None
        self._progress.update(self._task, advance=1, description=what)

    def finished(self, operation: Operation, cells: Sequence[Cell], results: Results) -> None:
        """Show an operation's table."""
        self._console.print(tables.operation_table(cells, results, self._profile))
        for cell in cells:
            if cell.shares:
                self._console.print(tables.shares_table(cell))


def _check(outputs: Outputs) -> None:
    """What can't be done is said before everything is measured."""
    for path in (outputs.json, outputs.html):
        if path is not None and not path.absolute().parent.is_dir():
            raise PvemuError(f"there is no folder {path.absolute().parent}: make it, or write elsewhere")
    if outputs.html is not None or outputs.figures is not None:
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise PvemuError("plots need matplotlib: pip install 'pvemu[bench]'") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise PvemuError(f"{path} can't be written ({error.strerror}): give another name") from error
