"""A domain's grant table: the entries that it shares with the hypervisor, and those of them that are in use.

An entry in use is pinned: the hypervisor then goes by what it found when the first use began (`ActiveEntry`),
whatever the guest writes there meanwhile. Answers: golden pv32-*, family gnttab; recorded: mapping.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pvemu.abi.errors import GrantRefused
from pvemu.abi.grant_table import (
    GNTST_general_error,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)
from pvemu.hypervisor.gfn import machine_frame
from pvemu.hypervisor.maptrack import Maptrack
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

#: Frames of entries that a domain may have (Xen's default of gnttab_max_frames).
MAX_FRAMES: Final = 64
_INITIAL_FRAMES: Final = 1

#: Entries in a frame, as a shift, and the bytes of one, as a shift, in versions 1 and 2.
_ENTRIES_SHIFT: Final = (0, 9, 8)
_ENTRY_SHIFT: Final = (0, 3, 4)
#: Status words in a frame, as a shift; each has two bytes.
_STATUS_SHIFT: Final = 11

# How an entry is pinned: four counters in one number.
HOST_WRITE: Final = 1
HOST_READ: Final = 1 << 8
DEVICE_WRITE: Final = 1 << 16
DEVICE_READ: Final = 1 << 24
WRITERS: Final = 0xFF | 0xFF << 16
#: A counter that has reached 128 takes no more: its upper bit, seen from an increment.
_FULL_SHIFT: Final = 7


@dataclass(slots=True)
class ActiveEntry:
    """What an entry granted when its use began.

    Attributes:
        domid: to whom. mfn: which frame. pin: how often it is used, and how.
        start, length: the bytes that may be copied; is_sub_page: they are not the whole frame, or come from
            a transitive grant, so that it can't be mapped.
        trans_domain, trans_gref: whose grant this really is.
    """

    domid: int
    mfn: int
    trans_domain: "Domain"
    trans_gref: int
    start: int = 0
    length: int = PAGE_SIZE
    is_sub_page: bool = False
    pin: int = 0

    def is_full(self, increment: int) -> bool:
        """Whether a counter that is to be incremented has reached its end."""
        return bool(self.pin & increment << _FULL_SHIFT)


class GrantTable:
    """The grant table of one domain.

    Attributes:
        domain: whose table it is.
        version: 1 or 2, the form of its entries.
        frames: machine frames of its entries; status_frames: of its status words (version 2).
        active: the entries in use, by reference.
        maptrack: what the domain itself has mapped of others.
    """

    def __init__(self, domain: "Domain") -> None:
        self.domain = domain
        self._hypervisor = domain.hypervisor
        ram = domain.hypervisor.ram
        self._u16, self._u32, self._u64 = ram.u16, ram.u32, ram.u64
        self.version = 1
        self.frames: list[int] = []
        self.status_frames: list[int] = []
        self.active: dict[int, ActiveEntry] = {}
        self.maptrack = Maptrack()

    # --- frames ----------------------------------------------------------------------------------

    @property
    def entries(self) -> int:
        """How many references there are."""
        return len(self.frames) << _ENTRIES_SHIFT[self.version]

    def grow(self, number: int) -> bool:
        """Have at least so many frames, and their status frames; False: there is no memory for them."""
        number = max(number, _INITIAL_FRAMES)
        taken = self._take(number - len(self.frames))
        if taken is None:
            return False
        if self.version > 1 and not self.add_status_frames(number):
            self._free(taken)
            return False
        self.frames += taken
        return True

    def add_status_frames(self, number: int) -> bool:
        """Have status words for the entries in so many frames; False: there is no memory for them."""
        taken = self._take(status_frames_for(number) - len(self.status_frames))
        if taken is None:
            return False
        self.status_frames += taken
        return True

    def drop_status_frames(self) -> bool:
        """Give the status frames back; False: the guest still maps one."""
        if any(self._hypervisor.frames.count[mfn] > 1 for mfn in self.status_frames):
            return False
        self._free(self.status_frames)
        self.status_frames = []
        return True

    def drop_frames(self) -> None:
        """Give all frames back: the domain is gone, and nobody refers to them any more."""
        self._free(self.frames + self.status_frames)
        self.frames, self.status_frames = [], []

    def _take(self, number: int) -> list[int] | None:
        taken: list[int] = []
        try:
            for _ in range(number):
                taken.append(self._hypervisor.allocate_shared_page(self.domain.domid))
        except OutOfFrames:
            self._free(taken)
            return None
        return taken

    def _free(self, frames: list[int]) -> None:
        for mfn in frames:
            self._hypervisor.free_xen_page(mfn)

    # --- entries ---------------------------------------------------------------------------------

    def address(self, ref: int) -> int:
        """Machine address of an entry."""
        shift = _ENTRIES_SHIFT[self.version]
        inside = (ref & (1 << shift) - 1) << _ENTRY_SHIFT[self.version]
        return self.frames[ref >> shift] << PAGE_SHIFT | inside

    def status_index(self, ref: int) -> int:
        """Where reading and writing of an entry are told, as an index of 16-bit words of RAM."""
        if self.version == 1:
            return self.address(ref) >> 1
        frame = self.status_frames[ref >> _STATUS_SHIFT]
        return frame << PAGE_SHIFT - 1 | ref & (1 << _STATUS_SHIFT) - 1

    def flags(self, ref: int) -> int:
        """The GTF_* flags of an entry as the guest has them now."""
        return self._u16[self.address(ref) >> 1]

    def status_word(self, ref: int) -> int:
        """What the guest is told of an entry's use; in version 1 among the entry's flags."""
        return self._u16[self.status_index(ref)]

    def domid(self, ref: int) -> int:
        """The domain that an entry names now."""
        return self._u16[(self.address(ref) >> 1) + 1]

    def frame(self, ref: int) -> int:
        """The frame number that an entry names now, in whatever form it grants it."""
        at = self.address(ref)
        return self._u32[(at >> 2) + 1] if self.version == 1 else self._u64[(at >> 3) + 1]

    def machine_frame(self, ref: int) -> int:
        """The machine frame that an entry names now; INVALID_MFN when the domain has none of that number."""
        return machine_frame(self.domain, self.frame(ref))

    def set_frame(self, ref: int, mfn: int) -> None:
        """Write a frame number into an entry."""
        at = self.address(ref)
        if self.version == 1:
            self._u32[(at >> 2) + 1] = mfn
        else:
            self._u64[(at >> 3) + 1] = mfn

    def set_header(self, ref: int, flags: int, domid: int) -> None:
        """Write the flags and the domain of an entry."""
        at = self.address(ref) >> 1
        self._u16[at], self._u16[at + 1] = flags, domid

    def seed(self, ref: int, domid: int, mfn: int) -> None:
        """Grant a frame to a domain, as a toolstack does for the console (libxc: xc_dom_gnttab_seed)."""
        self.set_frame(ref, mfn)
        self.set_header(ref, GTF_permit_access, domid)

    def swap(self, first: int, second: int) -> None:
        """Let two entries that are not in use change places, with their status words."""
        u8 = self._hypervisor.ram.u8
        size = 1 << _ENTRY_SHIFT[self.version]
        here, there = (slice(at, at + size) for at in (self.address(first), self.address(second)))
        u8[here], u8[there] = bytes(u8[there]), bytes(u8[here])
        if self.version > 1:
            one, other = self.status_index(first), self.status_index(second)
            self._u16[one], self._u16[other] = self._u16[other], self._u16[one]

    # --- use -------------------------------------------------------------------------------------

    def set_status(self, ref: int, domid: int, *, readonly: bool, mapping: bool) -> None:
        """See whether an entry lets a domain read, or write, and tell the guest that it does so.

        Once an entry is pinned its type and domain don't count any more.

        Raises:
            GrantRefused: GNTST_general_error.
        """
        at = self.address(ref) >> 1
        flags = self._u16[at]
        if ref not in self.active:
            kind = flags & (GTF_type_mask | GTF_sub_page if mapping else GTF_type_mask)
            is_transitive = kind == GTF_transitive and self.version > 1 and not mapping
            if (kind != GTF_permit_access and not is_transitive) or self._u16[at + 1] != domid:
                raise GrantRefused(GNTST_general_error)
        if not readonly and flags & GTF_readonly:
            raise GrantRefused(GNTST_general_error)
        self._u16[self.status_index(ref)] |= GTF_reading if readonly else GTF_reading | GTF_writing

    def pin(self, ref: int, entry: ActiveEntry, increment: int) -> None:
        """Count one more use of an entry, perhaps its first."""
        self.active[ref] = entry
        entry.pin += increment

    def unpin(self, ref: int, decrement: int, *, readonly: bool) -> None:
        """Count one use less of an entry, and tell the guest."""
        entry = self.active[ref]
        entry.pin -= decrement
        if not entry.pin:
            del self.active[ref]
        self.reduce_status(ref, readonly=readonly)

    def reduce_status(self, ref: int, *, readonly: bool) -> None:
        """Take back what the guest was told of an entry and is not so any more."""
        entry = self.active.get(ref)
        clear = 0 if entry is not None else GTF_reading
        if not readonly and (entry is None or not entry.pin & WRITERS):
            clear |= GTF_writing
        self._u16[self.status_index(ref)] &= ~clear & 0xFFFF


def status_frames_for(frames: int) -> int:
    """How many status frames so many frames of version 2 need."""
    return -(-(frames << _ENTRIES_SHIFT[2]) >> _STATUS_SHIFT) if frames else 0


def frames_for_status(status_frames: int) -> int:
    """How many frames of version 2 so many status frames are for."""
    return -(-(status_frames << _STATUS_SHIFT) >> _ENTRIES_SHIFT[2])
