"""Direct paging: the guest owns its page tables, and every change of them comes through here."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_LOCAL
from pvemu.hypervisor.address_space import set_guest_root
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_L1, PGT_L3
from pvemu.memory.page_tables import COMPAT, PRESENT, entry_frame
from pvemu.memory.ram import PAGE_SHIFT

_EINVAL: Final = -int(Errno.EINVAL)
_UPPER_LEVELS: Final = COMPAT.levels[:2]
_LARGE: Final = 1 << 7


def new_guest_cr3(vcpu: Vcpu, mfn: int) -> int:
    """Make an L3 of the guest its root table; 0 or -EINVAL."""
    hypervisor = vcpu.domain.hypervisor
    types = hypervisor.page_types
    failure = types.get_page_and_type(mfn, vcpu.domain, PGT_L3)
    if failure:
        return failure
    old = vcpu.cr3
    set_guest_root(hypervisor, vcpu, mfn)
    vcpu.domain.memory.set_root(mfn)
    hypervisor.flush_tlb()
    if old:
        types.put_page_and_type(old)
    return 0


def l1_entry_address(vcpu: Vcpu, address: int) -> int | None:
    """Machine address of the L1 entry for a linear address in the guest's tables; None: there is none."""
    ram = vcpu.domain.hypervisor.ram
    if not 0 <= address < 1 << 32:
        return None
    frame = vcpu.cr3
    for level in _UPPER_LEVELS:
        entry = ram.u64[(frame << 9) + COMPAT.index(level, address)]
        if not entry & PRESENT or entry & _LARGE:
            return None
        frame = entry_frame(entry)
    return (frame << PAGE_SHIFT) + COMPAT.index(COMPAT.levels[2], address) * 8


def mod_l1_entry(vcpu: Vcpu, entry_address: int, new: int) -> int:
    """Replace an L1 entry of the guest, with all checks; 0 or a negative errno, and then nothing changed."""
    hypervisor = vcpu.domain.hypervisor
    ram, types = hypervisor.ram, hypervisor.page_types
    old = ram.u64[entry_address >> 3]
    if new & PRESENT:
        failure = types.get_page_from_l1e(new, vcpu.domain, vcpu.domain)
        if failure:
            return failure
    ram.u64[entry_address >> 3] = new
    if old & PRESENT:
        hypervisor.flush_tlb()
    types.put_page_from_l1e(old)
    return 0


@hypercall("update_va_mapping")
def update_va_mapping(vcpu: Vcpu, address: int, value: int, flush: int) -> int:
    """Replace the L1 entry that maps a linear address.

    Old translations are always forgotten here, so the flush that the guest asks for only has to name
    vCPUs that can be read.
    """
    hypervisor = vcpu.domain.hypervisor
    entry_address = l1_entry_address(vcpu, address)
    if entry_address is None:
        return _EINVAL
    table = entry_address >> PAGE_SHIFT
    if not hypervisor.frames.get_page(table, vcpu.domain.domid):
        return _EINVAL
    try:
        if hypervisor.frames.type[table] != PGT_L1:
            return _EINVAL
        failure = mod_l1_entry(vcpu, entry_address, value)
    finally:
        hypervisor.page_types.put_page(table)
    if failure:
        return failure
    where = flush & ~UVMF_FLUSHTYPE_MASK
    if flush & UVMF_FLUSHTYPE_MASK and where not in (UVMF_LOCAL, UVMF_ALL):
        vcpu.domain.memory.read_u32(where)
    return 0
