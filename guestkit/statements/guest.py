"""Statements that make the program a Xen guest: guest, note, hypercall and trap tables."""

from guestkit.assembly import Assembly, OpenTrapTable
from guestkit.errors import Mistake
from guestkit.fragments import Alignment, Data, FixedBytes
from guestkit.guestinfo import (
    DEFAULT_PADDR,
    DEFAULT_VIRT_BASE,
    NOTE_KEYS,
    PLAIN_KEYS,
    GuestInfo,
    NoteKind,
    default_notes,
    is_none,
)
from guestkit.hypercalls import HypercallCode
from guestkit.program import PAGE
from guestkit.syntax import Directive, Expression, Hypercall, Number, Text
from guestkit.vocabulary import constants, structures


def guest(assembly: Assembly, directive: Directive) -> None:
    """Take the options of the guest, which hold for the whole program."""
    if assembly.guest is not None:
        line = assembly.guest.place.line
        raise Mistake(f"the guest is already described at {line.filename}:{line.number}", directive.column)
    options = _checked_options(directive)
    (name,) = directive.values
    assert isinstance(name, Text)
    bits = _number(assembly, options, "bits", assembly.bits)
    if bits not in (32, 64):
        raise Mistake(f"a guest has 32 or 64 bits, not {bits}", directive.column)
    assembly.bits = bits
    no_base = is_none(options.get("virt_base"))
    virt_base = _number(assembly, options, "virt_base", 0 if no_base else DEFAULT_VIRT_BASE[bits])
    notes = default_notes(name, bits, virt_base) | {"virt_base": Number(virt_base, directive.column)}
    for key, value in options.items():
        if key in NOTE_KEYS:
            notes[key] = value
    notes = {key: value for key, value in notes.items() if not is_none(value)}
    assembly.guest = GuestInfo(
        bits,
        virt_base,
        _number(assembly, options, "paddr", DEFAULT_PADDR),
        _number(assembly, options, "paddr_offset", 0),
        assembly.place(),
        directive.column,
        notes,
        wants_hypercall_page=not is_none(options.get("hypercall_page")),
        wants_entry=not is_none(options.get("entry")),
    )


def _checked_options(directive: Directive) -> dict[str, Expression]:
    options: dict[str, Expression] = {}
    for option in directive.options:
        if option.name not in NOTE_KEYS and option.name not in PLAIN_KEYS:
            known = ", ".join([*PLAIN_KEYS, *NOTE_KEYS])
            raise Mistake(f"a guest has no option {option.name}; it has {known}", option.column)
        if option.name in options:
            raise Mistake(f"the option {option.name} is given twice", option.column)
        assert option.value is not None
        is_text = isinstance(option.value, Text)
        if not is_none(option.value):
            wants_text = option.name in NOTE_KEYS and NOTE_KEYS[option.name].kind is NoteKind.STRING
            if wants_text != is_text:
                kind = "a string" if wants_text else "a number"
                raise Mistake(f"the option {option.name} is {kind} or none", option.value.column)
        options[option.name] = option.value
    return options


def _number(assembly: Assembly, options: dict[str, Expression], key: str, default: int) -> int:
    expression = options.get(key)
    if expression is None or is_none(expression):
        return default
    number = assembly.evaluator.constant(expression, assembly.place(), f"the option {key}")
    if key == "paddr" and number % PAGE:
        raise Mistake(f"paddr is a multiple of {PAGE}", expression.column)
    if not 0 <= number < 1 << 64:
        raise Mistake(f"the option {key} is an address", expression.column)
    return number


def note(assembly: Assembly, directive: Directive) -> None:
    """Add a note of any number."""
    assembly.notes.append((directive, assembly.place()))


def hypercall(assembly: Assembly, statement: Hypercall) -> None:
    """Add the code of a hypercall."""
    assembly.add(HypercallCode(statement, assembly.route))


def trap_table(assembly: Assembly, directive: Directive) -> None:
    """Begin a table of traps: an array of struct trap_info, aligned as a C compiler would."""
    if assembly.trap_table is not None:
        raise Mistake("a trap table can't begin inside another; close that with end", directive.column)
    if not assembly.section.has_bytes:
        raise Mistake(f"{assembly.section.name} is memory without contents", directive.column)
    alignment = structures()["trap_info"].alignment(assembly.place().word)
    assembly.section.alignment = max(assembly.section.alignment, alignment)
    assembly.trap_table = OpenTrapTable(assembly.line)
    assembly.add(Alignment(alignment, None))
    assembly.label(directive.name, directive.name_column)


def trap(assembly: Assembly, directive: Directive) -> None:
    """Add a vector to the table."""
    table = assembly.trap_table
    if table is None:
        raise Mistake("trap stands between trap_table NAME and end", directive.column)
    vector_expression, handler = directive.values
    assert vector_expression is not None and handler is not None
    vector = assembly.evaluator.constant(vector_expression, assembly.place(), "a vector")
    if not 0 <= vector <= 255:
        raise Mistake(f"a vector is 0 to 255, not {vector}", vector_expression.column)
    if vector in table.vectors:
        raise Mistake(f"vector {vector} is in this table already", vector_expression.column)
    flags = _trap_flags(assembly, directive)
    table.vectors.add(vector)
    place = assembly.place()
    structure = structures()["trap_info"]
    selector = constants(place.word)["FLAT_KERNEL_CS"]
    head = structure.pack(place.word, vector=vector, flags=flags, cs=selector)
    assembly.add(FixedBytes(head[: structure.offset("address", place.word)]))
    assembly.add(Data(place.word, [handler]))


def _trap_flags(assembly: Assembly, directive: Directive) -> int:
    flags = 0
    for option in directive.options:
        if option.name == "dpl" and option.value is not None:
            level = assembly.evaluator.constant(option.value, assembly.place(), "dpl")
            if not 0 <= level <= 3:
                raise Mistake(f"dpl is 0 to 3, not {level}", option.value.column)
            flags |= level
        elif option.name == "mask" and option.value is None:
            flags |= constants()["TI_IF"]
        else:
            raise Mistake("a trap has the options dpl=N and mask", option.column)
    return flags


def end(assembly: Assembly, directive: Directive) -> None:
    """End the table of traps with the entry of zeros that tells Xen so."""
    if assembly.trap_table is None:
        raise Mistake("this end has no trap_table above it", directive.column)
    assembly.trap_table = None
    assembly.add(FixedBytes(bytes(structures()["trap_info"].size(assembly.place().word))))
