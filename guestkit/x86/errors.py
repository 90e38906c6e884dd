"""The one exception of the encoder: an instruction that the processor doesn't have."""

from pvemu.abi.errors import PvemuError


class EncodeError(PvemuError):
    """An instruction cannot be encoded; the message says what was expected.

    ``operand_index`` is the operand to blame, counted from 0, or None when it is the whole instruction.
    """

    def __init__(self, message: str, operand_index: int | None = None) -> None:
        super().__init__(message)
        self.operand_index = operand_index
