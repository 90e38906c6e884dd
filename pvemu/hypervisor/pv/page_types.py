"""Typed references: how a frame becomes a page table, and stays one as long as anything relies on it.

A frame may be used as a page table only after every entry in it was found fit; each present entry then
holds references on what it maps. Giving the last use back lets those references go. Answers: golden
pv32-*, families mmu_update, mmuext, uvm.

Results are 0 or a negative errno, as of the hypercalls that they serve. Validating an L2 or L3 may take
long: when the vCPU's time is up it stops with RESTART, and goes on where it stopped when it is asked for
again. The opposite is done in the same portions, from a stack of tables: see `finish`.
"""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import DOMID_IO, DOMID_XEN
from pvemu.hypervisor.address_space import fill_xen_l2_slots
from pvemu.hypervisor.continuation import RESTART
from pvemu.hypervisor.pv.descriptor_check import validate_descriptor_frame
from pvemu.hypervisor.pv.entry_rules import (
    COMPAT_L3_FORCED,
    COMPAT_L3_UNFORCED,
    GUEST_SLOTS,
    L1_DISALLOWED,
    L1_DISALLOWED_PRIVILEGED,
    TABLE_DISALLOWED,
    XEN_L3_SLOT,
    guest_slots,
)
from pvemu.hypervisor.pv.l1_table import L1Tables
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3, PGT_NONE, PGT_SEG_DESC, PGT_WRITABLE
from pvemu.memory.page_tables import CACHE_DISABLE, PRESENT, WRITABLE, WRITE_THROUGH, entry_frame

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

EINVAL, EBUSY, EPERM, EACCES = (
    -int(number) for number in (Errno.EINVAL, Errno.EBUSY, Errno.EPERM, Errno.EACCES)
)

#: Cycles of virtual time that looking through a whole table takes.
TABLE_COST: Final = 20_000

#: How many entries may map an L2 as a linear table: what Xen's counter of 16 bits holds.
MOST_LINEAR_USES: Final = 1 << 15

_CACHE_BITS: Final = WRITE_THROUGH | CACHE_DISABLE | 1 << 7
_TABLES: Final = frozenset({PGT_L1, PGT_L2, PGT_L3})


