"""Segment descriptors: what their bits mean, and the form in which the engine caches them.

Layout of a descriptor: AMD64 Architecture Programmer's Manual volume 2, section 4.7.
"""

import struct
from typing import Final, NamedTuple

_CACHED: Final = struct.Struct("<I4xQII")

#: Bits of the high word.
TYPE_ACCESSED: Final = 1 << 8
TYPE_WRITABLE: Final = 1 << 9  #: of data; of code: readable
TYPE_CONFORMING: Final = 1 << 10  #: of code; of data: expands down
TYPE_CODE: Final = 1 << 11
NOT_SYSTEM: Final = 1 << 12
DPL_SHIFT: Final = 13
PRESENT: Final = 1 << 15
LONG: Final = 1 << 21
BIG: Final = 1 << 22
GRANULAR: Final = 1 << 23


class Descriptor(NamedTuple):
    """One eight-byte entry of a descriptor table."""

    low: int
    high: int

    @classmethod
    def from_int(cls, value: int) -> "Descriptor":
        """From the entry as one 64-bit number."""
        return cls(value & 0xFFFFFFFF, value >> 32)

    @property
    def base(self) -> int:
        """Linear address of the segment's first byte."""
        return self.low >> 16 | (self.high & 0xFF) << 16 | self.high & 0xFF000000

    @property
    def limit(self) -> int:
        """Offset of the segment's last byte."""
        limit = self.low & 0xFFFF | self.high & 0xF0000
        return limit << 12 | 0xFFF if self.high & GRANULAR else limit

    @property
    def dpl(self) -> int:
        """Descriptor privilege level."""
        return self.high >> DPL_SHIFT & 3

    @property
    def present(self) -> bool:
        """Whether the segment may be loaded at all."""
        return bool(self.high & PRESENT)

    @property
    def is_code(self) -> bool:
        """Whether this is a code segment."""
        return self.high & (NOT_SYSTEM | TYPE_CODE) == NOT_SYSTEM | TYPE_CODE

    @property
    def is_conforming(self) -> bool:
        """Whether this is code that runs at the caller's privilege."""
        return self.is_code and bool(self.high & TYPE_CONFORMING)

    @property
    def is_writable_data(self) -> bool:
        """Whether this is data that can be written, as a stack must be."""
        return self.high & (NOT_SYSTEM | TYPE_CODE | TYPE_WRITABLE) == NOT_SYSTEM | TYPE_WRITABLE

    @property
    def is_readable(self) -> bool:
        """Whether a data segment register may hold it."""
        if not self.high & NOT_SYSTEM:
            return False
        return not self.high & TYPE_CODE or bool(self.high & TYPE_WRITABLE)

    def cached(self, selector: int) -> bytes:
        """The 24 bytes of a segment register of the engine that holds this descriptor."""
        return _CACHED.pack(selector, self.base, self.limit, self.high)


def null_segment(selector: int = 0) -> bytes:
    """The 24 bytes of a segment register that holds a null selector."""
    return _CACHED.pack(selector, 0, 0, 0)


def is_canonical(address: int) -> bool:
    """Whether bits 63 to 47 of a linear address are all alike (four levels of page tables)."""
    return address >> 47 in (0, 0x1FFFF)
