"""Fragments of code: instructions, and jumps that begin short and grow when their target is too far."""

from collections.abc import Sequence

from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.operands import machine_operand
from guestkit.program import Fragment, Place
from guestkit.syntax import Instruction
from guestkit.x86.encoder import (
    Encoded,
    EncodeError,
    encode,
    has_near_form,
    has_short_form,
    takes_target,
)
from guestkit.x86.operands import Distance, Operand, Relative

_SHORT_REACH = range(-128, 128)


class Code(Fragment):
    """One machine instruction."""

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self._code = b""
        self._has_fixups = False
        self._grows = False
        """Whether this is a short jump that can still become a near one."""

    def settle(self, evaluator: Evaluator) -> None:
        """Choose the encoding, of which the size no longer depends on addresses."""
        operands = self._operands(evaluator)
        self._grows = self._is_elastic(operands)
        self._encode(operands, "short" if self._grows else None)

    def resize(self, evaluator: Evaluator) -> None:
        """Make a short jump near when its target is out of reach; it never becomes short again."""
        if not self._grows:
            return
        operands = self._operands(evaluator)
        target = next(operand for operand in operands if isinstance(operand, Relative))
        end = self.place.section.address + self.offset + self.size
        if target.value.number - end not in _SHORT_REACH:
            self._grows = False
            self._encode(operands, "near")

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return the bytes, with final addresses in them."""
        if not self._has_fixups:
            return self._code
        distance: Distance | None = "short" if self._grows else None
        address = self.place.section.address + self.offset
        return self._encoded(self._operands(evaluator), distance, address, final=True).code

    def _operands(self, evaluator: Evaluator) -> list[Operand]:
        is_target = takes_target(self.instruction.mnemonic.lower())
        return [
            machine_operand(evaluator, operand, self.place, is_target=is_target)
            for operand in self.instruction.operands
        ]

    def _is_elastic(self, operands: list[Operand]) -> bool:
        mnemonic = self.instruction.mnemonic.lower()
        if not (has_short_form(mnemonic) and has_near_form(mnemonic)):
            return False
        return any(isinstance(operand, Relative) and operand.distance is None for operand in operands)

    def _encode(self, operands: list[Operand], distance: Distance | None) -> None:
        encoded = self._encoded(operands, distance, 0, final=False)
        self._code = encoded.code
        self._has_fixups = bool(encoded.fixups)
        self.size = len(encoded.code)

    def _encoded(
        self, operands: list[Operand], distance: Distance | None, address: int, *, final: bool
    ) -> Encoded:
        return encode_instruction(self.instruction, operands, self.place, distance, address, final)


def encode_instruction(
    instruction: Instruction,
    operands: Sequence[Operand],
    place: Place,
    distance: Distance | None,
    address: int,
    final: bool,
) -> Encoded:
    """Return an instruction's bytes for ``address``; Mistake, at the operand to blame, if there are none."""
    try:
        return encode(
            64 if place.bits == 64 else 32,
            instruction.mnemonic.lower(),
            operands,
            prefixes=instruction.prefixes,
            address=address,
            distance=distance,
            final=final,
        )
    except EncodeError as error:
        index = error.operand_index
        blamed = instruction.operands[index] if index is not None else instruction
        raise Mistake(str(error), blamed.column) from error
