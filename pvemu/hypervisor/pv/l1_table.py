"""Whole L1 tables: the references of all their entries, taken together or given back together.

Most tables map frames that lie in a row, as the heap gives them out; that is seen at once, and counted
for all of them together. Any other table is gone through entry by entry.
"""

import struct
from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import DOMID_IO
from pvemu.hypervisor.pv.entry_rules import L1_DISALLOWED, PLAIN
from pvemu.memory.frames import PGT_WRITABLE
from pvemu.memory.page_tables import ACCESSED, DIRTY, FRAME_MASK_64, PRESENT, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.pv.page_types import PageTypes

_TABLE: Final = struct.Struct("<512Q")
_ENTRIES: Final = 512
_EMPTY: Final = bytes(PAGE_SIZE)
_IGNORED: Final = ~(ACCESSED | DIRTY)
_LOOKED_AT: Final = L1_DISALLOWED | PLAIN | PRESENT


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
        entries = _TABLE.unpack(raw)
        frames, run = self._frames, self._run(entries)
        if run is not None and (
            frames.owner[run].count(domain.domid) == frames.type[run].count(PGT_WRITABLE) == _ENTRIES
            and 0 not in frames.count[run]
        ):
            frames.count[run] = [count + 1 for count in frames.count[run]]
            frames.type_count[run] = [count + 1 for count in frames.type_count[run]]
            return 0
        return self._take_each(domain, mfn, entries)

    def give_back(self, mfn: int) -> None:
        """Give back the references that an L1 holds."""
        raw = self._read(mfn)
        if raw == _EMPTY:
            return
        entries = _TABLE.unpack(raw)
        frames, run = self._frames, self._run(entries)
        if run is not None and DOMID_IO not in frames.owner[run] and min(frames.count[run]) > 1:
            frames.count[run] = [count - 1 for count in frames.count[run]]
            frames.type_count[run] = [count - 1 for count in frames.type_count[run]]
            return
        self._give_each(entries)

    def _read(self, mfn: int) -> bytes:
        return bytes(self._ram.u8[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT])

    def _run(self, entries: tuple[int, ...]) -> slice | None:
        """The frames that the entries map, if all are plain, writable, and for one frame after the other."""
        first = entries[0] & _IGNORED
        last = first + (_ENTRIES - 1 << PAGE_SHIFT)
        if first & _LOOKED_AT != PRESENT | WRITABLE or entries[-1] & _IGNORED != last:
            return None
        if [entry & _IGNORED for entry in entries] != list(range(first, last + 1, PAGE_SIZE)):
            return None
        start = first >> PAGE_SHIFT & FRAME_MASK_64
        return slice(start, start + _ENTRIES) if start + _ENTRIES <= self._frames.number else None

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
