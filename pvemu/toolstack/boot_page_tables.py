"""The page tables that a new 32-bit PV domain starts on: their number, order and contents.

The order is the one in which Xen's own builder hands out frames: the L3 first; then, as the mapping
grows upwards, each L1 just before the L2 that is needed with it; last the L2s of the slots that nothing is
mapped in, because a 32-bit guest's L3 always has its four slots filled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pvemu.memory.page_tables import ACCESSED, DIRTY, PRESENT, USER, WRITABLE
from pvemu.memory.ram import PAGE_SIZE

L1_COVERS = 1 << 21
"""Bytes mapped by one L1 table."""
L2_COVERS = 1 << 30
"""Bytes mapped by one L2 table."""
L3_SLOTS = 4
TABLE_ENTRIES = 512

CLEAN_PAGE = PRESENT | WRITABLE | ACCESSED
WRITTEN_PAGE = CLEAN_PAGE | DIRTY
READ_ONLY_PAGE = PRESENT | ACCESSED
TABLE_LINK = PRESENT | WRITABLE | USER | ACCESSED | DIRTY


class PageTableEntry(NamedTuple):
    """Entry `slot` of the table in `table_pfn` maps `target_pfn` with `flags` (the low 12 bits)."""

    table_pfn: int
    slot: int
    target_pfn: int
    flags: int


@dataclass(frozen=True, slots=True)
class PageTable:
    """One table: its level (3, 2, 1), its frame, and the first virtual address that it can map."""

    level: int
    pfn: int
    virtual: int


def boot_table_count(start: int, end: int) -> int:
    """Number of tables that map `start` to `end` (virtual addresses): L3, four L2s, and the L1s."""
    return 1 + L3_SLOTS + -(-end // L1_COVERS) - start // L1_COVERS


def boot_tables(start: int, end: int, first_pfn: int) -> tuple[PageTable, ...]:
    """The tables that map `start` to `end`, in frames from `first_pfn` on, in the order of their frames."""
    order = dict.fromkeys([(3, 0)])
    for virtual in range(start // L1_COVERS * L1_COVERS, end, L1_COVERS):
        order[1, virtual] = None
        order[2, virtual // L2_COVERS * L2_COVERS] = None
    for slot in range(L3_SLOTS):
        order[2, slot * L2_COVERS] = None
    return tuple(PageTable(level, first_pfn + at, virtual) for at, (level, virtual) in enumerate(order))


def boot_entries(tables: tuple[PageTable, ...], start: int, l1_flags: bytes) -> Iterator[PageTableEntry]:
    """Every present entry of `tables`; page `n` after `start` is pfn `n`, mapped with `l1_flags[n]`."""
    (l3_table,) = (table for table in tables if table.level == 3)
    l2_tables = {table.virtual // L2_COVERS: table for table in tables if table.level == 2}
    for slot, table in sorted(l2_tables.items()):
        yield PageTableEntry(l3_table.pfn, slot, table.pfn, TABLE_LINK)
    for table in tables:
        if table.level == 1:
            l2_table = l2_tables[table.virtual // L2_COVERS]
            yield PageTableEntry(l2_table.pfn, table.virtual % L2_COVERS // L1_COVERS, table.pfn, TABLE_LINK)
            yield from _l1_entries(table, start, l1_flags)


def _l1_entries(table: PageTable, start: int, l1_flags: bytes) -> Iterator[PageTableEntry]:
    for index in range(TABLE_ENTRIES):
        pfn = (table.virtual - start) // PAGE_SIZE + index
        if 0 <= pfn < len(l1_flags):
            yield PageTableEntry(table.pfn, index, pfn, l1_flags[pfn])
