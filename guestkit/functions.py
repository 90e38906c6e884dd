"""The functions that expressions can call: sizeof, defined, strlen, align_up, lo32, hi32 and target."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from guestkit.errors import Mistake
from guestkit.fields import field_name
from guestkit.program import Place
from guestkit.structures import SCALARS, scalar
from guestkit.syntax import Call, Name, Path, Text
from guestkit.target import KINDS, TARGETS
from guestkit.x86.operands import Value

if TYPE_CHECKING:
    from guestkit.evaluator import Evaluator


def call(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    """Return the value of a function; Mistake when there is none of that name, or the arguments are wrong."""
    function = FUNCTIONS.get(expression.function)
    if function is None:
        known = ", ".join(FUNCTIONS)
        raise Mistake(f"there is no function {expression.function}; there are {known}", expression.column)
    given = len(expression.arguments)
    if given != function.arity:
        plural = "s" if function.arity > 1 else ""
        raise Mistake(
            f"{expression.function} takes {function.arity} argument{plural}, not {given}", expression.column
        )
    return function.apply(evaluator, expression, place)


def _sizeof(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    what = expression.arguments[0]
    if not isinstance(what, Name | Path):
        raise Mistake("sizeof takes the name of a structure, of a field or of a type", what.column)
    if isinstance(what, Name) and what.name in SCALARS:
        return Value(scalar(what.name).size(place.word))
    return Value(field_name(evaluator, what, place).size())


def _defined(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    what = expression.arguments[0]
    if not isinstance(what, Name):
        raise Mistake("defined takes a name", what.column)
    return Value(int(evaluator.is_defined(what.name, place)))


def _strlen(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    what = expression.arguments[0]
    if not isinstance(what, Text):
        raise Mistake("strlen takes a string in double quotes", what.column)
    return Value(len(what.data))


def _align_up(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    value = evaluator.evaluate(expression.arguments[0], place)
    step = evaluator.constant(expression.arguments[1], place, "an alignment")
    if step <= 0:
        raise Mistake(f"an alignment is at least 1, not {step}", expression.arguments[1].column)
    return Value(-(-value.number // step) * step, value.known)


def _lo32(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    value = evaluator.evaluate(expression.arguments[0], place)
    return Value(value.number & 0xFFFFFFFF, value.known)


def _hi32(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    value = evaluator.evaluate(expression.arguments[0], place)
    return Value(value.number >> 32 & 0xFFFFFFFF, value.known)


def _target(evaluator: "Evaluator", expression: Call, place: Place) -> Value:
    what = expression.arguments[0]
    name = what.name if isinstance(what, Name) else ""
    if name not in KINDS and name not in TARGETS:
        raise Mistake(f"target takes one of {', '.join([*KINDS, *TARGETS])}", what.column)
    if evaluator.target is None:
        raise Mistake("the target is not known above the guest line: put that first", expression.column)
    return Value(int(name in (evaluator.target.kind, evaluator.target.word)))


class Function(NamedTuple):
    """A function: how many arguments it takes, and what it does."""

    arity: int
    apply: Callable[["Evaluator", Call, Place], Value]


FUNCTIONS: Final[dict[str, Function]] = {
    "sizeof": Function(1, _sizeof),
    "defined": Function(1, _defined),
    "strlen": Function(1, _strlen),
    "align_up": Function(2, _align_up),
    "lo32": Function(1, _lo32),
    "hi32": Function(1, _hi32),
    "target": Function(1, _target),
}