class PageTypes:
    """Takes and gives back general and typed references, validating tables on the way."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self._ram, self._frames = hypervisor.ram, hypervisor.frames
        self._l1_tables = L1Tables(hypervisor, self)
        #: Tables that have to let go of what they map, the next one last.
        self.demoting: list[int] = []

    # --- references ------------------------------------------------------------------------------

    def put_page(self, mfn: int) -> None:
        """Give a general reference back; the last one frees the frame."""
        frames = self._frames
        frames.count[mfn] -= 1
        if frames.count[mfn] == 0:
            if frames.partial[mfn]:
                self._demote_rest(mfn)
            self._hypervisor.free_domain_page(mfn)

    def get_page_type(self, mfn: int, kind: int, *, xen_l2: bool = False) -> int:
        """Take a typed reference; a frame that nothing relies on changes its type for it.

        0; RESTART; or -EINVAL and others: it has another type in use, or its contents are not fit.
        """
        frames = self._frames
        same = frames.type[mfn] == kind and frames.xen_l2[mfn] == xen_l2
        if frames.type_count[mfn]:
            if not same:
                return EINVAL
            frames.type_count[mfn] += 1
            return 0
        if not same:
            if frames.partial[mfn]:
                # It keeps its type until it is done. Letting go of the rest here could take the last use
                # from a table that is being changed for the sake of this very reference.
                return EINVAL
            if frames.type[mfn] == PGT_WRITABLE:
                # Nobody may keep a translation through which a table could still be written.
                self._hypervisor.flush_stale_tlb()
            frames.type[mfn], frames.xen_l2[mfn] = kind, xen_l2
            frames.validated[mfn] = kind == PGT_WRITABLE
        # Counted from now on, so that an entry of the table that wants it writable is refused.
        frames.type_count[mfn] = 1
        failure = 0 if frames.validated[mfn] else self._promote(mfn, kind)
        if failure:
            frames.type_count[mfn] = 0
        elif kind == PGT_L1:
            frames.l1_owner[mfn] = frames.owner[mfn]
        return failure

    def put_page_type(self, mfn: int) -> None:
        """Give a typed reference back; with the last one a table lets go of what it maps."""
        frames = self._frames
        frames.type_count[mfn] -= 1
        if frames.type_count[mfn] == 0 and frames.type[mfn] != PGT_WRITABLE:
            frames.l1_owner.pop(mfn, None)
            self._demote(mfn)

    def get_page_and_type(self, mfn: int, domain: "Domain", kind: int, *, xen_l2: bool = False) -> int:
        """Take a general and a typed reference on a frame of the domain; 0, RESTART or -EINVAL."""
        if not self._frames.get_page(mfn, domain.domid):
            return EINVAL
        failure = self.get_page_type(mfn, kind, xen_l2=xen_l2)
        if failure:
            self.put_page(mfn)
        return failure

    def put_page_and_type(self, mfn: int) -> None:
        """Give both references back."""
        self.put_page_type(mfn)
        self.put_page(mfn)

    # --- entries ---------------------------------------------------------------------------------

    def get_page_from_l1e(self, entry: int, table_owner: "Domain", page_owner: "Domain") -> int:
        """Take the references that a present L1 entry holds.

        0, or the bits of the entry that have to be flipped first (for memory that is no RAM);
        -EINVAL: bits that may not be set; -EPERM: not RAM, and not the owner's to map;
        -EBUSY: another's frame, or wanted writable while it has another type;
        -EACCES: cache attributes on a frame of the hypervisor's.
        """
        if entry & (L1_DISALLOWED_PRIVILEGED if table_owner.privileged else L1_DISALLOWED):
            return EINVAL
        frames, mfn = self._frames, entry_frame(entry)
        if mfn >= frames.number or frames.owner[mfn] == DOMID_IO:
            owner = self._hypervisor.current.domain if page_owner.domid == DOMID_IO else page_owner
            return owner.iomem_flags(entry, mfn)
        if not frames.count[mfn]:
            return EBUSY
        if frames.owner[mfn] != page_owner.domid and (
            page_owner is table_owner or not page_owner.privileged or frames.owner[mfn] == DOMID_XEN
        ):
            return EBUSY
        frames.count[mfn] += 1
        if entry & WRITABLE and self.get_page_type(mfn, PGT_WRITABLE):
            self.put_page(mfn)
            return EBUSY
        if entry & _CACHE_BITS and self._hypervisor.is_special_page(mfn):
            self.put_page_from_l1e(entry)
            return EACCES
        return 0

    def put_page_from_l1e(self, entry: int) -> None:
        """Give back what a present L1 entry holds."""
        mfn = entry_frame(entry)
        if mfn >= self._frames.number or self._frames.owner[mfn] == DOMID_IO:
            return
        if entry & WRITABLE:
            self.put_page_type(mfn)
        self.put_page(mfn)

    def get_page_from_l2e(self, entry: int, table: int, domain: "Domain") -> int:
        """Take the references of a present L2 entry: on an L1, or on an L2 as a read-only linear map."""
        if entry & TABLE_DISALLOWED:
            return EINVAL
        mfn = entry_frame(entry)
        failure = self.get_page_and_type(mfn, domain, PGT_L1)
        if failure == EINVAL and self._get_linear_table(entry, table, domain):
            return 0
        return failure

    def put_page_from_l2e(self, entry: int, table: int) -> None:
        """Give back what a present L2 entry of a table holds; an entry for the table itself holds nothing."""
        mfn, frames = entry_frame(entry), self._frames
        if mfn == table:
            return
        if frames.type[mfn] == PGT_L2:
            frames.linear[mfn] += 1
            frames.linear[table] -= 1
        self.put_page_and_type(mfn)

    def get_page_from_l3e(self, entry: int, index: int, domain: "Domain") -> int:
        """Take the references of a present L3 entry. The L2 in slot 3 belongs to one L3 alone."""
        if entry & TABLE_DISALLOWED:
            return EINVAL
        mfn, is_xen_slot = entry_frame(entry), index == XEN_L3_SLOT
        failure = self.get_page_and_type(mfn, domain, PGT_L2, xen_l2=is_xen_slot)
        if not failure and is_xen_slot and self._frames.type_count[mfn] != 1:
            self.put_page_and_type(mfn)
            return EINVAL
        return failure

    def _get_linear_table(self, entry: int, table: int, domain: "Domain") -> bool:
        """Whether an L2 entry may map an L2 as if it were an L1: read-only, and not through two steps."""
        frames, mfn = self._frames, entry_frame(entry)
        if entry & WRITABLE:
            return False
        if mfn == table:
            return True
        if not frames.get_page(mfn, domain.domid):
            return False
        fits = frames.type[mfn] == PGT_L2 and frames.validated[mfn] and frames.type_count[mfn]
        if not fits or frames.linear[table] < 0 or not -MOST_LINEAR_USES < frames.linear[mfn] <= 0:
            self.put_page(mfn)
            return False
        frames.linear[table] += 1
        frames.linear[mfn] -= 1
        frames.type_count[mfn] += 1
        return True

    # --- whole tables ----------------------------------------------------------------------------

    def _promote(self, mfn: int, kind: int) -> int:
        """Look through a frame that is to be a table; afterwards it holds the references of its entries."""
        frames = self._frames
        domain = self._hypervisor.domains[frames.owner[mfn]]
        self._hypervisor.charge(TABLE_COST)
        if kind == PGT_L1:
            failure = self._l1_tables.take(domain, mfn)
        elif kind == PGT_SEG_DESC:
            failure = 0 if validate_descriptor_frame(self._ram, mfn) else EINVAL
        else:
            failure = self._promote_upper(domain, mfn, kind)
        if failure == 0:
            frames.validated[mfn], frames.partial[mfn] = 1, 0
            for shadow in self._hypervisor.pv_shadows:
                shadow.table_made(mfn)
        elif not frames.partial[mfn]:
            frames.type[mfn], frames.xen_l2[mfn] = PGT_NONE, 0
        return failure

    def _promote_upper(self, domain: "Domain", mfn: int, kind: int) -> int:
        """L2 and L3: from the first entry that is not validated yet, until time is up."""
        frames = self._frames
        table = self._ram.u64[mfn << 9 : (mfn + 1) << 9]
        if kind == PGT_L3:
            # The processor sees the whole page in compatibility mode, so what PAE does not use must be empty.
            table[4:] = _EMPTY_REST
        if not frames.partial[mfn]:
            frames.validated_entries[mfn] = frames.linear[mfn] = 0
        for index in range(frames.validated_entries[mfn], guest_slots(kind, frames.xen_l2[mfn])):
            entry = table[index]
            if not entry & PRESENT:
                result = EINVAL if kind == PGT_L3 and index == XEN_L3_SLOT else 0
            elif kind == PGT_L3:
                result = self.get_page_from_l3e(entry, index, domain)
            else:
                result = self.get_page_from_l2e(entry, mfn, domain)
            if result == 0:
                if kind == PGT_L3 and entry & PRESENT:
                    table[index] = entry | COMPAT_L3_FORCED
                if index + 1 < GUEST_SLOTS[kind] and self._hypervisor.preempt_due():
                    frames.validated_entries[mfn], frames.partial[mfn] = index + 1, 1
                    return RESTART
                continue
            frames.validated_entries[mfn], frames.partial[mfn] = index, 1
            if result != RESTART:
                if kind == PGT_L3:
                    for done in range(index):
                        table[done] &= ~COMPAT_L3_UNFORCED
                self._push(mfn)
            return result
        if frames.xen_l2[mfn]:
            fill_xen_l2_slots(self._ram, mfn, self._hypervisor.m2p)
        return 0

    def _demote(self, mfn: int) -> None:
        """Nothing relies on a table any more: let go of what it maps, or put it on the stack for that."""
        frames = self._frames
        frames.validated[mfn] = 0
        for shadow in self._hypervisor.pv_shadows:
            shadow.table_ends(mfn)
        kind = frames.type[mfn]
        if kind == PGT_L1:
            self._hypervisor.charge(TABLE_COST)
            self._l1_tables.give_back(mfn)
        elif kind in _TABLES:
            frames.partial[mfn] = 1
            frames.validated_entries[mfn] = guest_slots(kind, frames.xen_l2[mfn])
            self._push(mfn)

    def _push(self, mfn: int) -> None:
        self._frames.count[mfn] += 1
        self.demoting.append(mfn)

    def finish(self) -> bool:
        """Go on with the tables that are to let go of what they map; False when time is up before the end."""
        stack, frames = self.demoting, self._frames
        while stack:
            mfn = stack[-1]
            if frames.partial[mfn] and not frames.type_count[mfn]:
                depth = len(stack)
                while frames.validated_entries[mfn]:
                    self._demote_last(mfn)
                    if len(stack) > depth:
                        break  # a table below this one comes first
                    if self._hypervisor.preempt_due():
                        return False
                if frames.validated_entries[mfn]:
                    continue
                frames.partial[mfn] = 0
                mfn_at = depth - 1
            else:
                mfn_at = len(stack) - 1
            del stack[mfn_at]
            self.put_page(mfn)
        return True

    def _demote_last(self, mfn: int) -> None:
        """Let go of what the last entry holds that still holds anything."""
        frames = self._frames
        frames.validated_entries[mfn] -= 1
        entry = self._ram.u64[(mfn << 9) + frames.validated_entries[mfn]]
        if not entry & PRESENT:
            return
        if frames.type[mfn] == PGT_L2:
            self.put_page_from_l2e(entry, mfn)
        else:
            self.put_page_and_type(entry_frame(entry))

    def _demote_rest(self, mfn: int) -> None:
        """Let go of everything at once, because the frame is wanted for something else."""
        while self._frames.validated_entries[mfn]:
            self._demote_last(mfn)
        self._frames.partial[mfn] = 0


_EMPTY_REST: Final = memoryview(bytes(508 * 8)).cast("Q")
