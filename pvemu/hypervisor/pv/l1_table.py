"""Whole L1 tables: the references of all their entries, taken together or given back together.

Most tables are full, and of ordinary pages. A table is looked at as one number whose 512 digits are the
entries, so that a few operations tell; then the counts of all its frames change in one loop, or in none if
the frames lie in a row, as the heap gives them out. Any other table is gone through entry by entry.
"""

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import DOMID_IO
from pvemu.hypervisor.pv.entry_rules import L1_DISALLOWED, PLAIN
from pvemu.memory.frames import PGT_WRITABLE, Frames
from pvemu.memory.page_tables import FRAME_MASK_64, PRESENT, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.pv.page_types import PageTypes

_TABLE: Final = struct.Struct("<512Q")
_ENTRIES: Final = 512
_EMPTY: Final = bytes(PAGE_SIZE)
_LOOKED_AT: Final = L1_DISALLOWED | PLAIN | PRESENT

#: Tables as numbers: each entry is 1; each entry is its own index.
_ONES: Final = sum(1 << 64 * index for index in range(_ENTRIES))
_INDEXES: Final = sum(index << 64 * index for index in range(_ENTRIES))
_ALL_LOOKED_AT, _ALL_PLAIN, _ALL_FRAMES = (
    each * _ONES for each in (_LOOKED_AT, PRESENT | WRITABLE, FRAME_MASK_64)
)


class _Row:
    """Frames in a row, each mapped once in whatever order, and what is done to all of them at once."""

    is_distinct: Final = True

    def __init__(self, first: int) -> None:
        self.highest = first + _ENTRIES - 1
        self._run = slice(first, first + _ENTRIES)

    def read(self, column: list[int]) -> Sequence[int]:
        """The number of each frame."""
        return column[self._run]

    def count(self, frames: Frames, change: int) -> None:
        """Count a general and a typed reference more, or less, on each. Mostly all have the same number."""
        for column in (frames.count, frames.type_count):
            numbers = column[self._run]
            first = numbers[0]
            alike = numbers.count(first) == _ENTRIES
            column[self._run] = [first + change] * _ENTRIES if alike else [each + change for each in numbers]


class _Scattered:
    """The same for frames anywhere."""

    def __init__(self, mfns: list[int]) -> None:
        self._mfns = mfns
        self.highest = max(mfns)
        self.read: Callable[[list[int]], Sequence[int]] = itemgetter(*mfns)

    @property
    def is_distinct(self) -> bool:
        """Whether no frame is there twice."""
        return len(set(self._mfns)) == _ENTRIES

    def count(self, frames: Frames, change: int) -> None:
        """Count both references, for each time that a frame is there."""
        count, type_count = frames.count, frames.type_count
        for mfn in self._mfns:
            count[mfn] += change
            type_count[mfn] += change


def _plain_frames(raw: bytes) -> _Row | _Scattered | None:
    """The frames that the entries of a table are for, if all are present, writable and plain."""
    table = int.from_bytes(raw, "little")
    if table & _ALL_LOOKED_AT != _ALL_PLAIN:
        return None
    table = table >> PAGE_SHIFT & _ALL_FRAMES
    first = table & FRAME_MASK_64
    if table == first * _ONES + _INDEXES:
        return _Row(first)
    mfns = memoryview(table.to_bytes(PAGE_SIZE, "little")).cast("Q").tolist()
    # For the counts the order does not matter, and kernels give pages out from either end.
    if max(mfns) - min(mfns) == _ENTRIES - 1 and len(set(mfns)) == _ENTRIES:
        return _Row(min(mfns))
    return _Scattered(mfns)


class L1Tables:
    """Takes and gives back what L1s of a machine hold."""

    def __init__(self, hypervisor: "Hypervisor", types: "PageTypes") -> None:
        self._types = types
        self._ram, self._frames = hypervisor.ram, hypervisor.frames

    def take(self, domain: "Domain", mfn: int) -> int:
        """Look through a frame that is to be an L1 and take its references; 0 or a negative errno."""
        raw = self._read(mfn)
        if raw == _EMPTY:
            return 0
        plain, frames = _plain_frames(raw), self._frames
        if (
            plain is not None
            and plain.highest < frames.number
            and plain.read(frames.owner).count(domain.domid) == _ENTRIES
            and plain.read(frames.type).count(PGT_WRITABLE) == _ENTRIES
            and 0 not in plain.read(frames.count)
        ):
            plain.count(frames, 1)
            return 0
        return self._take_each(domain, mfn, _TABLE.unpack(raw))

    def give_back(self, mfn: int) -> None:
        """Give back the references that an L1 holds."""
        raw = self._read(mfn)
        if raw == _EMPTY:
            return
        plain, frames = _plain_frames(raw), self._frames
        if (
            plain is not None
            and plain.highest < frames.number
            and plain.is_distinct
            and DOMID_IO not in plain.read(frames.owner)
            and 1 not in plain.read(frames.count)
        ):
            plain.count(frames, -1)
            return
        self._give_each(_TABLE.unpack(raw))

    def _read(self, mfn: int) -> bytes:
        return self._ram.memory[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT]

    # The common case, an ordinary page of the domain's own, is written out in both loops: that halves them.

    def _give_each(self, entries: tuple[int, ...]) -> None:
        frames, put_page_from_l1e = self._frames, self._types.put_page_from_l1e
        number, owner, count, type_count = frames.number, frames.owner, frames.count, frames.type_count
        for entry in entries:
            if not entry & PRESENT:
                continue
            mfn = entry >> PAGE_SHIFT & FRAME_MASK_64
            if entry & WRITABLE and mfn < number and count[mfn] > 1 and owner[mfn] != DOMID_IO:
                type_count[mfn] -= 1
                count[mfn] -= 1
            else:
                put_page_from_l1e(entry)

    def _take_each(self, domain: "Domain", table: int, entries: tuple[int, ...]) -> int:
        types, first, domid = self._types, table << 9, domain.domid
        frames = self._frames
        number, owner, count = frames.number, frames.owner, frames.count
        kind, type_count = frames.type, frames.type_count
        for index, entry in enumerate(entries):
            if not entry & PRESENT:
                continue
            mfn = entry >> PAGE_SHIFT & FRAME_MASK_64
            if (
                entry & PLAIN == WRITABLE
                and mfn < number
                and (kind[mfn] == PGT_WRITABLE and owner[mfn] == domid and count[mfn])
            ):
                count[mfn] += 1
                type_count[mfn] += 1
                continue
            result = types.get_page_from_l1e(entry, domain, domain)
            if result > 0:
                self._ram.u64[first + index] = entry ^ result
            elif result < 0:
                for done in self._ram.u64[first : first + index].tolist():
                    if done & PRESENT:
                        types.put_page_from_l1e(done)
                return result
        return 0
