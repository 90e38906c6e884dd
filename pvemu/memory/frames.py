"""What is known of every machine frame: its owner, its type, and exact counts of who uses it how.

This is Xen's `page_info`. A frame has one type at a time; `type_count` says how many uses rely on that
type, and only at zero may it change. That is why no frame is ever writable and a page table at once.
What makes a frame fit to be a page table is decided in the hypervisor (pv/mm.py), not here.
"""

from array import array
from enum import IntEnum
from typing import Final

from pvemu.abi.xen import DOMID_INVALID, DOMID_XEN


class FrameType(IntEnum):
    """Types of a frame, with Xen's numbers (PGT_*)."""

    NONE = 0
    L1_PAGE_TABLE = 1
    L2_PAGE_TABLE = 2
    L3_PAGE_TABLE = 3
    L4_PAGE_TABLE = 4
    SEG_DESC = 5
    SHARED = 6
    WRITABLE = 7


#: As plain numbers, for the paths that every page-table update takes.
PGT_NONE, PGT_L1, PGT_L2, PGT_L3, PGT_L4, PGT_SEG_DESC, _, PGT_WRITABLE = (int(kind) for kind in FrameType)

NO_OWNER: Final = DOMID_INVALID


class Frames:
    """One entry for each machine frame, kept as columns indexed by mfn.

    Attributes:
        owner: the domain id; NO_OWNER for a free frame.
        count: references. The allocation itself holds one while `allocated` is set.
        type: a FrameType; type_count: uses that rely on it.
        validated: whether the contents were found fit for the type.
        pinned: whether the guest holds a type reference by MMUEXT_PIN.
        xen_l2: whether an L2 table serves the fourth GiB of a 32-bit guest, and so holds the
            hypervisor's entries (PGT_pae_xen_l2); part of the type.
        partial: whether only the first `validated_entries` entries of a table hold references, because
            its validation, or the opposite, was interrupted (PGT_partial). Nothing relies on its type then.
        l1_owner: the owners of all frames that are in use as L1s, validated, by mfn. It says nothing that the
            columns don't, but in one look, which is what every change of an entry begins with.
        linear: above 0, how many entries of an L2 map other L2s as tables; below, how many map it so.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        # Lists where every page-table update reads and counts: an array takes three times as long.
        self.owner = [NO_OWNER] * number
        self.count = [0] * number
        self.allocated = bytearray(number)
        self.type = [0] * number
        self.type_count = [0] * number
        self.validated = bytearray(number)
        self.pinned = bytearray(number)
        self.xen_l2 = bytearray(number)
        self.partial = bytearray(number)
        self.validated_entries = array("H", [0]) * number
        self.linear = array("h", [0]) * number
        self.l1_owner: dict[int, int] = {}

    def assign(self, mfn: int, domid: int) -> None:
        """Give a free frame to a domain: one reference, no type."""
        self.owner[mfn] = domid
        self.count[mfn] = 1
        self.allocated[mfn] = 1
        self.type[mfn] = PGT_NONE
        self.type_count[mfn] = 0
        self.validated[mfn] = self.pinned[mfn] = self.xen_l2[mfn] = self.partial[mfn] = self.linear[mfn] = 0

    def release(self, mfn: int) -> None:
        """Make a frame free again; its references must be gone."""
        self.owner[mfn] = NO_OWNER
        self.count[mfn] = self.type_count[mfn] = 0
        self.allocated[mfn] = self.type[mfn] = self.validated[mfn] = self.pinned[mfn] = self.xen_l2[mfn] = 0

    def share(self, mfn: int, domid: int, kind: int = PGT_WRITABLE) -> None:
        """Let a domain refer to one of the hypervisor's own frames (Xen: share_xen_page_with_guest).

        Its type is in use for good, so with PGT_NONE it can be read and never written.
        """
        self.owner[mfn] = domid
        self.count[mfn], self.allocated[mfn] = 1, 0
        self.type[mfn], self.type_count[mfn], self.validated[mfn] = kind, 1, 1

    def withhold(self, mfn: int) -> None:
        """Keep a frame for the hypervisor alone: nobody can take a reference on it, not even domain 0."""
        self.owner[mfn] = DOMID_XEN
        self.count[mfn] = self.allocated[mfn] = 0

    def get_page(self, mfn: int, domid: int) -> bool:
        """Take a reference, if the frame exists, is in use and belongs to the domain."""
        if mfn >= self.number or self.owner[mfn] != domid or not self.count[mfn]:
            return False
        self.count[mfn] += 1
        return True

    def describe(self, mfn: int) -> str:
        """A frame in one line, for logs."""
        if mfn >= self.number:
            return f"mfn {mfn:x}: not RAM"
        marks = "".join(mark for mark, on in (("V", self.validated[mfn]), ("P", self.pinned[mfn])) if on)
        return (
            f"mfn {mfn:x}: owner {self.owner[mfn]:#x}, {self.count[mfn]} references, "
            f"{FrameType(self.type[mfn]).name} x{self.type_count[mfn]} {marks}".rstrip()
        )
