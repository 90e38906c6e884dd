"""The hypervisor's own part of every guest's address space.

As on real Xen, a 32-bit guest runs in compatibility mode below a fourth level of page tables. Slot 0 of
that L4 is the guest's own L3; the hypervisor's mappings lie above 4 GiB, where 32-bit code can't reach.
There the processor finds the GDT and LDT. What the guest may see of the hypervisor, the machine-to-
physical map, is in the last entries of its L2 for the fourth GiB.
"""

import struct
from typing import TYPE_CHECKING, Final

from pvemu.abi.arch_x86 import (
    FIRST_RESERVED_GDT_BYTE,
    FIRST_RESERVED_GDT_PAGE,
    FLAT_RING1_CS,
    FLAT_RING1_DS,
    FLAT_RING3_CS,
    FLAT_RING3_DS,
    MACH2PHYS_VIRT_START_PAE,
)
from pvemu.cpu import layout
from pvemu.cpu.segments import Descriptor
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.page_tables import ACCESSED, LARGE, PRESENT, USER, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, Ram

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor

#: Where each vCPU's descriptor tables are (slot 260 of the L4, as Xen's per-domain area): 64 KiB of GDT,
#: then the LDT.
GDT_VIRTUAL: Final = 0xFFFF_8200_0000_0000
LDT_VIRTUAL: Final = GDT_VIRTUAL + (16 << PAGE_SHIFT)
_L4_SLOT: Final = 260
#: First entry of the LDT's pages in the L1 of the descriptor area.
LDT_L1_INDEX: Final = 16
GDT_LIMIT: Final = FIRST_RESERVED_GDT_BYTE + 0xFFF

#: Entries of the L2 for the fourth GiB from here on are the hypervisor's.
FIRST_XEN_L2_SLOT: Final = (MACH2PHYS_VIRT_START_PAE >> 21) & 511
_M2P_FLAGS: Final = PRESENT | ACCESSED | LARGE
_TABLE_FLAGS: Final = PRESENT | WRITABLE | USER | ACCESSED
_HYPERVISOR_FLAGS: Final = PRESENT | WRITABLE | ACCESSED | 1 << 6
_LARGE_PAGE_SHIFT: Final = 21
_INVALID_M2P: Final = 0xFFFFFFFF

#: Xen's flat segments for 32-bit guests (dumped from real Xen: tests/golden/entry/dump32-dom0.txt).
FLAT_SEGMENTS: Final = {
    FLAT_RING1_CS: Descriptor.from_int(0x00CFBB000000FFFF),
    FLAT_RING1_DS: Descriptor.from_int(0x00CFB3000000FFFF),
    FLAT_RING3_CS: Descriptor.from_int(0x00CFFB000000FFFF),
    FLAT_RING3_DS: Descriptor.from_int(0x00CFF3000000FFFF),
}


class MachineToPhysical:
    """The m2p: for each machine frame the pfn that its owner knows it by, readable by every guest.

    Args:
        first: first frame of the table, on a 2 MiB boundary.
        pages: its 2 MiB pages.
    """

    def __init__(self, ram: Ram, first: int, pages: int) -> None:
        self.first, self.pages = first, pages
        start = first << PAGE_SHIFT
        end = start + (pages << _LARGE_PAGE_SHIFT)
        ram.u8[start:end] = b"\xff" * (end - start)
        self._entries = ram.u32[start >> 2 : end >> 2]

    def get(self, mfn: int) -> int:
        """The pfn of a machine frame; 0xffffffff when it has none."""
        return self._entries[mfn]

    def set(self, mfn: int, pfn: int) -> None:
        """Say which pfn a machine frame is."""
        self._entries[mfn] = pfn

    def forget(self, mfn: int) -> None:
        """Say that a machine frame has no pfn."""
        self._entries[mfn] = _INVALID_M2P


