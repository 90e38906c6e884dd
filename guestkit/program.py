"""The program between reading and layout: sections of fragments, and the places that these stand at."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from guestkit.source import Line

if TYPE_CHECKING:
    from guestkit.evaluator import Evaluator

PAGE = 4096
LARGEST_IMAGE = 64 << 20
"""Bytes of memory that all sections together may take."""


@dataclass(eq=False)
class Section:
    """A section: ``flags`` are of "rwx", ``alignment`` in bytes; address and size are set by the layout."""

    name: str
    flags: str
    alignment: int
    fragments: "list[Fragment]" = field(default_factory=list)
    address: int = 0
    size: int = 0
    run: int = 0
    """Number of the present run: fragments behind each other whose sizes can't change any more."""
    run_offset: int = 0

    def append(self, fragment: "Fragment") -> None:
        """Add a fragment at the end."""
        fragment.run, fragment.run_offset = self.run, self.run_offset
        self.fragments.append(fragment)
        if fragment.is_fixed:
            self.run_offset += fragment.size
        else:
            self.run, self.run_offset = self.run + 1, 0

    @property
    def has_bytes(self) -> bool:
        """Whether the section is in the file; a .bss is memory only, which the loader fills with zeros."""
        return not self.name.startswith(".bss")

    @property
    def is_code(self) -> bool:
        """Whether instructions are expected in it."""
        return "x" in self.flags


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """What an expression's meaning depends on: where it stands, and the label that local names belong to."""

    section: Section
    anchor: "Fragment | None"
    """The first fragment of the statement, of which ``$`` is the address; None while lines are still read."""
    scope: str
    bits: int
    line: Line

    @property
    def word(self) -> int:
        """Bytes of a guest's long in code of this width."""
        return self.bits // 8

    @property
    def here(self) -> int:
        """The address of the statement, provisional until the layout is done."""
        return self.section.address + (self.anchor.offset if self.anchor else 0)


class Fragment:
    """A piece of a section, made by one statement.

    ``offset`` (in the section) and ``size`` are in bytes. All three methods raise Mistake.
    """

    place: Place
    offset: int = 0
    size: int = 0
    is_fixed: bool = False
    """Whether the size is final when the fragment is made: distances across it are then known at once."""
    run: int = 0
    run_offset: int = 0
    """Where in which run of fixed fragments it begins."""

    def settle(self, evaluator: "Evaluator") -> None:
        """Fix everything that needs only known numbers; called once, when every symbol is defined."""

    def resize(self, evaluator: "Evaluator") -> None:
        """Set ``size`` anew from provisional addresses; called until no size changes."""

    def emit(self, evaluator: "Evaluator") -> bytes:
        """Return the final bytes, ``size`` of them."""
        return b""


class Mark(Fragment):
    """A position without bytes: where a label is."""

    is_fixed = True
