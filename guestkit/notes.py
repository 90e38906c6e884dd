"""Makes the ELF notes by which a kernel tells Xen how it wants to be loaded."""

import struct

from guestkit.assembly import Assembly
from guestkit.errors import Mistake
from guestkit.fragments import pack
from guestkit.guestinfo import NOTE_KEYS, NoteKind
from guestkit.program import Place
from guestkit.symbols import LabelSymbol
from guestkit.syntax import Directive, Expression, Name, Text

_OWNER = b"Xen\0"
_START = "start"


def build_notes(assembly: Assembly) -> bytes:
    """Return the contents of the note segment; mistakes are reported."""
    parts = []
    guest = assembly.guest
    if guest is not None:
        for key, row in NOTE_KEYS.items():
            expression = guest.notes.get(key)
            if key == "entry" and expression is None and assembly.symbols.get(_START) and guest.wants_entry:
                expression = Name(_START, guest.column)
            if expression is None:
                continue
            try:
                parts.append(
                    _note(row.number, _value(assembly, expression, guest.place, row.kind, guest.bits))
                )
            except Mistake as mistake:
                assembly.report(mistake, guest.place.line)
    for directive, place in assembly.notes:
        try:
            parts.append(_written_note(assembly, directive, place))
        except Mistake as mistake:
            assembly.report(mistake, place.line)
    return b"".join(parts)


def entry_address(assembly: Assembly) -> int:
    """Return where execution begins: the entry of the guest, the label start, or the first byte of code."""
    guest = assembly.guest
    expression = guest.notes.get("entry") if guest else None
    if guest is not None and expression is not None:
        return assembly.evaluator.number(expression, guest.place)
    symbol = assembly.symbols.get(_START)
    if isinstance(symbol, LabelSymbol):
        return symbol.place.here
    if guest is not None and guest.wants_entry:
        raise Mistake(
            "a guest begins at the label start; define it, or name another with entry=LABEL", guest.column
        )
    return assembly.sections[".text"].address


def _value(assembly: Assembly, expression: Expression, place: Place, kind: NoteKind, bits: int) -> bytes:
    if kind is NoteKind.STRING:
        assert isinstance(expression, Text)
        return expression.data + b"\0"
    return pack(assembly.evaluator.number(expression, place), bits // 8, expression.column)


def _written_note(assembly: Assembly, directive: Directive, place: Place) -> bytes:
    """Return a note of the note statement; its numbers are as wide as the words of the code."""
    number, *items = directive.values
    assert number is not None
    contents = b"".join(
        _value(
            assembly, item, place, NoteKind.STRING if isinstance(item, Text) else NoteKind.NUMBER, place.bits
        )
        for item in items
        if item is not None
    )
    number_value = assembly.evaluator.number(number, place)
    if not 0 <= number_value < 1 << 32:
        raise Mistake(f"the number of a note has 32 bits, {number_value:#x} does not", number.column)
    return _note(number_value, contents)


def _note(number: int, contents: bytes) -> bytes:
    head = struct.pack("<III", len(_OWNER), len(contents), number)
    return head + _OWNER + contents + bytes(-len(contents) % 4)
