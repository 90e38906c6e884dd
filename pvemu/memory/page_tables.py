"""Page-table formats as data, and the walk that the processor would make.

Bits and formats: AMD64 Architecture Programmer's Manual volume 2, chapter 5. A 32-bit PV guest's tables
have the PAE shape, but run below a fourth level in long mode, as on real Xen: so its L3 entries carry
the rights that PAE proper lacks, and the format is the three lower levels of the four-level one.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, Ram

PRESENT: Final = 1 << 0
WRITABLE: Final = 1 << 1
USER: Final = 1 << 2
WRITE_THROUGH: Final = 1 << 3
CACHE_DISABLE: Final = 1 << 4
ACCESSED: Final = 1 << 5
DIRTY: Final = 1 << 6
LARGE: Final = 1 << 7  #: in levels above the first; in an L1 entry it selects from the PAT
GLOBAL: Final = 1 << 8
AVAILABLE: Final = 7 << 9
NO_EXECUTE: Final = 1 << 63

#: Page-fault error code bits (APM volume 2, section 8.4.2).
FAULT_PRESENT: Final = 1
FAULT_WRITE: Final = 2
FAULT_USER: Final = 4
FAULT_RESERVED: Final = 8
FAULT_FETCH: Final = 16

#: The frame number's bits of a 64-bit entry, shifted down.
FRAME_MASK_64: Final = (1 << 40) - 1
_ALL_RIGHTS: Final = WRITABLE | USER


@dataclass(frozen=True)
class Level:
    """One level of a format: which address bits index it, and what its entries may say."""

    number: int
    shift: int
    entries: int
    has_rights: bool = True  #: entries carry WRITABLE and USER
    may_be_large: bool = False  #: an entry with LARGE maps memory itself


@dataclass(frozen=True)
class PagingFormat:
    """A format: its levels from the root down, and the size of an entry in bytes."""

    name: str
    entry_size: int
    levels: tuple[Level, ...]


_L1: Final = Level(1, 12, 512)
_L2: Final = Level(2, 21, 512, may_be_large=True)

TWO_LEVEL: Final = PagingFormat("2-level", 4, (Level(2, 22, 1024, may_be_large=True), Level(1, 12, 1024)))
PAE: Final = PagingFormat("PAE", 8, (Level(3, 30, 4, has_rights=False), _L2, _L1))
COMPAT: Final = PagingFormat("PAE below long mode", 8, (Level(3, 30, 4), _L2, _L1))
#: What a 32-bit PV guest is to believe whose tables are not used as they are: its L3 entries carry no rights,
#: as in PAE; the bits that PAE reserves are free, and CR3 names any frame, as below long mode.
TRANSLATED: Final = PagingFormat("PAE of a translated guest", 8, PAE.levels)
FOUR_LEVEL: Final = PagingFormat(
    "4-level", 8, (Level(4, 39, 512), Level(3, 30, 512, may_be_large=True), _L2, _L1)
)


class Translation(NamedTuple):
    """Where a linear address leads: its machine address, and the rights that all levels grant.

    `entry` is the last entry on the way, as an index into RAM in entries.
    """

    address: int
    rights: int
    executable: bool
    entry: int


def entry_frame(entry: int) -> int:
    """The frame number of a 64-bit entry."""
    return entry >> PAGE_SHIFT & FRAME_MASK_64


def walk(ram: Ram, form: PagingFormat, root: int, address: int) -> Translation | None:
    """Translate a linear address through the tables whose root is machine frame `root`.

    None when some entry on the way is absent or leads out of RAM. Accessed and dirty bits stay as they are.
    """
    frame, rights, executable = root, _ALL_RIGHTS, True
    table = ram.u64 if form.entry_size == 8 else ram.u32
    entries_shift = PAGE_SHIFT - (3 if form.entry_size == 8 else 2)
    for level in form.levels:
        if frame >= ram.frames:
            return None
        at = (frame << entries_shift) + (address >> level.shift & (level.entries - 1))
        entry = table[at]
        if not entry & PRESENT:
            return None
        if level.has_rights:
            rights &= entry
            executable = executable and not entry & NO_EXECUTE
        frame = entry >> PAGE_SHIFT & FRAME_MASK_64
        if level.may_be_large and entry & LARGE:
            inside = (1 << level.shift) - 1
            return Translation((frame << PAGE_SHIFT) & ~inside | address & inside, rights, executable, at)
    return Translation(frame << PAGE_SHIFT | address & PAGE_MASK, rights, executable, at)
