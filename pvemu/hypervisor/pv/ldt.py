"""The guest's LDT: set at once, its pages faulted in one by one when a selector needs them.

A page of the LDT is typed like one of the GDT when the processor first reads a descriptor in it, so a bad
table shows itself as a fault of the instruction that uses it (golden: mmuext-set_ldt-*).
"""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.cpu import layout
from pvemu.hypervisor.address_space import LDT_L1_INDEX, LDT_VIRTUAL, map_descriptor_page
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_SEG_DESC
from pvemu.memory.page_tables import PRESENT, entry_frame
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

_EINVAL: Final = -int(Errno.EINVAL)
_MOST_ENTRIES: Final = 8192
_LDTR = layout.SEGMENTS + layout.LDTR * layout.SEGMENT_SIZE
_PRESENT_LDT: Final = 0x8200


def set_ldt(vcpu: Vcpu, base: int, entries: int) -> int:
    """Install an LDT of up to 8192 entries at a page-aligned linear address; 0 entries take it away."""
    if entries > _MOST_ENTRIES or (entries and base & PAGE_MASK):
        return _EINVAL
    base = base if entries else 0
    if (base, entries) != (vcpu.ldt_base, vcpu.ldt_entries):
        drop_ldt(vcpu)
        vcpu.ldt_base, vcpu.ldt_entries = base, entries
        load_ldt(vcpu)
    return 0


def load_ldt(vcpu: Vcpu) -> None:
    """Point the processor's LDTR at the vCPU's LDT, or make it null."""
    window = vcpu.domain.hypervisor.cpu.window
    entries = vcpu.ldt_entries
    window.u64[(_LDTR + layout.BASE) // 8] = LDT_VIRTUAL if entries else 0
    window.u32[(_LDTR + layout.LIMIT) // 4] = entries * 8 - 1 if entries else 0
    window.u32[(_LDTR + layout.ATTRIBUTES) // 4] = _PRESENT_LDT if entries else 0
    window.u32[(_LDTR + layout.SELECTOR) // 4] = _SELECTOR if entries else 0


def drop_ldt(vcpu: Vcpu) -> None:
    """Unmap the pages of the LDT that were faulted in; they come back when they are needed."""
    if not vcpu.ldt_pages:
        return
    hypervisor = vcpu.domain.hypervisor
    for page, mfn in vcpu.ldt_pages.items():
        map_descriptor_page(hypervisor, vcpu, LDT_L1_INDEX + page, None)
        hypervisor.page_types.put_page_and_type(mfn)
    vcpu.ldt_pages.clear()
    hypervisor.flush_tlb()


def fault_in(vcpu: Vcpu, offset: int) -> bool:
    """Map the page of the LDT at a byte offset; False when the guest's memory there is not fit for it."""
    page = offset >> PAGE_SHIFT
    if offset >= vcpu.ldt_entries * 8 or page in vcpu.ldt_pages:
        return False
    at = vcpu.domain.memory.l1_entry_index((vcpu.ldt_base + offset) & 0xFFFFFFFF)
    hypervisor = vcpu.domain.hypervisor
    if at is None:
        return False
    entry = hypervisor.ram.u64[at]
    mfn = entry_frame(entry)
    if not entry & PRESENT or hypervisor.page_types.get_page_and_type(mfn, vcpu.domain, PGT_SEG_DESC):
        return False
    vcpu.ldt_pages[page] = mfn
    map_descriptor_page(hypervisor, vcpu, LDT_L1_INDEX + page, mfn)
    return True


_SELECTOR: Final = 0xE048
