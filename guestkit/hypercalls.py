"""The code that a hypercall statement stands for: its arguments moved into registers, then the call."""

from dataclasses import dataclass

from guestkit.code import Code
from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.loads import Move
from guestkit.moves import plan
from guestkit.program import Fragment, Place
from guestkit.spelling import closest
from guestkit.syntax import Binary, Bracket, Expression, Hypercall, Instruction, Name, Number, Operand, Pair
from guestkit.x86.operands import REGISTERS
from pvemu.abi import hypercalls

# In the order of the arguments (arch-x86/xen-x86_32.h and xen-x86_64.h).
_REGISTERS = {
    32: ("ebx", "ecx", "edx", "esi", "edi"),
    64: ("rdi", "rsi", "rdx", "r10", "r8"),
}
_SLOT = 32
"""Bytes of each hypercall's code in the hypercall page."""
# Arguments at the end that most callers leave out: Xen looks at this one when a guest is suspended, only.
_OPTIONAL = {"sched_op": 1}


@dataclass
class Route:
    """How the kernel reaches Xen, known once all is read: its hypercall page, or None for a bare trap."""

    page: Expression | None = None
    is_used: bool = False
    """Whether there is any hypercall."""


class HypercallCode(Fragment):
    """A hypercall with everything that leads to it."""

    def __init__(self, statement: Hypercall, route: Route) -> None:
        self.statement = statement
        self._route = route
        self._codes: list[Code] = []

    def settle(self, evaluator: Evaluator) -> None:
        """Write the instructions, none of which changes its size later."""
        for instruction in self._instructions(evaluator):
            code = Code(instruction)
            code.place = self.place
            code.settle(evaluator)
            self._codes.append(code)
        self.size = sum(code.size for code in self._codes)

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return the bytes of all of them."""
        parts = []
        offset = self.offset
        for code in self._codes:
            code.offset = offset
            parts.append(code.emit(evaluator))
            offset += code.size
        return b"".join(parts)

    def _instructions(self, evaluator: Evaluator) -> list[Instruction]:
        call = _row(self.statement)
        moves = _moves(evaluator, self.statement, call, self.place)
        column = self.statement.column
        return [*plan(evaluator, moves, self.place), *self._call(call, column)]

    def _call(self, call: hypercalls.Hypercall, column: int) -> list[Instruction]:
        is_iret = call.name == "iret"
        if self._route.page is not None:
            # iret does not come back, and Xen expects its frame on top of the stack: no return address.
            slot = Binary("+", self._route.page, Number(call.number * _SLOT, column), column, 1)
            return [
                _instruction("jmp" if is_iret else "call", column, Operand(slot, column, distance="near"))
            ]
        return _bare_call(call.number, is_iret, self.place.bits, column)


def _bare_call(number: int, is_iret: bool, bits: int, column: int) -> list[Instruction]:
    """Return what Xen itself writes into a slot of the hypercall page, but for the return."""
    load = _instruction("mov", column, _register("eax", column), Operand(Number(number, column), column))
    if bits == 32:
        save = [_instruction("push", column, _register("eax", column))] if is_iret else []
        return [*save, load, _instruction("int", column, Operand(Number(0x82, column), column))]
    saved = ["rcx", "r11", "rax"] if is_iret else ["rcx", "r11"]
    pushes = [_instruction("push", column, _register(name, column)) for name in saved]
    pops = (
        [] if is_iret else [_instruction("pop", column, _register(name, column)) for name in reversed(saved)]
    )
    return [*pushes, load, _instruction("syscall", column), *pops]


def _row(statement: Hypercall) -> hypercalls.Hypercall:
    row = hypercalls.BY_NAME.get(statement.name)
    if row is None:
        name = statement.name.removeprefix("__").removeprefix("HYPERVISOR_")
        close = closest(name, hypercalls.BY_NAME)
        hint = f"; did you mean {close}?" if close else ""
        raise Mistake(f"there is no hypercall {statement.name}{hint}", statement.name_column)
    return row


def _moves(
    evaluator: Evaluator, statement: Hypercall, call: hypercalls.Hypercall, place: Place
) -> list[Move]:
    signature = call.signature(place.word)
    given = len(statement.arguments)
    least = len(signature) - _OPTIONAL.get(call.name, 0)
    if not least <= given <= len(signature):
        raise Mistake(f"{call.name} takes {_wanted(least, signature)}; {given} given", statement.column)
    registers = list(_REGISTERS[place.bits])
    moves: list[Move] = []
    for operand, argument in zip(statement.arguments, signature, strict=False):
        halves = [operand]
        if argument.registers(place.word) == 2:
            halves = _halves(evaluator, operand, place, argument.name)
        elif isinstance(operand.core, Pair):
            raise Mistake(f"{argument.name} takes one register, not two", operand.column)
        moves.extend(Move(registers.pop(0), half) for half in halves)
    return moves


def _wanted(least: int, signature: tuple[hypercalls.Argument, ...]) -> str:
    if not signature:
        return "no arguments"
    number = f"{least}" if least == len(signature) else f"{least} or {len(signature)}"
    names = ", ".join(argument.name for argument in signature)
    return f"{number} argument{'' if number == '1' else 's'}: {names}"


def _halves(evaluator: Evaluator, operand: Operand, place: Place, name: str) -> list[Operand]:
    """Return the low and the high half of a 64-bit argument in 32-bit code."""
    core, column = operand.core, operand.column
    zero = Operand(Number(0, column), column)
    if isinstance(core, Pair):
        return [Operand(core.low, core.low.column), Operand(core.high, core.high.column)]
    if operand.address_of:
        return [operand, zero]
    if isinstance(core, Bracket):
        if operand.size not in (None, "qword"):
            raise Mistake(f"{name} has 64 bits: a qword in memory, or high:low", column)
        above = Binary("+", core.address, Number(4, core.column), core.column, core.address.depth + 1)
        upper = Bracket(above, core.segment, core.reach, core.column)
        return [Operand(core, column), Operand(upper, column)]
    if isinstance(core, Name) and core.name.lower() in REGISTERS:
        raise Mistake(f"{name} has 64 bits: write high:low, for example 0:{core.name}", column)
    value = evaluator.evaluate(core, place)
    if not value.known:
        return [operand, zero]  # an address of 32-bit code
    if not -(1 << 63) <= value.number < 1 << 64:
        raise Mistake(f"{hex(value.number)} does not fit into 64 bits", column)
    return [
        Operand(Number(value.number & 0xFFFFFFFF, column), column),
        Operand(Number(value.number >> 32 & 0xFFFFFFFF, column), column),
    ]


def _instruction(mnemonic: str, column: int, *operands: Operand) -> Instruction:
    return Instruction((), mnemonic, operands, column)


def _register(name: str, column: int) -> Operand:
    return Operand(Name(name, column), column)
