"""What is said about a wrong source text: problems with their places, and the error that carries them."""

from collections.abc import Sequence
from dataclasses import dataclass

from guestkit.source import Line
from pvemu.abi.errors import PvemuError


class Mistake(Exception):
    """One mistake in the line at hand, on its way to the loop that knows which line that is.

    ``column`` counts from 1 and is None when the whole line is meant; ``line`` is set when the mistake is in
    another line than the one at hand, for example in the definition of a constant that is used here.
    """

    def __init__(self, message: str, column: int | None = None, line: Line | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.column = column
        self.line = line


class Fatal(Mistake):
    """A mistake after which reading on makes no sense, such as a limit that is exceeded."""


@dataclass(frozen=True)
class Problem:
    """A mistake with its place: a line of a file and, when known, the column (from 1) where it begins."""

    message: str
    line: Line
    column: int | None

    @property
    def headline(self) -> str:
        """Return ``file:line:column: message``, as compilers have it; what is not known is left out."""
        place = self.line.filename
        if self.line.number:
            place += f":{self.line.number}"
        if self.column is not None:
            place += f":{self.column}"
        return f"{place}: {self.message}"

    def order(self) -> list[int]:
        """Return a key that sorts problems as they come in the text, expanded macros in their place."""
        numbers = [self.column or 0, self.line.number]
        step = self.line.origin
        while step is not None:
            numbers.append(step.line.number)
            step = step.line.origin
        return numbers[::-1]

    def __str__(self) -> str:
        """Return the headline, the source line with a caret, and the way through macros and files to it."""
        parts = [self.headline]
        text = self.line.text.rstrip()
        if text.strip():
            shown, column = _window(text, self.column)
            parts.append(f"    {shown}")
            if column is not None:
                # A tab before the caret stays a tab, so that both lines are as wide on any terminal.
                gap = "".join("\t" if char == "\t" else " " for char in shown[: column - 1])
                parts.append(f"    {gap.ljust(column - 1)}^")
        parts.extend(f"  {step}" for step in self.line.trail())
        return "\n".join(parts)


class AssemblyError(PvemuError):
    """The source text can't be assembled; ``problems`` has every mistake found, in the order of the text."""

    def __init__(self, problems: Sequence[Problem], unsaid: int = 0) -> None:
        self.problems = tuple(problems)
        parts = [str(problem) for problem in self.problems]
        if unsaid:
            parts.append(f"and {unsaid} more; correct these first")
        super().__init__("\n".join(parts))


_WIDTH = 100


def _window(text: str, column: int | None) -> tuple[str, int | None]:
    """Cut a long line to what stands around the column; return it with the column in what is left."""
    if len(text) <= _WIDTH:
        return text, column
    start = max(0, (column or 1) - _WIDTH // 2)
    cut = text[start : start + _WIDTH]
    before, after = "..." if start else "", "..." if start + _WIDTH < len(text) else ""
    return before + cut + after, None if column is None else column - start + len(before)
