"""From an offset in a segment to a linear address, with the checks that the processor makes on the way.

AMD64 Architecture Programmer's Manual volume 2, sections 4.5, 4.12 and 5.3.1 (canonical addresses).
"""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import exits, layout
from pvemu.cpu.segments import BIG, PRESENT, TYPE_CODE, TYPE_CONFORMING, TYPE_WRITABLE
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.emulate.memory import InstructionFault

#: Turns an offset into a linear address; raises InstructionFault when the segment forbids the access.
Linear = Callable[[int], int]

_LOW: Final = 0xFFFFFFFF
_ALL: Final = (1 << 64) - 1
_WITH_BASE_IN_64_BITS: Final = (layout.FS, layout.GS)
_HALF: Final = 1 << 47
_EXPANDS_DOWN: Final = TYPE_CONFORMING


def plain_linear(window: StateWindow, bits: int, segment: int) -> Linear:
    """The address alone: no limits, no rights."""
    at = layout.SEGMENTS + segment * layout.SEGMENT_SIZE + layout.BASE
    if bits == 64:
        return _long(window, segment)
    u32, base = window.u32, at // 4
    return lambda offset: offset + u32[base] & _LOW


def checked_linear(
    window: StateWindow, bits: int, segment: int, size: int, *, write: bool, rights: bool
) -> Linear:
    """The address of an access of `size` bytes that the segment allows."""
    vector = exits.SS if segment == layout.SS else exits.GP
    if bits == 64:
        address = _long(window, segment)

        def canonical(offset: int) -> int:
            linear = address(offset)
            # Both halves of the address space seen as one range: the first and the last byte lie in it.
            first = linear + _HALF & _ALL
            if first + size > 2 * _HALF:
                raise InstructionFault(vector)
            return linear

        return canonical
    u32, at = window.u32, (layout.SEGMENTS + segment * layout.SEGMENT_SIZE) // 4
    base, limit, attributes = at + layout.BASE // 4, at + layout.LIMIT // 4, at + layout.ATTRIBUTES // 4
    # Of a data segment the bit says that it may be written, of code that it may be read.
    forbidden = TYPE_CODE if write else 0
    needed = PRESENT | (TYPE_WRITABLE if write else 0)

    def inside(offset: int) -> int:
        kind, last = u32[attributes], offset + size - 1
        if rights:
            wanted = needed | (TYPE_WRITABLE if kind & TYPE_CODE else 0)
            if kind & wanted != wanted or kind & forbidden:
                raise InstructionFault(vector)
        if rights and kind & (TYPE_CODE | _EXPANDS_DOWN) == _EXPANDS_DOWN:
            if offset <= u32[limit] or last > (_LOW if kind & BIG else 0xFFFF):
                raise InstructionFault(vector)
        elif u32[limit] < _LOW and last > u32[limit]:  # nothing is beyond 4 GiB, not even what wraps there
            raise InstructionFault(vector)
        return offset + u32[base] & _LOW

    return inside


def _long(window: StateWindow, segment: int) -> Linear:
    """In 64-bit mode only FS and GS have a base."""
    if segment not in _WITH_BASE_IN_64_BITS:
        return lambda offset: offset
    u64, base = window.u64, (layout.SEGMENTS + segment * layout.SEGMENT_SIZE + layout.BASE) // 8
    return lambda offset: offset + u64[base] & _ALL
