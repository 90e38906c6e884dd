"""What a run of the benchmark has found, and the file it is kept in: JSON with every raw sample."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.counting import Counts
from benchmarks.timing import Spread, ratios, spread, undisturbed
from pvemu.abi.errors import PvemuError

FORMAT: Final = "pvemu-bench"
VERSION: Final = 1


@dataclass(frozen=True)
class Share:
    """Where a macro-guest's time goes: one reason of an exit, or the rest of the run."""

    reason: str
    count: int
    nanoseconds: int


@dataclass(frozen=True)
class Cell:
    """An operation by a route.

    Attributes:
        absent: why there is no such way; then there are no figures.
        counts: exact figures of one sample.
        samples: nanoseconds of the host's processor for one operation. Those of the same index, of all routes
            of an operation, were taken one after the other.
        shares: where the time of a macro-guest goes.
    """

    operation: str
    route: str
    absent: str | None = None
    counts: Counts | None = None
    samples: list[float] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)

    @property
    def time(self) -> Spread:
        """Nanoseconds of one operation, where nothing disturbed it."""
        return spread(undisturbed(self.samples))


@dataclass(frozen=True)
class Point:
    """A point of a scaling curve: `size` on the x axis, nanoseconds of the host for one piece of work.

    Exits and instructions are of so many operations.
    """

    curve: str
    size: int
    operations: int
    exits: int
    instructions: int
    samples: list[float]

    @property
    def time(self) -> Spread:
        """Nanoseconds of one piece of work, where nothing disturbed it."""
        return spread(undisturbed(self.samples))


@dataclass(frozen=True)
class Reference:
    """What another hypervisor took for a cell's guest: nanoseconds of one operation, by its own clock."""

    operation: str
    route: str
    samples: list[float]


@dataclass
class Results:
    """A whole run.

    Attributes:
        machine, versions: of the computer and of what ran; settings: how it was run, with the seed.
        notes: points of curves that could not be measured, and why.
    """

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    cells: list[Cell] = field(default_factory=list)
    curves: list[Point] = field(default_factory=list)
    reference: list[Reference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def cell(self, operation: str, route: str) -> Cell | None:
        """The cell of that name, if it was measured."""
        found = (cell for cell in self.cells if (cell.operation, cell.route) == (operation, route))
        return next(found, None)

    def ratio(self, cell: Cell, base: str = "native") -> Spread | None:
        """How many times as long as by another route it takes, of undisturbed samples of the same turns."""
        other = self.cell(cell.operation, base)
        if other is None or not other.samples or not cell.samples:
            return None
        return spread(ratios(cell.samples, other.samples))

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n"


def read_results(path: Path) -> Results:
    """Read a file that a run has written.

    Raises:
        PvemuError: it can't be read, or is none.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise PvemuError(
            f"{path} can't be read ({error.strerror}): give a file of `pvemu bench --json`"
        ) from error
    except ValueError as error:
        raise PvemuError(f"{path} is no JSON ({error}): give a file of `pvemu bench --json`") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PvemuError(f"{path} is not from `pvemu bench --json`: give one that is")
    if data.get("version") != VERSION:
        raise PvemuError(
            f"{path} has version {data.get('version')} of the format: make it anew with this pvemu"
        )
    try:
        return _results(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise PvemuError(f"{path} is damaged ({error!r}): make it anew") from error


def _results(data: Mapping[str, Any]) -> Results:
    return Results(
        data["machine"],
        data["versions"],
        data["settings"],
        [_cell(cell) for cell in data["cells"]],
        [Point(**point) for point in data["curves"]],
        [Reference(**reference) for reference in data["reference"]],
        list(data["notes"]),
    )


def _cell(data: Mapping[str, Any]) -> Cell:
    counts = data["counts"]
    shares = [Share(**share) for share in data["shares"]]
    return Cell(**{**data, "counts": None if counts is None else Counts(**counts), "shares": shares})
