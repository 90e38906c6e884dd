"""The guest's segment registers, hidden parts included, and the descriptors that selectors name.

Layout and checks: AMD64 Architecture Programmer's Manual volume 2, sections 4.5 to 4.10.
"""

import struct
from typing import Final, NamedTuple, Protocol

from pvemu.cpu import exits, layout
from pvemu.cpu.segments import (
    BIG,
    DPL_SHIFT,
    NOT_SYSTEM,
    TYPE_ACCESSED,
    TYPE_CODE,
    TYPE_CONFORMING,
    Descriptor,
)
from pvemu.cpu.state_window import StateWindow

#: Selectors: bits of the privilege level, and the bit that names the LDT.
RPL: Final = 3
LOCAL: Final = 4
#: What an error code keeps of a selector.
ERROR_SELECTOR: Final = 0xFFFC

_CACHED: Final = struct.Struct("<I4xQII")
_DESCRIPTOR: Final = struct.Struct("<II")
_ACCESS_BYTE: Final = 5  #: of a descriptor: type, DPL and present
_DATA_SEGMENTS: Final = (layout.ES, layout.DS, layout.FS, layout.GS)
_EXPANDS_DOWN: Final = TYPE_CONFORMING


class SystemMemory(Protocol):
    """Linear memory as the processor itself uses it: as a supervisor, whatever ring the guest is in.

    Both raise GuestPageFault exactly where the processor would.
    """

    def read(self, address: int, size: int) -> bytes:
        """Read `size` bytes."""

    def write(self, address: int, data: bytes) -> None:
        """Write bytes."""


class Fault(Exception):
    """The processor refuses what it was asked to do.

    Attributes:
        vector: of the exception; error_code: as it is pushed, or None where there is none.
    """

    def __init__(self, vector: int, error_code: int | None = 0) -> None:
        super().__init__(f"exception {vector}, error code {error_code}")
        self.vector = vector
        self.error_code = error_code


class SegmentRegister(NamedTuple):
    """A segment register: the selector, and what was loaded with it.

    `attributes` are the upper word of a descriptor; `limit` is in bytes.
    """

    selector: int
    base: int
    limit: int
    attributes: int

    @property
    def dpl(self) -> int:
        """Descriptor privilege level."""
        return self.attributes >> DPL_SHIFT & 3

    @property
    def stack_mask(self) -> int:
        """The bits of the stack pointer that count in this segment outside 64-bit code."""
        return 0xFFFFFFFF if self.attributes & BIG else 0xFFFF

    def contains(self, offset: int, size: int) -> bool:
        """Whether `size` bytes from an offset lie within the limit."""
        last = offset + size - 1
        if self.attributes & (NOT_SYSTEM | TYPE_CODE | _EXPANDS_DOWN) == NOT_SYSTEM | _EXPANDS_DOWN:
            return offset > self.limit and last <= (0xFFFFFFFF if self.attributes & BIG else 0xFFFF)
        return last <= self.limit


def read_segment(window: StateWindow, register: int) -> SegmentRegister:
    """A segment register as it stands (`register` is one of layout.ES to layout.IDTR)."""
    at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
    return SegmentRegister._make(_CACHED.unpack_from(window.u8, at))


def write_segment(window: StateWindow, register: int, segment: SegmentRegister) -> None:
    """Load a segment register; the engine's flags have to be derived afterwards (pvemu.cpu.mode)."""
    at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
    _CACHED.pack_into(window.u8, at, *segment)


class Found(NamedTuple):
    """A descriptor in a table, and its linear address."""

    descriptor: Descriptor
    address: int

    def loaded(self, selector: int) -> SegmentRegister:
        """The segment register that holds it."""
        descriptor = self.descriptor
        return SegmentRegister(selector, descriptor.base, descriptor.limit, descriptor.high | TYPE_ACCESSED)


def find_descriptor(window: StateWindow, memory: SystemMemory, selector: int) -> Found | None:
    """The descriptor that a selector names in GDT or LDT; None beyond the table's end.

    Raises:
        GuestPageFault: the table is not mapped there.
    """
    table = read_segment(window, layout.LDTR if selector & LOCAL else layout.GDTR)
    offset = selector & 0xFFF8
    if offset + 7 > table.limit:
        return None
    address = table.base + offset
    return Found(Descriptor(*_DESCRIPTOR.unpack(memory.read(address, 8))), address)


def mark_accessed(memory: SystemMemory, found: Found) -> None:
    """Set the accessed bit of a descriptor that is loaded, if it is not set."""
    if not found.descriptor.high & TYPE_ACCESSED:
        access = found.descriptor.high >> 8 & 0xFF | TYPE_ACCESSED >> 8
        memory.write(found.address + _ACCESS_BYTE, bytes((access,)))


def handler_code(window: StateWindow, memory: SystemMemory, selector: int, cpl: int) -> Found:
    """The code segment of a gate, checked as on the way into a handler.

    Raises:
        Fault: #GP or #NP, with the selector as error code.
    """
    if not selector & ERROR_SELECTOR:
        raise Fault(exits.GP, 0)
    found = find_descriptor(window, memory, selector)
    error_code = selector & ERROR_SELECTOR
    if found is None or not found.descriptor.is_code or found.descriptor.dpl > cpl:
        raise Fault(exits.GP, error_code)
    if not found.descriptor.present:
        raise Fault(exits.NP, error_code)
    return found


def handler_stack(window: StateWindow, memory: SystemMemory, selector: int, cpl: int) -> Found:
    """The stack segment that a TSS names for an inner ring, checked.

    Raises:
        Fault: #TS, or #SS when it is not present, with the selector as error code.
    """
    error_code = selector & ERROR_SELECTOR
    if not error_code:
        raise Fault(exits.TS, 0)
    found = find_descriptor(window, memory, selector)
    if found is None or not selector & RPL == found.descriptor.dpl == cpl:
        raise Fault(exits.TS, error_code)
    if not found.descriptor.is_writable_data:
        raise Fault(exits.TS, error_code)
    if not found.descriptor.present:
        raise Fault(exits.SS, error_code)
    return found
