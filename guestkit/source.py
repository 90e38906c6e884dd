"""Where a line of source text comes from: its file and number, and the macros and files that led to it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """One step that led to a line: the line that called a macro, repeated a block or included a file."""

    what: str
    """For example "in expansion of save_all"."""
    line: "Line"


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it is assembled, that is, with macro parameters already replaced."""

    text: str
    filename: str
    number: int
    origin: Step | None = None
    folder: Path | None = None
    """Where files that this line includes are looked for first; None for text that is in no file."""

    def trail(self) -> Iterator[str]:
        """Say how the line came to be read, the nearest step first; of a long recursion only both ends."""
        steps = []
        step = self.origin
        while step is not None:
            steps.append(f"{step.what} at {step.line.filename}:{step.line.number}")
            step = step.line.origin
        if len(steps) > 8:
            steps[5:-2] = [f"... {len(steps) - 7} more ..."]
        yield from steps

    def depth(self) -> int:
        """Return the number of macros, repetitions and included files around this line."""
        count, step = 0, self.origin
        while step is not None:
            count, step = count + 1, step.line.origin
        return count

    def with_text(self, text: str, origin: Step | None) -> "Line":
        """Return the same place with other text, reached by another way."""
        return replace(self, text=text, origin=origin)


def split_lines(text: str, filename: str, folder: Path | None, origin: Step | None) -> list[Line]:
    """Return the lines of a file; only line feeds (and a carriage return before one) end a line."""
    rows = text.split("\n")
    if rows and not rows[-1]:
        rows.pop()
    return [
        Line(row.removesuffix("\r"), filename, number, origin, folder)
        for number, row in enumerate(rows, start=1)
    ]
