"""Orders the moves that load several registers at once, so that none destroys what a later one reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from guestkit.addresses import register_named
from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.program import Place
from guestkit.syntax import Binary, Bracket, Expression, Instruction, Name, Operand, Pair, Unary
from guestkit.x86.operands import REGISTERS, Register

_WORDS = {32: "gpr32", 64: "gpr64"}
_NARROW = frozenset({"gpr8", "gpr16"})


@dataclass(frozen=True)
class Move:
    """A register, named as wide as the guest's words, and what is to be in it."""

    target: str
    source: Operand


def plan(evaluator: Evaluator, moves: Sequence[Move], place: Place) -> list[Instruction]:
    """Return instructions that make all moves as if at once; Mistake when no order of them does.

    Registers that trade places are exchanged; a move of a register into itself is left out.
    """
    pending = list(moves)
    result: list[Instruction] = []
    while pending:
        ready = next((move for move in pending if not _is_read(move, pending)), None)
        if ready is not None:
            pending.remove(ready)
            result.extend(_load(evaluator, ready, place))
            continue
        exchange = next(filter(None, (_exchangeable(move, place) for move in pending)), None)
        if exchange is None:
            raise Mistake(
                "these arguments need each other's registers; load one into another register first",
                pending[0].source.column,
            )
        # From now on what was in the one register is in the other, also for the move that asked for it.
        result.append(_two("xchg", *(Operand(Name(name, 1), 1) for name in exchange)))
        pending = [_swapped(move, *exchange) for move in pending]
    return result


def _number(register: Register) -> int:
    """Return which of the general registers a register is or is a part of: AH is a part of register 0."""
    return register.number - 4 if register.no_rex else register.number


def _registers(operand: Operand) -> list[Register]:
    core = operand.core
    found: list[Register] = []
    pending: list[Expression] = []
    if isinstance(core, Bracket):
        pending.append(core.address)
    elif isinstance(core, Name):
        pending.append(core)
    while pending:
        expression = pending.pop()
        register = register_named(expression)
        if register is not None:
            found.append(register)
        elif isinstance(expression, Binary):
            pending += [expression.left, expression.right]
        elif isinstance(expression, Unary):
            pending.append(expression.operand)
    return [register for register in found if register.kind.startswith("gpr")]


def _is_read(move: Move, pending: Sequence[Move]) -> bool:
    """Whether another move still needs what is in the target of this one."""
    target = REGISTERS[move.target].number
    return any(
        target in {_number(register) for register in _registers(other.source)}
        for other in pending
        if other is not move
    )


def _exchangeable(move: Move, place: Place) -> tuple[str, str] | None:
    """Return the target and the whole register that a move reads, when it reads a register and no memory."""
    register = register_named(move.source.core) if isinstance(move.source.core, Name) else None
    if register is None or register.kind not in ("gpr16", "gpr32", "gpr64"):
        return None
    if register.number == REGISTERS[move.target].number:
        return None
    return move.target, _same(register, _WORDS[place.bits]).name


def _same(register: Register, kind: str) -> Register:
    """Return the register of another width that a register is a part of, or that is a part of it."""
    return next(one for one in REGISTERS.values() if one.kind == kind and one.number == register.number)


def _swapped(move: Move, first: str, second: str) -> Move:
    """Return a move with the two registers, which have traded places, renamed in its source."""
    numbers = {REGISTERS[first].number: REGISTERS[second], REGISTERS[second].number: REGISTERS[first]}
    names: dict[str, str] = {}
    for register in _registers(move.source):
        if _number(register) not in numbers:
            continue
        if register.kind == "gpr8":
            raise Mistake(
                f"{register.name} is overwritten before it can be read; load it into another register first",
                move.source.column,
            )
        names[register.name] = _same(numbers[_number(register)], register.kind).name
    core = move.source.core
    if isinstance(core, Bracket):
        return Move(
            move.target, replace(move.source, core=replace(core, address=_renamed(core.address, names)))
        )
    if isinstance(core, Name):
        return Move(move.target, replace(move.source, core=_renamed(core, names)))
    return move


def _renamed(expression: Expression, names: dict[str, str]) -> Expression:
    match expression:
        case Name(name=name):
            return replace(expression, name=names.get(name.lower(), name))
        case Binary(left=left, right=right):
            return replace(expression, left=_renamed(left, names), right=_renamed(right, names))
        case Unary(operand=operand):
            return replace(expression, operand=_renamed(operand, names))
        case _:
            return expression


def _load(evaluator: Evaluator, move: Move, place: Place) -> list[Instruction]:
    """Return the instruction that makes one move, or none when there is nothing to do."""
    core, column = move.source.core, move.source.column
    target = Operand(Name(move.target, column), column)
    if isinstance(core, Bracket):
        return [_load_memory(move, target)]
    assert not isinstance(core, Pair)  # pairs have been split into their halves
    source = replace(move.source, address_of=False)
    register = register_named(core)
    if register is not None and move.source.address_of:
        raise Mistake("a register has no address; & is for symbols and [memory]", column)
    if register is not None:
        if register.name == move.target:
            return []
        if register.kind in _NARROW:
            return [_two("movzx", _narrowed(target), source)]
        return [_two("mov", _narrowed(target) if register.kind == "gpr32" else target, source)]
    value = evaluator.evaluate(core, place)
    if value.known and value.number == 0:
        low = _narrowed(target)
        return [_two("xor", low, low)]
    if value.known and 0 <= value.number < 1 << 32:
        return [_two("mov", _narrowed(target), source)]
    return [_two("mov", target, source)]


def _load_memory(move: Move, target: Operand) -> Instruction:
    source = move.source
    if source.address_of:
        return _two("lea", target, replace(source, address_of=False))
    if source.size in ("byte", "word"):
        return _two("movzx", _narrowed(target), source)
    if source.size == "dword":
        return _two("mov", _narrowed(target), source)
    return _two("mov", target, source)


def _narrowed(target: Operand) -> Operand:
    """Return the lower 32 bits of a register: loading them clears the upper ones."""
    assert isinstance(target.core, Name)
    name = _same(REGISTERS[target.core.name], "gpr32").name
    return replace(target, core=replace(target.core, name=name))


def _two(mnemonic: str, target: Operand, source: Operand) -> Instruction:
    return Instruction((), mnemonic, (target, source), source.column)
