"""Finds the value of an expression at its place, and whether that value can still move with the layout."""

from collections.abc import Container
from contextlib import suppress
from enum import Enum, auto

from guestkit.errors import Mistake
from guestkit.fields import field_name
from guestkit.functions import call
from guestkit.operators import UNARY, apply, checked
from guestkit.program import Fragment, Place, Section
from guestkit.symbols import ConstantSymbol, GivenSymbol, LabelSymbol, Symbol, SymbolTable, printable
from guestkit.syntax import (
    Binary,
    Call,
    Conditional,
    Expression,
    Here,
    Name,
    Number,
    Path,
    SectionStart,
    Text,
    Unary,
)
from guestkit.target import Target
from guestkit.vocabulary import constants
from guestkit.x86.operands import REGISTERS, Value

_DEEPEST = 200
"""Nested evaluations, through constants that are defined by other constants too."""

_LONGEST_DISTANCE = 20
"""Steps that are taken to find which label an address is made of."""


class Stage(Enum):
    """How much is known: symbols may still be missing, addresses may still move, or neither."""

    READING = auto()
    SIZING = auto()
    SETTLED = auto()


class Evaluator:
    """Evaluates expressions with the symbols defined so far.

    A value that depends on an address has ``known=False``; its number is provisional until all is SETTLED.
    """

    def __init__(self, symbols: SymbolTable, macros: Container[str] = ()) -> None:
        self.symbols = symbols
        self.stage = Stage.READING
        self.target: Target | None = None
        """What the program is for, once that is said."""
        self._macros = macros
        self._depth = 0
        self._round = 0

    def addresses_moved(self) -> None:
        """Forget what constants were worth that depend on addresses, and evaluate them anew.

        In the order of their definition, so that a long chain of them does not need deep recursion later.
        """
        self._round += 1
        for symbol in self.symbols.moving_constants():
            with suppress(Mistake):  # told when the constant is used
                self._constant_symbol(symbol, Name("", 1))

    def number(self, expression: Expression, place: Place) -> int:
        """Return the value as far as it is known at this stage; Mistake when it has none."""
        return self.evaluate(expression, place).number

    def constant(self, expression: Expression, place: Place, what: str) -> int:
        """Return a value that must not depend on any address; Mistake names ``what`` it was wanted for."""
        value = self.evaluate(expression, place)
        if not value.known:
            raise Mistake(f"{what} must be a plain number, and this depends on an address", expression.column)
        return value.number

    def evaluate(self, expression: Expression, place: Place) -> Value:
        """Return the value of the expression; Mistake when it has none."""
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise Mistake("constants are defined through too many others", expression.column)
            return self._evaluate(expression, place)
        finally:
            self._depth -= 1

    def is_defined(self, name: str, place: Place) -> bool:
        """Say whether a name means anything so far: a symbol, a macro, a structure or a name of the ABI."""
        full = place.scope + name if name.startswith(".") else name
        known = self.symbols.get(full) is not None or self.symbols.structure(full) is not None
        return known or full in constants(place.word) or full in self._macros

    def _evaluate(self, expression: Expression, place: Place) -> Value:
        match expression:
            case Number(number=number):
                return Value(number)
            case Name():
                return self._name(expression, place)
            case Binary():
                return self._binary(expression, place)
            case Unary(operator=symbol, operand=operand, column=column):
                value = self.evaluate(operand, place)
                return Value(checked(int(UNARY[symbol](value.number)), column), value.known)
            case Conditional(condition=condition, yes=yes, no=no):
                decision = self.evaluate(condition, place)
                chosen = self.evaluate(yes if decision.number else no, place)
                return Value(chosen.number, chosen.known and decision.known)
            case Here():
                return Value(place.here, known=False)
            case SectionStart():
                return Value(place.section.address, known=False)
            case Call():
                return call(self, expression, place)
            case Path():
                return Value(field_name(self, expression, place).offset())
            case Text():
                raise Mistake("a string is no number; a character stands in single quotes", expression.column)

    def _binary(self, expression: Binary, place: Place) -> Value:
        operator = expression.operator
        left = self.evaluate(expression.left, place)
        if operator in ("&&", "||") and bool(left.number) == (operator == "||"):
            # The right side may be meaningless when the left decides: defined(X) && X > 3.
            return Value(int(bool(left.number)), left.known)
        right = self.evaluate(expression.right, place)
        known = left.known and right.known
        if operator in ("&&", "||"):
            return Value(int(bool(right.number)), known)
        if not known and operator == "-":
            distance = self._distance(expression, place)
            if distance is not None:
                return Value(distance)
        try:
            return Value(apply(operator, left.number, right.number, expression.column), known)
        except Mistake:
            if right.known or self.stage is Stage.SETTLED:
                raise
            return Value(0, known=False)  # the right side is provisional, and 0 perhaps only now

    def _distance(self, expression: Binary, place: Place) -> int | None:
        """Return the difference of two addresses when nothing between them can move, else None."""
        left, right = self._position(expression.left, place), self._position(expression.right, place)
        if left is None or right is None or left[:2] != right[:2]:
            return None
        return left[2] - right[2]

    def _position(
        self, expression: Expression, place: Place, depth: int = 0
    ) -> tuple[Section, int, int] | None:
        """Return an address as section, run of fixed fragments and bytes in that; None when it is none."""
        if depth > _LONGEST_DISTANCE:
            return None
        match expression:
            case Here():
                return _position_of(place)
            case SectionStart():
                return place.section, 0, 0
            case Name():
                symbol = self._symbol_named(expression, place)
                if isinstance(symbol, LabelSymbol):
                    return _position_of(symbol.place)
                if isinstance(symbol, ConstantSymbol):
                    return self._position(symbol.expression, symbol.place, depth + 1)
                return None
            case Binary(operator="+" | "-" as operator, left=left, right=right):
                position, addend = self._position(left, place, depth + 1), self.evaluate(right, place)
                if position is None or not addend.known:
                    return None
                section, run, offset = position
                return section, run, offset + (addend.number if operator == "+" else -addend.number)
            case _:
                return None

    def _symbol_named(self, expression: Name, place: Place) -> Symbol | None:
        name = expression.name
        if name.startswith(".") and not place.scope:
            raise Mistake(f"there is no label above that {name} could belong to", expression.column)
        return self.symbols.get(place.scope + name if name.startswith(".") else name)

    def _name(self, expression: Name, place: Place) -> Value:
        name = expression.name
        match self._symbol_named(expression, place):
            case LabelSymbol(place=label):
                return Value(label.here, known=False)
            case GivenSymbol(number=number):
                return Value(number)
            case ConstantSymbol() as symbol:
                return self._constant_symbol(symbol, expression)
        number_of_abi = constants(place.word).get(name)
        if number_of_abi is not None:
            return Value(number_of_abi)
        root, _, path = name.partition(".")
        if root and self.symbols.structure(root) is not None:
            if not path:
                raise Mistake(
                    f"{name} is a structure; write {name}.FIELD or sizeof({name})", expression.column
                )
            return Value(field_name(self, expression, place).offset())
        raise self._undefined(expression, place)

    def _constant_symbol(self, symbol: ConstantSymbol, expression: Name) -> Value:
        if symbol.value is not None and (symbol.value.known or symbol.round == self._round):
            return symbol.value
        if symbol.busy:
            raise Mistake(f"{printable(expression.name)} is defined by itself", expression.column)
        symbol.busy = True
        try:
            symbol.value = self.evaluate(symbol.expression, symbol.place)
            symbol.round = self._round
        except Mistake as mistake:
            mistake.line = mistake.line or symbol.place.line
            raise
        finally:
            symbol.busy = False
        return symbol.value

    def _undefined(self, expression: Name, place: Place) -> Mistake:
        name = printable(expression.name)
        if expression.name.lower() in REGISTERS:
            return Mistake(f"{name} is a register; a number is needed here", expression.column)
        hint = self.symbols.similar(expression.name, place.scope)
        if expression.name.startswith("."):
            return Mistake(f"there is no local label {name} below {place.scope}{hint}", expression.column)
        where = " above this line" if self.stage is Stage.READING else ""
        return Mistake(f"{name} is not defined{where}{hint}", expression.column)


def _position_of(place: Place) -> tuple[Section, int, int]:
    end: Section | Fragment = place.anchor or place.section
    return place.section, end.run, end.run_offset
