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
from guestkit.multiboot import MultibootHeader
from guestkit.notes import entry_address
from guestkit.program import PAGE
from guestkit.syntax import Directive, Expression, Hypercall, Name, Number, Text
from guestkit.target import TARGETS, Target
from guestkit.vocabulary import constants, structures


def guest(assembly: Assembly, directive: Directive) -> None:
    """Take the options of the guest, which hold for the whole program."""
    if assembly.guest is not None:
        line = assembly.guest.place.line
        raise Mistake(f"the guest is already described at {line.filename}:{line.number}", directive.column)
    options = _checked_options(directive)
    (name,) = directive.values
    assert isinstance(name, Text)
    target = _chosen_target(assembly, options, directive)
    assembly.bits, assembly.evaluator.target = target.bits, target
    no_base = is_none(options.get("virt_base"))
    virt_base = _number(assembly, options, "virt_base", 0 if no_base else DEFAULT_VIRT_BASE[target])
    notes = default_notes(name, target) | {"virt_base": Number(virt_base, directive.column)}
    for key, value in options.items():
        if key in NOTE_KEYS:
            notes[key] = value
    notes = {key: value for key, value in notes.items() if not is_none(value)}
    assembly.guest = guest = GuestInfo(
        target,
        virt_base,
        _number(assembly, options, "paddr", DEFAULT_PADDR),
        _number(assembly, options, "paddr_offset", 0),
        assembly.place(),
        directive.column,
        notes,
        wants_hypercall_page=not is_none(options.get("hypercall_page")),
        wants_entry=not is_none(options.get("entry")),
        wants_phys32_entry=target.is_hvm and not is_none(options.get("phys32_entry")),
    )
    if target.is_hvm and not is_none(options.get("multiboot")):
        _add_multiboot_header(assembly, guest)


def _chosen_target(assembly: Assembly, options: dict[str, Expression], directive: Directive) -> Target:
    """Return what the guest is for: what it says itself, or what was asked for, or PV."""
    asked, declared = assembly.asked_target, _declared_target(options)
    target = declared or asked
    if asked and declared and asked is not declared:
        raise Mistake(f"this guest is for {declared.word} alone, not for {asked.word}", directive.column)
    bits = _number(assembly, options, "bits", target.bits if target else assembly.bits)
    if bits not in (32, 64):
        raise Mistake(f"a guest has 32 or 64 bits, not {bits}", directive.column)
    target = target or TARGETS[f"pv{bits}"]
    if bits != target.bits:
        raise Mistake(f"{target.word} has {target.bits} bits, not {bits}", options["bits"].column)
    if "multiboot" in options and not target.is_hvm:
        raise Mistake(f"{target.word} has no Multiboot header", options["multiboot"].column)
    return target


def _declared_target(options: dict[str, Expression]) -> Target | None:
    value = options.get("target")
    if value is None:
        return None
    target = TARGETS.get(value.name) if isinstance(value, Name) else None
    if target is None:
        raise Mistake(f"the option target is one of {', '.join(TARGETS)}", value.column)
    return target


def _add_multiboot_header(assembly: Assembly, guest: GuestInfo) -> None:
    text = assembly.sections[".text"]
    if text.fragments:
        raise Mistake(
            "the guest line stands before the code of an HVM guest, which begins with its Multiboot header;"
            " move it up, or leave the header out with multiboot=none",
            guest.column,
        )
    header = MultibootHeader(guest, assembly.sections.values(), assembly.end, lambda: entry_address(assembly))
    current, assembly.section = assembly.section, text
    assembly.add(header)
    assembly.section = current


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
        if option.name == "multiboot" and not is_none(option.value):
            raise Mistake("the option multiboot is none or left out", option.value.column)
        if not is_none(option.value) and option.name != "target":
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
    assembly.route.is_used = True
    assembly.add(HypercallCode(statement, assembly.route))


def trap_table(assembly: Assembly, directive: Directive) -> None:
    """Begin a table of traps: an array of struct trap_info, aligned as a C compiler would."""
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
