"""Replacing one L1 entry: what mmu_update, update_va_mapping and the guest's own stores have in common."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import DOMID_IO, MMU_PT_UPDATE_PRESERVE_AD
from pvemu.hypervisor.pv.entry_rules import CHANGES, L1_DISALLOWED, L1_DISALLOWED_PRIVILEGED, PLAIN
from pvemu.hypervisor.pv.page_types import EINVAL
from pvemu.memory.frames import PGT_WRITABLE
from pvemu.memory.page_tables import (
    ACCESSED,
    DIRTY,
    FRAME_MASK_64,
    PRESENT,
    WRITABLE,
)
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

#: (owner of the table, index of the entry in RAM as 64-bit words, new entry, MMU_* command, owner of the
#: frame) to 0 or a negative errno; then nothing has changed.
ModL1Entry = Callable[["Domain", int, int, int, "Domain"], int]

_ACCESSED_DIRTY: Final = ACCESSED | DIRTY


def make_mod_l1_entry(hypervisor: "Hypervisor") -> ModL1Entry:
    """The function for a machine; a closure, because every change of a mapping goes through it."""
    u64, types, frames = hypervisor.ram.u64, hypervisor.page_types, hypervisor.frames
    owner, count, kind, type_count = frames.owner, frames.count, frames.type, frames.type_count
    number = frames.number
    get_page_from_l1e, put_page_from_l1e = types.get_page_from_l1e, types.put_page_from_l1e

    def mod_l1_entry(domain: "Domain", at: int, new: int, command: int, page_owner: "Domain") -> int:
        old = u64[at]
        if new & PRESENT:
            if not (old ^ new) & CHANGES:  # what is not allowed in it would not have been allowed before
                u64[at] = new | old & _ACCESSED_DIRTY if command == MMU_PT_UPDATE_PRESERVE_AD else new
                hypervisor.tlb_is_stale = True
                return 0
            mfn = new >> PAGE_SHIFT & FRAME_MASK_64
            # The common case of get_page_from_l1e: an ordinary page of the domain's own.
            if (
                page_owner is domain
                and new & PLAIN == WRITABLE
                and mfn < number
                and (kind[mfn] == PGT_WRITABLE and owner[mfn] == domain.domid and count[mfn])
            ):
                count[mfn] += 1
                type_count[mfn] += 1
            else:
                if new & (L1_DISALLOWED_PRIVILEGED if domain.privileged else L1_DISALLOWED):
                    return EINVAL
                result = get_page_from_l1e(new, domain, page_owner)
                if result:
                    if result < 0:
                        return result
                    new ^= result
        if command == MMU_PT_UPDATE_PRESERVE_AD:
            new |= old & _ACCESSED_DIRTY
        u64[at] = new
        if old & PRESENT:
            hypervisor.tlb_is_stale = True
            if at in domain.memory.cached_by:
                domain.memory.forget(at)
            mfn = old >> PAGE_SHIFT & FRAME_MASK_64
            # The common case of put_page_from_l1e: an ordinary page that is not given up by it.
            if old & WRITABLE and mfn < number and count[mfn] > 1 and owner[mfn] != DOMID_IO:
                type_count[mfn] -= 1
                count[mfn] -= 1
            else:
                put_page_from_l1e(old)
        return 0

    return mod_l1_entry
