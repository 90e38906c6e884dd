"""The table of all statements, and how a line's statement is run."""

from collections.abc import Callable

from guestkit.assembly import Assembly
from guestkit.code import Code
from guestkit.errors import Mistake
from guestkit.spelling import closest
from guestkit.statements import data, guest, messages, placement, structure
from guestkit.statements.repeat import times
from guestkit.syntax import Directive, Hypercall, Instruction, Statement
from guestkit.x86.encoder import mnemonics

DIRECTIVES: dict[str, Callable[[Assembly, Directive], None]] = {
    "db": data.numbers,
    "dw": data.numbers,
    "dd": data.numbers,
    "dq": data.numbers,
    "asciz": data.terminated_text,
    "reserve": data.reserve,
    "align": data.align,
    "incbin": data.incbin,
    "bits": placement.bits,
    "section": placement.section,
    "equ": placement.constant,
    "struct": structure.begin,
    "endstruct": structure.end,
    "error": messages.error,
    "warning": messages.warning,
    "guest": guest.guest,
    "note": guest.note,
    "trap_table": guest.trap_table,
    "trap": guest.trap,
    "end": guest.end,
}


def run(assembly: Assembly, statement: Statement) -> None:
    """Do what a statement says; Mistake when it can't be done."""
    if assembly.trap_table is not None and not _belongs_in_trap_table(statement):
        line = assembly.trap_table.line
        raise Mistake(
            f"only traps stand between trap_table and end; the table of line {line.number} is still open",
            statement.column,
        )
    match statement:
        case Instruction():
            if not assembly.section.has_bytes:
                raise Mistake(f"{assembly.section.name} is memory without contents", statement.column)
            _check_mnemonic(assembly, statement)
            assembly.add(Code(statement))
        case Hypercall():
            if not assembly.section.has_bytes:
                raise Mistake(f"{assembly.section.name} is memory without contents", statement.column)
            guest.hypercall(assembly, statement)
        case Directive(keyword="times"):
            times(assembly, statement, lambda body: run(assembly, body))
        case Directive():
            handler = DIRECTIVES.get(statement.keyword)
            if handler is None:
                raise Mistake(
                    f"{statement.keyword} stands on a line of its own, without a label", statement.column
                )
            handler(assembly, statement)


def _check_mnemonic(assembly: Assembly, statement: Instruction) -> None:
    name = statement.mnemonic
    if name.lower() in mnemonics():
        return
    close = closest(name, [*assembly.macros, *DIRECTIVES]) or closest(name.lower(), mnemonics())
    hint = f"did you mean {close}?" if close else f"a label needs a colon, {name}:"
    raise Mistake(f"there is no instruction or macro {name}; {hint}", statement.column)


def _belongs_in_trap_table(statement: Statement) -> bool:
    return isinstance(statement, Directive) and statement.keyword in (
        "trap",
        "end",
        "times",
        "equ",
        "error",
        "warning",
    )
