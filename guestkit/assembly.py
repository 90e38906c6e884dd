"""The state of one assembly while its lines are read: sections, symbols, macros, and what is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guestkit.errors import AssemblyError, Fatal, Mistake, Problem
from guestkit.evaluator import Evaluator
from guestkit.guestinfo import GuestInfo
from guestkit.hypercalls import Route
from guestkit.macros import Macro
from guestkit.program import Fragment, Mark, Place, Section
from guestkit.source import Line
from guestkit.structures import UserStructure
from guestkit.symbols import GivenSymbol, LabelSymbol, SymbolTable
from guestkit.syntax import Directive
from guestkit.target import Target

_MOST_PROBLEMS = 10
_MOST_UNSAID = 500
_MOST_FRAGMENTS = 1 << 19

_DEFAULT_FLAGS = (
    (".text", "rx"),
    (".rodata", "r"),
    (".data", "rw"),
    (".bss", "rw"),
)
_CODE_ALIGNMENT, _DATA_ALIGNMENT = 16, 8


@dataclass
class OpenStructure:
    """A structure between struct and endstruct."""

    structure: UserStructure
    line: Line


@dataclass
class OpenTrapTable:
    """A trap table between trap_table and end, with the vectors it has so far."""

    line: Line
    vectors: set[int] = field(default_factory=set)


class Assembly:
    """Everything that the statements read so far have said."""

    def __init__(
        self, include_paths: Sequence[Path], defines: Mapping[str, int], target: Target | None = None
    ) -> None:
        self.include_paths = include_paths
        self.symbols = SymbolTable()
        self.macros: dict[str, Macro] = {}
        self.evaluator = Evaluator(self.symbols, self.macros)
        self.sections: dict[str, Section] = {}
        self.asked_target = self.evaluator.target = target
        self.bits = target.bits if target else 32
        self.scope = ""
        self.line = Line("", "<start>", 0)
        self.guest: GuestInfo | None = None
        self.route = Route()
        self.notes: list[tuple[Directive, Place]] = []
        self.structure: OpenStructure | None = None
        self.trap_table: OpenTrapTable | None = None
        self.listed: list[tuple[Line, list[Fragment]]] = [(self.line, [])]
        self.warnings: list[Problem] = []
        self.problems: list[Problem] = []
        self.is_incomplete = False
        """Whether lines are missing, so that what is undefined may be defined in them."""
        self._unsaid = 0
        self._fragments = 0
        # What follows goes into the one, "section previous" returns to the other.
        self.section = self.previous = Section(".text", "rx", _CODE_ALIGNMENT)
        self.sections[".text"] = self.section
        self.end = Section("", "", 1)
        """Stands behind all sections and holds nothing but the symbol of the image's end."""
        for name, number in defines.items():
            self._define(name, number)

    def _define(self, name: str, number: int) -> None:
        line = Line("", "<definitions>", 0)
        try:
            if not name.isidentifier() or not name.isascii():
                raise Mistake(f"{name!r} is no name for a constant")
            self.symbols.define(name, GivenSymbol(number, "outside the program"), None)
        except Mistake as mistake:
            self.report(mistake, line)

    def next_line(self, line: Line) -> None:
        """Go on to a line: what is added from now on is made by it."""
        self.line = line
        self.listed.append((line, []))

    # ---- problems ----

    def report(self, mistake: Mistake, line: Line) -> None:
        """Note a mistake found in a line (or in the line that the mistake itself names).

        Raises AssemblyError when there are so many that the rest can only be worse.
        """
        problem = Problem(mistake.message, mistake.line or line, mistake.column)
        if any(problem.headline == earlier.headline for earlier in self.problems):
            return  # in a repetition, say
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)
            return
        self._unsaid += 1
        if self._unsaid >= _MOST_UNSAID:
            self.fail_if_wrong()

    def fail_if_wrong(self) -> None:
        """Raise AssemblyError when a mistake was reported."""
        if self.problems:
            raise AssemblyError(sorted(self.problems, key=Problem.order), self._unsaid)

    # ---- places and fragments ----

    def place(self, line: Line | None = None) -> Place:
        """Return the place where the next statement stands, for expressions that are needed at once."""
        return Place(self.section, None, self.scope, self.bits, line or self.line)

    def add(self, fragment: Fragment) -> None:
        """Append a fragment to the section, at the line being read."""
        self._fragments += 1
        if self._fragments > _MOST_FRAGMENTS:
            raise Fatal(f"the program has more than {_MOST_FRAGMENTS} statements")
        fragment.place = Place(self.section, fragment, self.scope, self.bits, self.line)
        self.section.append(fragment)
        self.listed[-1][1].append(fragment)

    def label(self, name: str, column: int | None) -> None:
        """Define a label here; one that is not local begins a new scope of local names."""
        if name.startswith("."):
            if not self.scope:
                raise Mistake(f"there is no label above that {name} could belong to", column)
            name = self.scope + name
        elif "." in name:
            raise Mistake("a label has no dot inside; a local label begins with it", column)
        mark = Mark()
        place = Place(self.section, mark, self.scope, self.bits, self.line)
        self.symbols.define(name, LabelSymbol(place), column)
        self.add(mark)
        if "." not in name and "@" not in name:
            self.scope = name

    def open_section(self, name: str, flags: str | None, alignment: int | None) -> Section:
        """Return the section of that name, made when it is new, and make it the current one."""
        section = self.sections.get(name)
        if section is None:
            default = next((flags for prefix, flags in _DEFAULT_FLAGS if belongs(name, prefix)), "rw")
            flags = flags or default
            section = Section(
                name, flags, alignment or (_CODE_ALIGNMENT if "x" in flags else _DATA_ALIGNMENT)
            )
            self.sections[name] = section
        elif flags is not None and flags != section.flags:
            raise Mistake(f'{name} has the flags "{section.flags}" from its first line; they can\'t change')
        elif alignment is not None:
            section.alignment = max(section.alignment, alignment)
        self.change_section(section)
        return section

    def change_section(self, section: Section) -> None:
        """Make a section the current one."""
        self.previous, self.section = self.section, section


def belongs(name: str, prefix: str) -> bool:
    """Whether a section is of the family of another: .text.start is of .text."""
    return name == prefix or name.startswith(f"{prefix}.")
