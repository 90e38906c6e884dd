"""Makes the ELF notes by which a kernel tells Xen how it wants to be loaded."""

import struct

from guestkit.assembly import Assembly
from guestkit.errors import Mistake
from guestkit.fragments import pack
from guestkit.guestinfo import NOTE_KEYS, UNTOLD_KEYS, GuestInfo, NoteKind
from guestkit.program import Place
from guestkit.symbols import LabelSymbol
from guestkit.syntax import Binary, Directive, Expression, Name, Number, Text

_OWNER = b"Xen\0"
_START = "start"


def build_notes(assembly: Assembly) -> bytes:
    """Return the contents of the note segment; mistakes are reported."""
    parts = []
    guest = assembly.guest
    if guest is not None:
        for key, row in NOTE_KEYS.items():
            expression = guest.notes.get(key) or _default(assembly, guest, key)
            if expression is None or (guest.target.is_hvm and key in UNTOLD_KEYS):
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


def _default(assembly: Assembly, guest: GuestInfo, key: str) -> Expression | None:
    """Return what a note holds that comes from the program's labels; None when there is no such note."""
    if key == "entry" and guest.wants_entry and assembly.symbols.get(_START):
        return Name(_START, guest.column)
    if key == "phys32_entry" and guest.wants_phys32_entry:
        entry = guest.notes.get("entry") or _default(assembly, guest, "entry")
        offset = Number(guest.physical_offset, guest.column)
        return Binary("-", entry, offset, guest.column, entry.depth + 1) if entry is not None else None
    return None


def file_entry(assembly: Assembly) -> int:
    """Return where the file says that execution begins: physical for HVM, which is entered without paging."""
    guest = assembly.guest
    return entry_address(assembly) - (guest.physical_offset if guest and guest.target.is_hvm else 0)


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
