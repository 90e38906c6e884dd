"""Statements that say how what follows is placed, section and bits, and equ, which places nothing."""

from guestkit.assembly import Assembly
from guestkit.errors import Mistake
from guestkit.program import Mark
from guestkit.statements.data import alignment_of
from guestkit.symbols import ConstantSymbol
from guestkit.syntax import Directive, Option, Text, mentions_here

_PREVIOUS = "previous"


def section(assembly: Assembly, directive: Directive) -> None:
    """Go on in a section, which is made when it is new, or in the one before this ("previous")."""
    if directive.name == _PREVIOUS:
        if directive.options:
            raise Mistake(f"section {_PREVIOUS} takes no options", directive.options[0].column)
        assembly.change_section(assembly.previous)
        return
    flags: str | None = None
    alignment: int | None = None
    for option in directive.options:
        if option.name == "flags":
            flags = _flags(option)
        elif option.name == "align" and option.value is not None:
            alignment = alignment_of(assembly, option.value)
        else:
            raise Mistake(
                f'a section has the options align=N and flags="rwx", not {option.name}', option.column
            )
    if len(assembly.sections) >= 256 and directive.name not in assembly.sections:
        raise Mistake("a program has at most 256 sections", directive.column)
    assembly.open_section(directive.name, flags, alignment)


def _flags(option: Option) -> str:
    text = option.value.text if isinstance(option.value, Text) else ""
    if not text or set(text) - set("rwx"):
        raise Mistake('flags are letters of "rwx": readable, writable, executable', option.column)
    return "".join(letter for letter in "rwx" if letter in text)


def bits(assembly: Assembly, directive: Directive) -> None:
    """Encode what follows for 32-bit or 64-bit mode."""
    (expression,) = directive.values
    assert expression is not None
    number = assembly.evaluator.constant(expression, assembly.place(), "the number of bits")
    if number not in (32, 64):
        raise Mistake(f"code has 32 or 64 bits, not {number}", expression.column)
    assembly.bits = number


def constant(assembly: Assembly, directive: Directive) -> None:
    """Give a name to an expression, which is evaluated when it is used."""
    (expression,) = directive.values
    assert expression is not None
    if "." in directive.name:
        raise Mistake("the name of a constant has no dot", directive.name_column)
    place = assembly.place()
    if mentions_here(expression):
        mark = Mark()
        assembly.add(mark)
        place = mark.place
    assembly.symbols.define(directive.name, ConstantSymbol(expression, place), directive.name_column)
