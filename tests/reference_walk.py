"""A walk of a guest's tables written as plainly as can be: what the fast one is held against.

It knows guest memory as a dictionary of frames, and sets no bits: it says which would be set.
"""

from typing import NamedTuple

from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FOUR_LEVEL, PAE, TWO_LEVEL

Memory = dict[int, bytearray]


class Reached(NamedTuple):
    """The guest-physical address, and the entries (guest-physical address, bits to set) that were used."""

    address: int
    used: list[tuple[int, int]]


class Refused(NamedTuple):
    """The error code, and the entries that were used before."""

    error_code: int
    used: list[tuple[int, int]]


def read_entry(memory: Memory, address: int, size: int) -> int:
    """An entry at a guest-physical address: all ones where there is no memory."""
    frame = memory.get(address >> 12)
    if frame is None:
        return (1 << 8 * size) - 1
    return int.from_bytes(frame[address & 0xFFF : (address & 0xFFF) + size], "little")


def _bit(value: int, number: int) -> bool:
    return bool(value >> number & 1)


def _bits(value: int, first: int, last: int) -> int:
    return value >> first & (1 << last - first + 1) - 1


def reference_walk(
    memory: Memory, mode: PagingMode, cr3: int, address: int, *, write: bool, user: bool, fetch: bool
) -> Reached | Refused:
    """Translate an address as the manual's figures draw it."""
    kinds = {TWO_LEVEL: _two_levels, PAE: _pae, FOUR_LEVEL: _four_levels}
    if mode.form is None:
        return Reached(address, [])
    code = (2 if write else 0) | (4 if user else 0) | (16 if fetch and mode.no_execute else 0)
    used: list[tuple[int, int]] = []
    may_write = may_user = may_fetch = True
    for place, size, shift, level in kinds[mode.form](memory, mode, cr3, address):
        entry = read_entry(memory, place, size)
        if not _bit(entry, 0):
            return Refused(code, used)
        large = _bit(entry, 7) and level in (2, 3)
        if mode.form is TWO_LEVEL and not mode.large_pages:
            large = False
        if mode.form is PAE and level == 3:
            large = False
        gigabyte = level == 3 and mode.form is FOUR_LEVEL
        if _upper_reserved(mode, level, entry, large):
            return Refused(code | 1 | 8, used)
        if not (mode.form is PAE and level == 3):
            may_write, may_user = may_write and _bit(entry, 1), may_user and _bit(entry, 2)
            may_fetch = may_fetch and not (mode.form is not TWO_LEVEL and mode.no_execute and _bit(entry, 63))
            if gigabyte:
                used.append((place, 0x20))
        last = large or level == 1
        if last:
            if large and _misplaced(mode, level, entry):
                return Refused(code | 1 | 8, used)
            if user and not may_user:
                return Refused(code | 1, used)
            if write and not may_write and (user or mode.write_protect):
                return Refused(code | 1, used)
            if fetch and not may_fetch:
                return Refused(code | 1, used)
            used.append((place, 0x60 if write else 0x20))
            base = _bits(entry, 12, 39) << 12 if size == 8 else _bits(entry, 12, 31) << 12
            if large and size == 4:
                base = _bits(entry, 22, 31) << 22 | _bits(entry, 13, 20) << 32
            elif large:
                base = base >> shift << shift
            return Reached(base + address % (1 << shift), used)
        if not (mode.form is PAE and level == 3) and not gigabyte:
            used.append((place, 0x20))
    raise AssertionError("a walk ends at level 1")


def _upper_reserved(mode: PagingMode, level: int, entry: int, large: bool) -> bool:
    if mode.form is TWO_LEVEL:
        return False
    if _bits(entry, 40, 51):
        return True
    if _bit(entry, 63) and (not mode.no_execute or (mode.form is PAE and level == 3)):
        return True
    if mode.form is PAE and _bits(entry, 52, 62):
        return True
    return level == 4 and _bit(entry, 7)


def _misplaced(mode: PagingMode, level: int, entry: int) -> bool:
    if mode.form is TWO_LEVEL:
        return _bit(entry, 21)
    return bool(_bits(entry, 13, 20 if level == 2 else 29))


def _two_levels(memory: Memory, _mode: PagingMode, cr3: int, address: int):  # type: ignore[no-untyped-def]
    place = _bits(cr3, 12, 31) << 12 | _bits(address, 22, 31) << 2
    yield place, 4, 22, 2
    table = _bits(read_entry(memory, place, 4), 12, 31) << 12
    yield table | _bits(address, 12, 21) << 2, 4, 12, 1


def _pae(memory: Memory, _mode: PagingMode, cr3: int, address: int):  # type: ignore[no-untyped-def]
    place = _bits(cr3, 5, 31) << 5 | _bits(address, 30, 31) << 3
    yield place, 8, 30, 3
    for shift, level in ((21, 2), (12, 1)):
        table = _bits(read_entry(memory, place, 8), 12, 39) << 12
        place = table | _bits(address, shift, shift + 8) << 3
        yield place, 8, shift, level


def _four_levels(memory: Memory, _mode: PagingMode, cr3: int, address: int):  # type: ignore[no-untyped-def]
    table = _bits(cr3, 12, 39) << 12
    for shift, level in ((39, 4), (30, 3), (21, 2), (12, 1)):
        place = table | _bits(address, shift, shift + 8) << 3
        yield place, 8, shift, level
        table = _bits(read_entry(memory, place, 8), 12, 39) << 12
