"""The instruction that loads one register: from a register, a number, memory or an address."""

from dataclasses import dataclass, replace

from guestkit.addresses import register_named
from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.program import Place
from guestkit.syntax import Binary, Bracket, Expression, Instruction, Name, Operand, Pair, Unary
from guestkit.x86.operands import REGISTERS, Register, RegisterKind

_NARROW = frozenset({"gpr8", "gpr16"})


@dataclass(frozen=True)
class Move:
    """A register, named as wide as the guest's words, and what is to be in it."""

    target: str
    source: Operand

    def registers(self) -> list[Register]:
        """Return the general registers in the source, as they are written there."""
        core = self.source.core
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

    def reads(self) -> frozenset[int]:
        """Return the numbers of the general registers that the source depends on."""
        return frozenset(number_of(register) for register in self.registers())


def number_of(register: Register) -> int:
    """Return which of the general registers a register is or is a part of: AH is a part of register 0."""
    return register.number - 4 if register.no_rex else register.number


def register_of_kind(register: Register, kind: RegisterKind) -> Register:
    """Return the register of another width that a register is a part of, or that is the low part of it."""
    return next(
        one
        for one in REGISTERS.values()
        if one.kind == kind and one.number == register.number and not one.no_rex
    )


def load(evaluator: Evaluator, move: Move, place: Place) -> list[Instruction]:
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
            return [two_operands("movzx", _narrowed(target), source)]
        return [two_operands("mov", _narrowed(target) if register.kind == "gpr32" else target, source)]
    value = evaluator.evaluate(core, place)
    if value.known and value.number == 0:
        low = _narrowed(target)
        return [two_operands("xor", low, low)]
    if value.known and 0 <= value.number < 1 << 32:
        return [two_operands("mov", _narrowed(target), source)]
    return [two_operands("mov", target, source)]


def _load_memory(move: Move, target: Operand) -> Instruction:
    source = move.source
    if source.address_of:
        return two_operands("lea", target, replace(source, address_of=False))
    if source.size in ("byte", "word"):
        return two_operands("movzx", _narrowed(target), source)
    if source.size == "dword":
        return two_operands("mov", _narrowed(target), source)
    return two_operands("mov", target, source)


def _narrowed(target: Operand) -> Operand:
    """Return the lower 32 bits of a register: loading them clears the upper ones."""
    assert isinstance(target.core, Name)
    name = register_of_kind(REGISTERS[target.core.name], "gpr32").name
    return replace(target, core=replace(target.core, name=name))


def two_operands(mnemonic: str, target: Operand, source: Operand) -> Instruction:
    """Return an instruction with two operands, as if it had been written where the second stands."""
    return Instruction((), mnemonic, (target, source), source.column)
