"""Takes the expression in square brackets apart into base, index, scale and displacement."""

from dataclasses import dataclass

from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.program import Place
from guestkit.syntax import Binary, Call, Conditional, Expression, Name, Path, Unary
from guestkit.x86.operands import REGISTERS, Register, Value

_SCALES = (1, 2, 4, 8)
_STACK_POINTERS = frozenset({"esp", "rsp"})


@dataclass
class Sum:
    """An address as a sum: how often each register is in it, in order of appearance, and the rest."""

    registers: dict[Register, int]
    displacement: Value

    def added(self, other: "Sum", sign: int) -> "Sum":
        """Return this sum plus or minus the other."""
        registers = dict(self.registers)
        for register, count in other.registers.items():
            registers[register] = registers.get(register, 0) + sign * count
        number = self.displacement.number + sign * other.displacement.number
        return Sum(registers, Value(number, self.displacement.known and other.displacement.known))

    def times(self, factor: int) -> "Sum":
        """Return this sum multiplied."""
        registers = {register: count * factor for register, count in self.registers.items()}
        return Sum(registers, Value(self.displacement.number * factor, self.displacement.known))


@dataclass(frozen=True)
class Parts:
    """What a memory operand is encoded from."""

    base: Register | None
    index: Register | None
    scale: int
    displacement: Value


def register_named(expression: Expression) -> Register | None:
    """Return the register that an expression is, if it is one: eax, ST1 or st(1)."""
    if isinstance(expression, Name):
        return REGISTERS.get(expression.name.lower())
    if (
        isinstance(expression, Call)
        and expression.function.lower() == "st"
        and len(expression.arguments) == 1
    ):
        return REGISTERS.get(f"st{getattr(expression.arguments[0], 'number', '')}")
    return None


def take_apart(evaluator: Evaluator, address: Expression, place: Place) -> Parts:
    """Return base, index, scale and displacement of an address; Mistake when x86 has no such address."""
    total = _sum(evaluator, address, place)
    counts = {register: count for register, count in total.registers.items() if count}
    wrong = next((register for register in counts if not register.kind.startswith("gpr")), None)
    if wrong is not None:
        raise Mistake(f"{wrong.name} can't be part of an address", address.column)
    if len(counts) > 2 or any(count < 0 for count in counts.values()):
        raise Mistake("an address has at most a base and an index register, both added", address.column)
    items = list(counts.items())
    if len(items) == 2 and items[0][1] != 1:
        items.reverse()  # the base is the one that is not multiplied
    if len(items) == 2 and items[1][0].name in _STACK_POINTERS and items[1][1] == 1:
        items.reverse()  # the stack pointer can be a base only
    if len(items) == 1 and items[0][1] == 1:
        return Parts(items[0][0], None, 1, total.displacement)
    if len(items) == 1 and items[0][1] - 1 in _SCALES[1:]:
        register, count = items[0]
        return Parts(register, register, count - 1, total.displacement)
    base = items[0][0] if len(items) == 2 else None
    index, scale = items[-1] if items else (None, 1)
    if scale not in _SCALES or (len(items) == 2 and items[0][1] != 1):
        raise Mistake("an index register is multiplied by 1, 2, 4 or 8, a base by nothing", address.column)
    return Parts(base, index, scale, total.displacement)


def _sum(evaluator: Evaluator, expression: Expression, place: Place) -> Sum:
    register = register_named(expression)
    if register is not None:
        return Sum({register: 1}, Value(0))
    if not _has_register(expression):
        return Sum({}, evaluator.evaluate(expression, place))
    match expression:
        case Binary(operator="+" | "-" as operator, left=left, right=right):
            sign = 1 if operator == "+" else -1
            return _sum(evaluator, left, place).added(_sum(evaluator, right, place), sign)
        case Binary(operator="*", left=left, right=right):
            inner, factor = (right, left) if _has_register(right) else (left, right)
            return _sum(evaluator, inner, place).times(evaluator.constant(factor, place, "a scale"))
        case Unary(operator="-" | "+" as operator, operand=operand):
            return _sum(evaluator, operand, place).times(-1 if operator == "-" else 1)
        case _:
            raise Mistake(
                "registers in an address can only be added and multiplied by a number", expression.column
            )


def _has_register(expression: Expression) -> bool:
    if register_named(expression) is not None:
        return True
    match expression:
        case Binary(left=left, right=right):
            return _has_register(left) or _has_register(right)
        case Unary(operand=operand):
            return _has_register(operand)
        case Conditional(condition=condition, yes=yes, no=no):
            return any(_has_register(part) for part in (condition, yes, no))
        case Call(arguments=arguments) | Path(steps=arguments):
            return any(_has_register(part) for part in arguments if not isinstance(part, tuple))
        case _:
            return False