def fill_xen_l2_slots(ram: Ram, l2_mfn: int, m2p: MachineToPhysical) -> None:
    """Write the hypervisor's entries into an L2 that is to serve the fourth GiB."""
    base = (l2_mfn << PAGE_SHIFT) + FIRST_XEN_L2_SLOT * 8
    slots = 512 - FIRST_XEN_L2_SLOT
    large = ((m2p.first << PAGE_SHIFT) + (page << _LARGE_PAGE_SHIFT) for page in range(m2p.pages))
    entries = [address | _M2P_FLAGS for address in large]
    struct.pack_into(f"<{slots}Q", ram.u8, base, *entries, *([0] * (slots - len(entries))))


def build_monitor(hypervisor: "Hypervisor", vcpu: Vcpu) -> None:
    """Make the L4 of a vCPU, and the tables that map its GDT and LDT.

    Raises:
        OutOfFrames: there is no memory for them; those that there are, are among the vCPU's own.
    """
    ram = hypervisor.ram
    for _ in range(4):
        vcpu.own_frames.append(hypervisor.allocate_xen_page())
    l4, l3, l2, l1 = vcpu.own_frames
    ram.u64[(l4 << 9) + _L4_SLOT] = l3 << PAGE_SHIFT | _HYPERVISOR_FLAGS
    ram.u64[l3 << 9] = l2 << PAGE_SHIFT | _HYPERVISOR_FLAGS
    ram.u64[l2 << 9] = l1 << PAGE_SHIFT | _HYPERVISOR_FLAGS
    ram.u64[(l1 << 9) + FIRST_RESERVED_GDT_PAGE] = hypervisor.gdt_frame << PAGE_SHIFT | _HYPERVISOR_FLAGS
    vcpu.monitor, vcpu.descriptor_l1 = l4, l1


def build_xen_gdt_page(ram: Ram, mfn: int) -> None:
    """Write the page of the GDT that holds Xen's own descriptors."""
    for selector, descriptor in FLAT_SEGMENTS.items():
        at = (mfn << PAGE_SHIFT) + (selector & ~7) - FIRST_RESERVED_GDT_BYTE
        ram.u64[at >> 3] = descriptor.low | descriptor.high << 32


def set_guest_root(hypervisor: "Hypervisor", vcpu: Vcpu, l3_mfn: int) -> None:
    """Put the guest's L3 below the vCPU's L4."""
    hypervisor.ram.u64[vcpu.monitor << 9] = l3_mfn << PAGE_SHIFT | _TABLE_FLAGS
    vcpu.cr3 = l3_mfn


def map_gdt(hypervisor: "Hypervisor", vcpu: Vcpu) -> None:
    """Map the guest's GDT frames where the processor looks for them; the rest reads as null descriptors."""
    if vcpu.domain.is_translated:
        vcpu.domain.translation.descriptors.map_gdt(vcpu)
        return
    for page in range(FIRST_RESERVED_GDT_PAGE):
        present = page < len(vcpu.gdt_frames)
        mfn = vcpu.gdt_frames[page] if present else hypervisor.zero_frame
        map_descriptor_page(hypervisor, vcpu, page, mfn)


def map_descriptor_page(hypervisor: "Hypervisor", vcpu: Vcpu, index: int, mfn: int | None) -> None:
    """Map a frame at an entry of the vCPU's descriptor area; None unmaps what is there."""
    entry = 0 if mfn is None else mfn << PAGE_SHIFT | _HYPERVISOR_FLAGS
    hypervisor.ram.u64[(vcpu.descriptor_l1 << 9) + index] = entry


def load_descriptor_registers(hypervisor: "Hypervisor") -> None:
    """Point the processor's GDTR at the vCPU's descriptor area; there is no LDT yet."""
    u64, u32 = hypervisor.cpu.window.u64, hypervisor.cpu.window.u32
    gdtr = layout.SEGMENTS + layout.GDTR * layout.SEGMENT_SIZE
    u64[(gdtr + layout.BASE) // 8] = GDT_VIRTUAL
    u32[(gdtr + layout.LIMIT) // 4] = GDT_LIMIT
