"""The symbols of a program: labels, constants and structures, and where each was defined."""

from collections.abc import Iterator
from dataclasses import dataclass

from guestkit.errors import Mistake
from guestkit.program import Place
from guestkit.spelling import closest
from guestkit.structures import Layout, UserStructure
from guestkit.syntax import Expression
from guestkit.vocabulary import constants, reserved_because, structures
from guestkit.x86.operands import Value


@dataclass(eq=False)
class LabelSymbol:
    """A label: the address of its place."""

    place: Place


@dataclass(eq=False)
class ConstantSymbol:
    """A name given to an expression with equ, evaluated where it was defined but not before it is used."""

    expression: Expression
    place: Place
    value: Value | None = None
    """What it was worth when it was last evaluated; final when that depends on no address."""
    round: int = 0
    """The round of the layout for which ``value`` was found."""
    busy: bool = False
    """Whether it is being evaluated: it is then defined by itself when it is met again."""


@dataclass(frozen=True, eq=False)
class GivenSymbol:
    """A number that comes from outside the source text."""

    number: int
    origin: str


@dataclass(frozen=True, eq=False)
class StructureSymbol:
    """The name of a structure: no number, but the beginning of its fields' names."""

    structure: UserStructure
    place: Place


Symbol = LabelSymbol | ConstantSymbol | GivenSymbol | StructureSymbol


class SymbolTable:
    """All symbols by their full name (a local label's begins with that of the label it belongs to)."""

    def __init__(self) -> None:
        self._symbols: dict[str, Symbol] = {}

    def define(self, name: str, symbol: Symbol, column: int | None) -> None:
        """Add a symbol; Mistake when the name is taken or reserved."""
        reason = reserved_because(name)
        if reason is not None:
            raise Mistake(f"{reason}, so it can't be defined; choose another name", column)
        earlier = self._symbols.get(name)
        if earlier is not None:
            raise Mistake(
                f"{printable(name)} is already defined {_origin(earlier)}; choose another name", column
            )
        self._symbols[name] = symbol

    def get(self, name: str) -> Symbol | None:
        """Return the symbol of the full name, None when there is none."""
        return self._symbols.get(name)

    def items(self) -> Iterator[tuple[str, Symbol]]:
        """Give every symbol in the order of definition."""
        yield from self._symbols.items()

    def moving_constants(self) -> list[ConstantSymbol]:
        """Return the constants that depend on addresses, in the order of definition."""
        return [
            symbol
            for symbol in self._symbols.values()
            if isinstance(symbol, ConstantSymbol) and not (symbol.value and symbol.value.known)
        ]

    def structure(self, name: str) -> Layout | None:
        """Return the structure of that name, be it the program's or the ABI's."""
        symbol = self._symbols.get(name)
        return symbol.structure if isinstance(symbol, StructureSymbol) else structures().get(name)

    def similar(self, name: str, scope: str) -> str:
        """Return a hint with a known name that is spelt nearly like this one, or an empty string."""
        known = list(self._symbols)
        if name.startswith("."):
            known = [full[len(scope) :] for full in known if scope and full.startswith(f"{scope}.")]
        else:
            known += [*constants(), *structures()]
        close = closest(name, known)
        return f"; did you mean {printable(close)}?" if close else ""


def printable(name: str) -> str:
    """Return a symbol's name as it was written: one made by ``%%`` without the number of its expansion."""
    base, at, _ = name.partition("@")
    return f"%%{base}" if at else name


def _origin(symbol: Symbol) -> str:
    if isinstance(symbol, GivenSymbol):
        return symbol.origin
    return f"at {symbol.place.line.filename}:{symbol.place.line.number}"
