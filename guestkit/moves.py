"""Orders the moves that load several registers at once, so that none destroys what a later one reads."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.loads import Move, load, number_of, register_of_kind, two_operands
from guestkit.program import Place
from guestkit.syntax import Binary, Bracket, Expression, Instruction, Name, Operand, Unary
from guestkit.x86.operands import REGISTERS


def plan(evaluator: Evaluator, moves: Sequence[Move], place: Place) -> list[Instruction]:
    """Return instructions that make all moves as if at once; Mistake when no order of them does.

    Where moves wait for each other in a circle, two registers trade places; a move of a register into itself
    is left out.
    """
    pending = list(moves)
    result: list[Instruction] = []
    while pending:
        ready = next((move for move in pending if not _readers(move, pending)), None)
        if ready is not None:
            pending.remove(ready)
            result.extend(load(evaluator, ready, place))
            continue
        first, second = _exchange(pending, place)
        # From now on what was in the one register is in the other, also for the move that waited for it.
        result.append(two_operands("xchg", Operand(Name(first, 1), 1), Operand(Name(second, 1), 1)))
        pending = [_swapped(move, first, second) for move in pending]
    return result


def _readers(move: Move, pending: Sequence[Move]) -> list[Move]:
    """Return the other moves that still need what is in the target of this one."""
    target = REGISTERS[move.target].number
    return [other for other in pending if other is not move and target in other.reads()]


def _exchange(pending: Sequence[Move], place: Place) -> tuple[str, str]:
    """Return two registers to exchange, so that a circle of waiting moves gets shorter by one.

    The move that is taken out of the circle must read nothing else that is to be overwritten, its own target
    included: afterwards it reads only that, which no later exchange touches, so there is an end to this.
    """
    targets = {REGISTERS[move.target].number for move in pending}
    circle = _circle(pending)
    for waiting, reader in pairwise([*circle, circle[0]]):
        swapped = (reader.target, waiting.target)
        if reader.reads() & targets == {REGISTERS[waiting.target].number} and _can_rename(
            pending, swapped, place
        ):
            return swapped
    raise Mistake(
        "these arguments need each other's registers; load one into another register first",
        pending[0].source.column,
    )


def _circle(pending: Sequence[Move]) -> list[Move]:
    """Return moves of which each is read by the next, and the last by the first; every move has a reader."""
    way = [pending[0]]
    while True:
        reader = _readers(way[-1], pending)[0]
        if reader in way:
            return way[way.index(reader) :]
        way.append(reader)


def _can_rename(pending: Sequence[Move], names: tuple[str, str], place: Place) -> bool:
    """Whether all parts of the two registers that are read have a counterpart in the other one.

    In 32-bit code only the first four registers have low bytes with names, and AH never has a counterpart.
    """
    numbers = {REGISTERS[name].number for name in names}
    has_bytes = place.bits == 64 or max(numbers) < 4
    return all(
        register.kind != "gpr8" or (has_bytes and not register.no_rex)
        for move in pending
        for register in move.registers()
        if number_of(register) in numbers
    )


def _swapped(move: Move, first: str, second: str) -> Move:
    """Return a move with the two registers, which have traded places, renamed in its source."""
    others = {REGISTERS[first].number: REGISTERS[second], REGISTERS[second].number: REGISTERS[first]}
    names = {
        register.name: register_of_kind(others[number_of(register)], register.kind).name
        for register in move.registers()
        if number_of(register) in others
    }
    core = move.source.core
    if isinstance(core, Bracket):
        return replace(
            move, source=replace(move.source, core=replace(core, address=_renamed(core.address, names)))
        )
    if isinstance(core, Name):
        return replace(move, source=replace(move.source, core=_renamed(core, names)))
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
