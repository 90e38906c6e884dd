"""The arithmetic of expressions: whole numbers of up to 128 bits, with C's division and comparisons."""

import operator
from collections.abc import Callable
from typing import Final

from guestkit.errors import Mistake

_LIMIT = 1 << 128


def _quotient(left: int, right: int) -> int:
    """Divide as C does: towards zero."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


BINARY: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "%": lambda left, right: left - right * _quotient(left, right),
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""Every operator that needs both sides; ``&&`` and ``||`` may not look at their right side."""

UNARY: Final[dict[str, Callable[[int], int]]] = {
    "-": operator.neg,
    "+": operator.pos,
    "~": operator.invert,
    "!": operator.not_,
}


def apply(symbol: str, left: int, right: int, column: int) -> int:
    """Return ``left symbol right``; Mistake for a division by zero, an absurd shift or more than 128 bits."""
    if symbol in ("/", "%") and right == 0:
        raise Mistake("division by zero", column)
    if symbol in ("<<", ">>") and not 0 <= right < 128:
        raise Mistake(f"a shift is by 0 to 127 bits, not {right}", column)
    return checked(int(BINARY[symbol](left, right)), column)


def checked(number: int, column: int) -> int:
    """Return the number; Mistake when it has more than 128 bits."""
    if not -_LIMIT < number < _LIMIT:
        raise Mistake("the value has more than 128 bits", column)
    return number
