"""What an emulated instruction reads and writes: the memory that a user of the emulator provides."""

from abc import ABC, abstractmethod


class Memory(ABC):
    """Memory by linear address, behind segmentation. An access may span two pages, or wrap.

    A method that raises must have changed nothing. What it raises is the user's own: it comes out of
    `Emulator.step`, and the instruction has not happened.
    """

    __slots__ = ()

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """Load `size` bytes (1, 2, 4, 8 or 16)."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> None:
        """Store bytes (1, 2, 4, 8 or 16)."""

    def read_for_write(self, address: int, size: int) -> bytes:
        """The load of an instruction that will store to the same place, where that is possible."""
        return self.read(address, size)

    def replace(self, address: int, old: bytes, new: bytes) -> None:
        """The store that follows `read_for_write`, which returned `old`; both may be the same bytes."""
        self.write(address, new)


class Unemulated(Exception):
    """The instruction is not one that the emulator knows; nothing has changed. The text names it."""


class NoInstruction(Unemulated):
    """The bytes make no instruction, or the beginning of one."""


class InstructionFault(Exception):
    """An exception of the instruction's own: #GP(0), #SS(0) or #DE. Nothing has changed."""

    def __init__(self, vector: int, error_code: int = 0) -> None:
        super().__init__(vector, error_code)
        self.vector, self.error_code = vector, error_code
