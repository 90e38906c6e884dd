"""Turns the operands of an instruction as they were written into those that the encoder takes."""

from guestkit.addresses import register_named, take_apart
from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.program import Place
from guestkit.syntax import Bracket, Operand, Pair
from guestkit.x86.operands import Distance, Far, Immediate, Memory, Register, Relative, Value
from guestkit.x86.operands import Operand as MachineOperand

SIZES = {"byte": 8, "word": 16, "dword": 32, "qword": 64, "tword": 80, "oword": 128}
"""Bits of each size keyword."""
_DISTANCES: dict[str | None, Distance] = {"short": "short", "near": "near"}


def machine_operand(
    evaluator: Evaluator, operand: Operand, place: Place, *, is_target: bool = False
) -> MachineOperand:
    """Return the encoder's operand, with numbers as far as they are known; Mistake when there is none such.

    ``is_target`` says that a plain number is a place to jump to.
    """
    if operand.address_of:
        raise Mistake("& is for arguments of hypercalls; an address is written without it", operand.column)
    core = operand.core
    if isinstance(core, Pair):
        _refuse_words(operand, "short", "near")
        return Far(evaluator.evaluate(core.high, place), evaluator.evaluate(core.low, place))
    if isinstance(core, Bracket):
        return _memory(evaluator, operand, core, place)
    register = register_named(core)
    if register is not None:
        _refuse_words(operand, "short", "near", "far")
        if operand.size and SIZES[operand.size] != register.size:
            raise Mistake(f"{register.name} is not a {operand.size}", operand.column)
        return register
    value = evaluator.evaluate(core, place)
    if is_target:
        if operand.distance == "far":
            raise Mistake("a far target needs a selector, as in: jmp far 0xe019:target", operand.column)
        # A displacement depends on where the instruction stands, even when its target is a known number.
        target = Value(value.number, known=False)
        return Relative(target, _DISTANCES.get(operand.distance))
    _refuse_words(operand, "short", "near", "far")
    return Immediate(value, SIZES[operand.size] if operand.size else None)


def _memory(evaluator: Evaluator, operand: Operand, bracket: Bracket, place: Place) -> Memory:
    _refuse_words(operand, "short")
    parts = take_apart(evaluator, bracket.address, place)
    relative = bracket.reach == "rel"
    if relative and place.bits != 64:
        raise Mistake(
            "only 64-bit code has addresses relative to rip; write the address without rel", bracket.column
        )
    if relative and (parts.base or parts.index):
        raise Mistake("an address relative to rip has no other registers", bracket.column)
    return Memory(
        size=SIZES[operand.size] if operand.size else None,
        base=parts.base,
        index=parts.index,
        scale=parts.scale,
        displacement=Value(parts.displacement.number, parts.displacement.known and not relative),
        segment=_segment(bracket),
        rip_relative=relative,
        far=operand.distance == "far",
    )


def _segment(bracket: Bracket) -> Register | None:
    if bracket.segment is None:
        return None
    register = register_named(bracket.segment)
    if register is None or register.kind != "seg":
        raise Mistake("a segment register is needed before the colon", bracket.segment.column)
    return register


def _refuse_words(operand: Operand, *words: str) -> None:
    if operand.distance in words:
        raise Mistake(f'"{operand.distance}" has no meaning for this operand', operand.column)
