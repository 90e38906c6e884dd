"""Typed references: how a frame becomes a page table, and stays one as long as anything relies on it.

A frame may be used as a page table only after every entry in it was found fit; each present entry then
holds references on what it maps. Giving the last use back lets those references go. Rules: public
header xen.h (mmu_update, mmuext_op); answers: golden pv32-*, families mmu_update, mmuext, uvm.

Functions return 0 or a negative errno, as the hypercalls that they serve.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import DOMID_IO
from pvemu.hypervisor.address_space import FIRST_XEN_L2_SLOT, fill_xen_l2_slots
from pvemu.hypervisor.pv.descriptor_check import validate_descriptor_frame
from pvemu.memory.frames import NO_OWNER, PGT_L1, PGT_L2, PGT_L3, PGT_NONE, PGT_SEG_DESC, PGT_WRITABLE
from pvemu.memory.page_tables import (
    CACHE_DISABLE,
    GLOBAL,
    LARGE,
    NO_EXECUTE,
    PRESENT,
    USER,
    WRITABLE,
    WRITE_THROUGH,
    entry_frame,
)

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

_EINVAL, _EBUSY, _EPERM = (-int(number) for number in (Errno.EINVAL, Errno.EBUSY, Errno.EPERM))

_CACHE_BITS: Final = WRITE_THROUGH | CACHE_DISABLE | LARGE
_RESERVED: Final = 0x7FF << 52  #: bits 52 to 62
_UPPER_DISALLOWED: Final = _RESERVED | _CACHE_BITS | GLOBAL
_L1_DISALLOWED: Final = _RESERVED | _CACHE_BITS
_L1_DISALLOWED_PRIVILEGED: Final = _RESERVED
#: What the processor's compatibility mode needs in an upper entry, whatever the guest wrote there.
_UPPER_FORCED: Final = PRESENT | WRITABLE | USER
_L3_ENTRIES: Final = 4
_XEN_L3_SLOT: Final = 3

#: Types that need no look at the contents.
_ALWAYS_VALID: Final = frozenset({PGT_NONE, PGT_WRITABLE})


def l1_disallowed(domain: "Domain") -> int:
    """Bits that a present L1 entry of the domain may not have."""
    return _L1_DISALLOWED_PRIVILEGED if domain.privileged else _L1_DISALLOWED


class PageTypes:
    """Takes and gives back general and typed references, validating tables on the way."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self._ram, self._frames = hypervisor.ram, hypervisor.frames
        self._promotions: dict[int, Callable[[Domain, int], int]] = {
            PGT_L1: self._promote_l1,
            PGT_L2: self._promote_l2,
            PGT_L3: self._promote_l3,
            PGT_SEG_DESC: self._promote_descriptors,
        }
        self._demotions: dict[int, Callable[[Domain, int], None]] = {
            PGT_L1: self._demote_l1,
            PGT_L2: self._demote_l2,
            PGT_L3: self._demote_l3,
            PGT_SEG_DESC: lambda domain, mfn: None,
        }

    # --- references ------------------------------------------------------------------------------

    def put_page(self, mfn: int) -> None:
        """Give a general reference back; the last one frees the frame."""
        frames = self._frames
        frames.count[mfn] -= 1
        if frames.count[mfn] == 0:
            self._hypervisor.free_domain_page(mfn)

    def get_page_type(self, mfn: int, kind: int, *, xen_l2: bool = False) -> int:
        """Take a typed reference; a frame that nothing relies on changes its type for it.

        0, or -EINVAL: it has another type in use, or its contents are not fit for this one.
        """
        frames = self._frames
        if frames.type_count[mfn] == 0:
            if frames.type[mfn] != kind or frames.xen_l2[mfn] != xen_l2:
                if frames.type[mfn] == PGT_WRITABLE:
                    self._hypervisor.flush_tlb()
                frames.type[mfn], frames.xen_l2[mfn] = kind, xen_l2
                frames.validated[mfn] = kind in _ALWAYS_VALID
        elif frames.type[mfn] != kind or frames.xen_l2[mfn] != xen_l2:
            return _EINVAL
        frames.type_count[mfn] += 1
        if frames.validated[mfn]:
            return 0
        failure = self._promotions[kind](self._hypervisor.domains[frames.owner[mfn]], mfn)
        if failure:
            frames.type_count[mfn] -= 1
            frames.type[mfn], frames.xen_l2[mfn] = PGT_NONE, 0
            return failure
        frames.validated[mfn] = 1
        return 0

    def put_page_type(self, mfn: int) -> None:
        """Give a typed reference back; with the last one a table lets go of what it maps."""
        frames = self._frames
        frames.type_count[mfn] -= 1
        kind = frames.type[mfn]
        if frames.type_count[mfn] == 0 and kind not in _ALWAYS_VALID:
            frames.validated[mfn] = 0
            self._demotions[kind](self._hypervisor.domains[frames.owner[mfn]], mfn)

    def get_page_and_type(self, mfn: int, domain: "Domain", kind: int, *, xen_l2: bool = False) -> int:
        """Take a general and a typed reference on a frame of the domain; 0 or -EINVAL."""
        if not self._frames.get_page(mfn, domain.domid):
            return _EINVAL
        failure = self.get_page_type(mfn, kind, xen_l2=xen_l2)
        if failure:
            self.put_page(mfn)
        return failure

    def put_page_and_type(self, mfn: int) -> None:
        """Give both references back."""
        self.put_page_type(mfn)
        self.put_page(mfn)

    # --- L1 entries ------------------------------------------------------------------------------

    def get_page_from_l1e(self, entry: int, table_owner: "Domain", page_owner: "Domain") -> int:
        """Take the references that a present L1 entry holds.

        -EINVAL: bits that may not be set; -EPERM: not RAM, and not the owner's to map;
        -EBUSY: another's frame, or wanted writable while it has another type.
        """
        if entry & l1_disallowed(table_owner):
            return _EINVAL
        frames, mfn = self._frames, entry_frame(entry)
        if mfn >= frames.number or frames.owner[mfn] == DOMID_IO:
            return _EPERM
        if not frames.get_page(mfn, page_owner.domid):
            return _EBUSY
        if entry & WRITABLE and self.get_page_type(mfn, PGT_WRITABLE):
            self.put_page(mfn)
            return _EBUSY
        return 0

    def put_page_from_l1e(self, entry: int) -> None:
        """Give back what an L1 entry holds, if it is present."""
        mfn = entry_frame(entry)
        if (
            not entry & PRESENT
            or mfn >= self._frames.number
            or self._frames.owner[mfn] in (DOMID_IO, NO_OWNER)
        ):
            return
        if entry & WRITABLE:
            self.put_page_type(mfn)
        self.put_page(mfn)

    # --- whole tables ----------------------------------------------------------------------------

    def _promote_l1(self, domain: "Domain", mfn: int) -> int:
        entries = self._ram.u64[mfn << 9 : (mfn + 1) << 9].tolist()
        for index, entry in enumerate(entries):
            if not entry & PRESENT:
                continue
            failure = self.get_page_from_l1e(entry, domain, domain)
            if failure:
                for done in entries[:index]:
                    self.put_page_from_l1e(done)
                return failure
        return 0

    def _demote_l1(self, _domain: "Domain", mfn: int) -> None:
        for entry in self._ram.u64[mfn << 9 : (mfn + 1) << 9].tolist():
            if entry & PRESENT:
                self.put_page_from_l1e(entry)

    def _promote_l2(self, domain: "Domain", mfn: int) -> int:
        table = self._ram.u64[mfn << 9 : (mfn + 1) << 9]
        guest_slots = FIRST_XEN_L2_SLOT if self._frames.xen_l2[mfn] else 512
        for index in range(guest_slots):
            entry = table[index]
            if not entry & PRESENT:
                continue
            failure = self._get_table(entry, domain, PGT_L1)
            if failure:
                self._put_tables(table[:index])
                return failure
            table[index] = entry | _UPPER_FORCED
        if self._frames.xen_l2[mfn]:
            fill_xen_l2_slots(self._ram, mfn, self._hypervisor.m2p)
        return 0

    def _demote_l2(self, _domain: "Domain", mfn: int) -> None:
        guest_slots = FIRST_XEN_L2_SLOT if self._frames.xen_l2[mfn] else 512
        self._put_tables(self._ram.u64[mfn << 9 : (mfn << 9) + guest_slots])

    def _promote_l3(self, domain: "Domain", mfn: int) -> int:
        """The fourth entry must be there, and its L2 belongs to this L3 alone (golden: mmuext-pin_l3-*)."""
        table = self._ram.u64[mfn << 9 : (mfn + 1) << 9]
        table[_L3_ENTRIES:] = memoryview(bytes((512 - _L3_ENTRIES) * 8)).cast("Q")
        for index in range(_L3_ENTRIES):
            entry, is_xen_slot = table[index], index == _XEN_L3_SLOT
            if entry & PRESENT:
                failure = self._get_table(entry, domain, PGT_L2, xen_l2=is_xen_slot)
                if not failure and is_xen_slot and self._frames.type_count[entry_frame(entry)] != 1:
                    self.put_page_and_type(entry_frame(entry))
                    failure = _EINVAL
            else:
                failure = _EINVAL if is_xen_slot else 0
            if failure:
                self._put_tables(table[:index])
                return failure
            if entry & PRESENT:
                table[index] = entry | _UPPER_FORCED
        return 0

    def _demote_l3(self, _domain: "Domain", mfn: int) -> None:
        self._put_tables(self._ram.u64[mfn << 9 : (mfn << 9) + _L3_ENTRIES])

    def _promote_descriptors(self, _domain: "Domain", mfn: int) -> int:
        return 0 if validate_descriptor_frame(self._ram, mfn) else _EINVAL

    def _get_table(self, entry: int, domain: "Domain", kind: int, *, xen_l2: bool = False) -> int:
        if entry & _UPPER_DISALLOWED & ~NO_EXECUTE:
            return _EINVAL
        return self.get_page_and_type(entry_frame(entry), domain, kind, xen_l2=xen_l2)

    def _put_tables(self, entries: memoryview) -> None:
        for entry in entries.tolist():
            if entry & PRESENT:
                self.put_page_and_type(entry_frame(entry))
