"""Reads a program: unfolds its lines, parses each and runs its statement, and completes what is left open."""

import re
from collections.abc import Sequence

from guestkit.assembly import Assembly
from guestkit.errors import Fatal, Mistake
from guestkit.evaluator import Stage
from guestkit.expander import Expander
from guestkit.fragments import Alignment, FixedBytes
from guestkit.parser import parse_field, parse_line
from guestkit.program import PAGE, Place
from guestkit.source import Line
from guestkit.statements.structure import add_field
from guestkit.statements.table import run
from guestkit.symbols import ConstantSymbol, LabelSymbol
from guestkit.syntax import Name, Parsed

HYPERCALL_PAGE = "hypercall_page"
_LABEL = re.compile(r"[ \t]*([A-Za-z_.][\w.@]*)[ \t]*:")
_END = "_end"
_TRAP = b"\xcc"
"""What the hypercall page holds until Xen fills it: a call too early should be seen."""


def read(assembly: Assembly, lines: Sequence[Line]) -> None:
    """Read all lines into the assembly, where mistakes are reported."""

    def report(mistake: Mistake, line: Line) -> None:
        assembly.is_incomplete = True
        assembly.report(mistake, line)

    expander = Expander(assembly.evaluator, assembly.macros, assembly.place, report, assembly.include_paths)
    try:
        for line in expander.expand(lines):
            assembly.next_line(line)
            _read_line(assembly, line)
    except Fatal as mistake:
        report(mistake, assembly.line)
    _check_closed(assembly)
    _add_end(assembly)
    _add_hypercall_page(assembly)
    assembly.evaluator.stage = Stage.SIZING
    _check_constants(assembly)


def _read_line(assembly: Assembly, line: Line) -> None:
    try:
        if assembly.structure is not None and line.text.split(";")[0].strip().lower() != "endstruct":
            field = parse_field(line.text)
            if field is not None:
                add_field(assembly, field)
            return
        parsed = _parse(assembly, line)
        for label in parsed.labels:
            assembly.label(label.name, label.column)
        if parsed.statement is not None:
            run(assembly, parsed.statement)
    except Fatal:
        raise
    except Mistake as mistake:
        assembly.report(mistake, line)


def _parse(assembly: Assembly, line: Line) -> Parsed:
    """Parse a line; of a malformed one the labels are kept, lest everything that uses them is wrong too."""
    try:
        return parse_line(line.text)
    except Mistake:
        match = _LABEL.match(line.text)
        while match is not None:
            assembly.label(match[1], match.start(1) + 1)
            match = _LABEL.match(line.text, match.end())
        raise


def _check_closed(assembly: Assembly) -> None:
    for opened, end in ((assembly.structure, "endstruct"), (assembly.trap_table, "end")):
        if opened is not None:
            assembly.report(Mistake(f"what begins here has no {end}"), opened.line)


def _add_end(assembly: Assembly) -> None:
    """Define the symbol of the end of the image, unless the program has its own."""
    if assembly.symbols.get(_END) is None:
        place = Place(assembly.end, None, "", assembly.bits, assembly.line)
        assembly.symbols.define(_END, LabelSymbol(place), None)


def _add_hypercall_page(assembly: Assembly) -> None:
    """Add the hypercall page when the guest needs one, and decide how hypercalls are made."""
    guest = assembly.guest
    exists = assembly.symbols.get(HYPERCALL_PAGE) is not None
    if guest is None:
        assembly.route.page = Name(HYPERCALL_PAGE, 1) if exists else None
        return
    if guest.target.is_hvm and not assembly.route.is_used:
        return
    if not guest.wants_hypercall_page:
        if guest.target.is_hvm:
            mistake = Mistake("an HVM guest makes hypercalls through its page only", guest.column)
            assembly.report(mistake, guest.place.line)
        return
    if HYPERCALL_PAGE not in guest.notes:
        if not exists:
            assembly.open_section(".text", None, PAGE)
            line = guest.place.line
            assembly.next_line(line.with_text("; up to the next page", line.origin))
            assembly.add(Alignment(PAGE, None))
            assembly.next_line(
                line.with_text(f"{HYPERCALL_PAGE}: ; made for the guest; Xen fills it", line.origin)
            )
            assembly.label(HYPERCALL_PAGE, guest.column)
            assembly.add(FixedBytes(_TRAP * PAGE))
        guest.notes[HYPERCALL_PAGE] = Name(HYPERCALL_PAGE, guest.column)
    assembly.route.page = guest.notes[HYPERCALL_PAGE]


def _check_constants(assembly: Assembly) -> None:
    """Evaluate every constant once, so that a mistake in one that is never used is told as well."""
    for name, symbol in assembly.symbols.items():
        if isinstance(symbol, ConstantSymbol):
            try:
                assembly.evaluator.evaluate(Name(name, 1), symbol.place)
            except Mistake as mistake:
                assembly.report(mistake, symbol.place.line)
