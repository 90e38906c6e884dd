"""The walk of a guest's own page tables as a processor does it: rights, error codes, accessed and dirty bits.

The tables lie in guest-physical memory, so each step goes through the domain's physical-to-machine map. The
rules are those of the AMD64 Architecture Programmer's Manual volume 2, chapter 5 and section 8.4.2, for a
processor with 40 physical address bits, PSE-36, 1 GiB pages, and without SMEP, SMAP and protection keys. A
PAE guest's four page-directory-pointer entries are read when they are used, as AMD-V does under nested
paging (section 15.25.10), so reserved bits in them are a page fault, never a fault at the load of CR3.
Where manuals leave a choice, this is what the engine does when it walks the tables itself.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.memory.page_tables import (
    ACCESSED,
    DIRTY,
    FAULT_FETCH,
    FAULT_PRESENT,
    FAULT_RESERVED,
    FAULT_USER,
    FAULT_WRITE,
    FOUR_LEVEL,
    LARGE,
    NO_EXECUTE,
    PAE,
    PRESENT,
    TRANSLATED,
    TWO_LEVEL,
    USER,
    WRITABLE,
    Level,
    PagingFormat,
)
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE, Ram

PHYSICAL_BITS: Final = 40

_CR0_WP: Final = 1 << 16
_CR0_PG: Final = 1 << 31
_CR4_PSE: Final = 1 << 4
_CR4_PAE: Final = 1 << 5
_EFER_LME: Final = 1 << 8
_EFER_NXE: Final = 1 << 11

#: The frame number's bits of an entry, and the address bits that this processor doesn't have.
_ADDRESS_MASK: Final = (1 << PHYSICAL_BITS) - PAGE_SIZE
_BEYOND_PHYSICAL: Final = (1 << 52) - (1 << PHYSICAL_BITS)
#: Bits 52 to 62: the guest's own below long mode's four levels, reserved in PAE.
_HIGH_BITS: Final = (1 << 63) - (1 << 52)
_PAT_OF_LARGE: Final = 1 << 12
#: In a 4 MiB entry bits 13 to 20 are the address bits 32 to 39 (PSE-36), and bit 21 is reserved.
_PSE36: Final = 0xFF << 13
_PSE36_SHIFT: Final = 32 - 13
_PSE36_RESERVED: Final = 1 << 21
#: In PAE, the table of four entries may begin at any multiple of 32 bytes.
_PAE_ROOT_SHIFT: Final = 5
_ALL_RIGHTS: Final = WRITABLE | USER

#: What a table in no RAM reads as, by the size of an entry.
NOBODY: Final = {4: (1 << 32) - 1, 8: (1 << 64) - 1}


class PagingMode(NamedTuple):
    """What the control registers say about paging.

    `form` is None while paging is off, and all the rest False then; `large_pages` matters only in two levels.
    """

    form: PagingFormat | None
    write_protect: bool = False  #: CR0.WP: supervisors, too, may write only what is writable
    no_execute: bool = False  #: EFER.NXE, where entries have that bit
    large_pages: bool = False  #: CR4.PSE, implied by more than two levels

    @classmethod
    def of(cls, cr0: int, cr4: int, efer: int) -> "PagingMode":
        """The mode that a processor with these registers is in."""
        if not cr0 & _CR0_PG:
            return cls(None)
        protects = bool(cr0 & _CR0_WP)
        if not cr4 & _CR4_PAE:
            return cls(TWO_LEVEL, protects, False, bool(cr4 & _CR4_PSE))
        form = FOUR_LEVEL if efer & _EFER_LME else PAE
        return cls(form, protects, bool(efer & _EFER_NXE), True)


class GuestPageFault(Exception):
    """The guest's tables do not allow an access.

    Attributes:
        address: the linear address; error_code: as the processor would push it.
    """

    def __init__(self, address: int, error_code: int) -> None:
        super().__init__(f"page fault at 0x{address:x}, error code 0x{error_code:x}")
        self.address = address
        self.error_code = error_code


class GuestEntry(NamedTuple):
    """A page-table entry of the guest (gl4e to gl1e) that was used by a walk.

    `slot` counts entries from the beginning of the frame, `value` is the entry after the walk.
    """

    level: int
    gfn: int
    slot: int
    value: int


class GuestTranslation(NamedTuple):
    """Where a linear address leads.

    `address` is guest-physical; `rights` (WRITABLE, USER) and `executable` are what all levels together
    allow; `page_size` is in bytes; `entries` are those on the way, from the root down (none without paging).
    """

    address: int
    rights: int
    executable: bool
    page_size: int
    entries: tuple[GuestEntry, ...]


def _everywhere(_gfn: int) -> bool:
    return True


def root_of(mode: PagingMode, cr3: int) -> tuple[int, int]:
    """Where the root table is that CR3 names: its frame, and its first entry within that frame."""
    if mode.form is PAE:
        return cr3 >> PAGE_SHIFT & 0xFFFFF, (cr3 & (PAGE_SIZE - 1)) >> _PAE_ROOT_SHIFT << 2
    if mode.form is TWO_LEVEL:
        return cr3 >> PAGE_SHIFT & 0xFFFFF, 0
    return (cr3 & _ADDRESS_MASK) >> PAGE_SHIFT, 0


class Step(NamedTuple):
    """What one level of the tables means in a mode: how an address chooses an entry, and how that is read.

    Attributes:
        level: its number; shift and last: `address >> shift & last` is the entry's number.
        has_rights: entries carry rights and an accessed bit.
        large: LARGE where an entry may map memory itself.
        reserved, reserved_large: the bits that must be 0, without and with LARGE.
        frame_bits, frame_bits_large, pse36: where the frame's number is.
    """

    level: int
    shift: int
    last: int
    has_rights: bool
    large: int
    reserved: int
    reserved_large: int
    frame_bits: int
    frame_bits_large: int
    pse36: int

    def is_sound(self, entry: int) -> bool:
        """Whether a present entry has no reserved bits set."""
        return not entry & (self.reserved_large if entry & self.large else self.reserved)

    def frame(self, entry: int) -> int:
        """The guest frame that a sound entry names: the next table, or the first one of its page."""
        if entry & self.large:
            return (entry & self.frame_bits_large | (entry & self.pse36) << _PSE36_SHIFT) >> PAGE_SHIFT
        return (entry & self.frame_bits) >> PAGE_SHIFT

    @classmethod
    def of(cls, form: PagingFormat, level: Level, no_execute: bool, large_pages: bool) -> "Step":
        """What a level of a format means."""
        two_levels = form is TWO_LEVEL
        reserved = 0 if two_levels else _BEYOND_PHYSICAL
        if form is PAE or (form is TRANSLATED and not level.has_rights):
            reserved |= _HIGH_BITS
        if not two_levels and not (no_execute and level.has_rights):
            reserved |= NO_EXECUTE
        inside = (1 << level.shift) - PAGE_SIZE
        return cls(
            level.number,
            level.shift,
            level.entries - 1,
            level.has_rights,
            LARGE if level.may_be_large and large_pages else 0,
            reserved | (LARGE if level.number == 4 else 0),
            _PSE36_RESERVED if two_levels else reserved | inside & ~_PAT_OF_LARGE,
            _ADDRESS_MASK,
            _ADDRESS_MASK & ~inside,
            _PSE36 if two_levels else 0,
        )


_STEPS: Final = {
    (form.name, no_execute, large_pages): tuple(
        Step.of(form, level, no_execute, large_pages) for level in form.levels
    )
    for form in (TWO_LEVEL, PAE, TRANSLATED, FOUR_LEVEL)
    for no_execute in (False, True)
    for large_pages in (False, True)
}


def steps_of(mode: PagingMode) -> tuple[Step, ...]:
    """The steps of a walk in a mode, from the root down; none without paging."""
    return () if mode.form is None else _STEPS[mode.form.name, mode.no_execute, mode.large_pages]


def walk(
    ram: Ram,
    lookup: Callable[[int], int | None],
    mode: PagingMode,
    cr3: int,
    address: int,
    access: int,
    *,
    is_writable: Callable[[int], bool] = _everywhere,
    update: bool = True,
) -> GuestTranslation:
    """Translate a linear address through a guest's tables; set accessed and dirty bits as a processor does.

    Accessed is set in each entry on the way as soon as it has been used, even when a lower one then faults;
    in the last one, with dirty for a write, only if the access is allowed. A table where there is no RAM
    reads as all ones, and one in memory that can't be written keeps its bits: neither stops the walk.

    Args:
        lookup: guest frame to machine frame; None: no RAM is there.
        address: canonical; the caller sees to that.
        access: FAULT_WRITE, FAULT_USER and FAULT_FETCH as they apply; 0 is a supervisor's read.
        is_writable: whether the guest may write a frame that `lookup` knows.
        update: False leaves accessed and dirty bits as they are.

    Raises:
        GuestPageFault: the tables do not allow it.
    """
    form = mode.form
    if form is None:
        return GuestTranslation(address, _ALL_RIGHTS, True, PAGE_SIZE, ())
    wide = form.entry_size == 8
    table, table_shift, nobody = (ram.u64, 9, NOBODY[8]) if wide else (ram.u32, 10, NOBODY[4])
    gfn, first = root_of(mode, cr3)
    rights, executable = _ALL_RIGHTS, True
    entries: list[GuestEntry] = []
    for step in steps_of(mode):
        level, shift, last, has_rights, large, reserved, reserved_large, *_ = step
        mfn = lookup(gfn)
        slot = first + (address >> shift & last)
        at = -1 if mfn is None else (mfn << table_shift) + slot
        entry = nobody if mfn is None else table[at]
        if not entry & PRESENT:
            raise _fault(mode, address, access, 0)
        is_last = level == 1 or entry & large
        sound = not entry & (reserved_large if entry & large else reserved)
        # The engine marks a 1 GiB entry as used before it looks at its rights and alignment.
        early = level == 3 and has_rights and not entry & reserved
        if not sound and not early:
            raise _fault(mode, address, access, FAULT_PRESENT | FAULT_RESERVED)
        if has_rights:
            rights &= entry
            executable = executable and not entry & NO_EXECUTE
        allowed = not is_last or (sound and _is_allowed(mode, rights, executable, access))
        if has_rights and (allowed or early):
            wanted = entry | ACCESSED
            if is_last and allowed and access & FAULT_WRITE:
                wanted |= DIRTY
            if wanted != entry and update and mfn is not None and is_writable(gfn):
                table[at] = entry = wanted
        if not allowed:
            raise _fault(mode, address, access, FAULT_PRESENT | (0 if sound else FAULT_RESERVED))
        entries.append(GuestEntry(level, gfn, slot, entry))
        gfn, first = step.frame(entry), 0
        if is_last:
            break
    page_size = 1 << shift
    place = (gfn << PAGE_SHIFT) + (address & (page_size - 1))
    return GuestTranslation(place, rights, executable, page_size, tuple(entries))


def _is_allowed(mode: PagingMode, rights: int, executable: bool, access: int) -> bool:
    if access & FAULT_USER and not rights & USER:
        return False
    if access & FAULT_WRITE and not rights & WRITABLE and (access & FAULT_USER or mode.write_protect):
        return False
    return executable or not access & FAULT_FETCH


def _fault(mode: PagingMode, address: int, access: int, why: int) -> GuestPageFault:
    code = why | access & (FAULT_WRITE | FAULT_USER)
    if mode.no_execute:
        code |= access & FAULT_FETCH
    return GuestPageFault(address, code)
