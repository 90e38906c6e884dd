"""Direct paging: the base pointer, and changes of entries in L2 and L3 tables (those in L1s: l1_entry.py)."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import MMU_PT_UPDATE_PRESERVE_AD
from pvemu.hypervisor.address_space import FIRST_XEN_L2_SLOT, set_guest_root
from pvemu.hypervisor.pv.entry_rules import (
    CHANGES,
    COMPAT_L3_FORCED,
    L3_DISALLOWED,
    TABLE_DISALLOWED,
    XEN_L3_SLOT,
)
from pvemu.hypervisor.pv.page_types import EINVAL
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_L3
from pvemu.memory.page_tables import ACCESSED, DIRTY, PRESENT, entry_frame

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_EPERM: Final = -int(Errno.EPERM)


def load_base(vcpu: Vcpu, number: int) -> int:
    """Make a frame that the guest names the root table of a vCPU; 0, RESTART or -EINVAL."""
    domain = vcpu.domain
    return domain.translation.new_base(vcpu, number) if domain.is_translated else new_guest_cr3(vcpu, number)


def take_first_base(vcpu: Vcpu, number: int) -> int:
    """The same for a vCPU that has none yet, and that need not be loaded."""
    domain = vcpu.domain
    if domain.is_translated:
        return domain.translation.new_base(vcpu, number)
    failure = domain.hypervisor.page_types.get_page_and_type(number, domain, PGT_L3)
    if not failure:
        set_guest_root(domain.hypervisor, vcpu, number)
    return failure


def new_guest_cr3(vcpu: Vcpu, mfn: int) -> int:
    """Make an L3 of the guest its root table; 0, RESTART or -EINVAL."""
    hypervisor = vcpu.domain.hypervisor
    types, old = hypervisor.page_types, vcpu.cr3
    if mfn != old:
        failure = types.get_page_and_type(mfn, vcpu.domain, PGT_L3)
        if failure:
            return failure
        set_guest_root(hypervisor, vcpu, mfn)
        vcpu.domain.memory.set_root(mfn)
    hypervisor.drop_ldt(vcpu)
    hypervisor.flush_tlb()
    if old and old != mfn:
        types.put_page_and_type(old)
    return 0


def mod_l2_entry(domain: "Domain", at: int, new: int, command: int) -> int:
    """Replace an L2 entry; 0 or a negative errno. The hypervisor's slots are -EPERM."""
    hypervisor = domain.hypervisor
    u64, types, table = hypervisor.ram.u64, hypervisor.page_types, at >> 9
    if hypervisor.frames.xen_l2[table] and at & 511 >= FIRST_XEN_L2_SLOT:
        return _EPERM
    old = u64[at]
    if new & PRESENT:
        if new & TABLE_DISALLOWED:
            return EINVAL
        if (old ^ new) & CHANGES:
            failure = types.get_page_from_l2e(new, table, domain)
            if failure:
                return failure
        else:
            old = 0
    return _replace_upper(domain, at, new, command, old, table)


def mod_l3_entry(domain: "Domain", at: int, new: int, command: int) -> int:
    """Replace an L3 entry; 0 or a negative errno. Slot 3 and what lies behind it can't change: -EINVAL."""
    hypervisor = domain.hypervisor
    if at & 511 >= XEN_L3_SLOT:
        return EINVAL
    old = hypervisor.ram.u64[at]
    if new & PRESENT:
        if new & L3_DISALLOWED:
            return EINVAL
        new |= COMPAT_L3_FORCED
        if (old ^ new) & CHANGES:
            failure = hypervisor.page_types.get_page_from_l3e(new, at & 511, domain)
            if failure:
                return failure
        else:
            old = 0
    return _replace_upper(domain, at, new, command, old, None)


def _replace_upper(
    domain: "Domain", at: int, new: int, command: int, released: int, l2_table: int | None
) -> int:
    """Write an upper entry, forget translations, and give back what the old one held."""
    hypervisor = domain.hypervisor
    u64, types = hypervisor.ram.u64, hypervisor.page_types
    u64[at] = new | u64[at] & (ACCESSED | DIRTY) if command == MMU_PT_UPDATE_PRESERVE_AD else new
    hypervisor.flush_tlb()
    if released & PRESENT:
        if l2_table is None:
            types.put_page_and_type(entry_frame(released))
        else:
            types.put_page_from_l2e(released, l2_table)
    return 0
