"""The guest's control registers: what may be written into them, and what changes with them.

Rules: AMD64 Architecture Programmer's Manual volume 2, section 3.1 and chapter 14; where processors differ
(64-bit code that switches paging off), Intel's, as Xen's HVM guests see them. A PAE guest's
page-directory-pointer entries are not looked at when CR3 is loaded: under AMD-V they are read when they are
used (section 15.25.10).
"""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import layout
from pvemu.cpu.mode import (
    CR0_AM,
    CR0_CD,
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_TS,
    CR0_WP,
    CR4_DE,
    CR4_FSGSBASE,
    CR4_MCE,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    CR4_PCE,
    CR4_PGE,
    CR4_PSE,
    CR4_TSD,
    EFER_LMA,
    EFER_LME,
)
from pvemu.cpu.segments import LONG
from pvemu.hypervisor.hvm.segment_registers import read_segment

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: Width of a guest-physical address in bits, as CPUID leaf 0x80000008 tells it.
PHYSICAL_BITS: Final = 40

_CR0_KNOWN: Final = (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE) | (
    CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
)
#: What LMSW writes: MP, EM and TS; and PE, which it can only set.
_LMSW: Final = CR0_MP | CR0_EM | CR0_TS
#: Bits of CR4 that go with the features that CPUID tells a guest of.
CR4_KNOWN: Final = (CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE) | (
    CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE
)
#: A change of one of these changes how the guest's page tables are read, or who may use what they map.
_CR0_OF_PAGING: Final = CR0_PG | CR0_WP | CR0_PE
_CR4_OF_PAGING: Final = CR4_PSE | CR4_PAE | CR4_PGE
_PRIORITY: Final = 0xF  #: CR8 has four bits
_EIP: Final = layout.EIP // 8


def read_cr0(vcpu: "Vcpu") -> int:
    """CR0 as MOV, and the lower half as SMSW, show it."""
    return vcpu.hvm.cr0


def write_cr0(vcpu: "Vcpu", value: int) -> bool:
    """MOV to CR0; False when the guest gets #GP(0) instead.

    Switching paging on with EFER.LME set enters long mode (compatibility mode, until CS is loaded), and
    switching it off leaves long mode.
    """
    hvm = vcpu.hvm
    old = hvm.cr0
    if value >> 32 or value & (CR0_PG | CR0_PE) == CR0_PG or value & (CR0_NW | CR0_CD) == CR0_NW:
        return False
    value = value & _CR0_KNOWN | CR0_ET
    in_long_code = bool(read_segment(vcpu.domain.hypervisor.cpu.window, layout.CS).attributes & LONG)
    if value & ~old & CR0_PG and hvm.efer & EFER_LME:
        if not hvm.cr4 & CR4_PAE or in_long_code:
            return False
        hvm.efer |= EFER_LMA
    elif old & ~value & CR0_PG and hvm.efer & EFER_LMA:
        if in_long_code:
            return False
        hvm.efer &= ~EFER_LMA
    hvm.cr0 = value
    if (old ^ value) & _CR0_OF_PAGING:
        vcpu.domain.hvm.paging.mode_changed(vcpu)
    return True


def load_machine_status_word(vcpu: "Vcpu", value: int) -> bool:
    """LMSW: the four lowest bits of CR0, of which PE can't be cleared."""
    cr0 = vcpu.hvm.cr0
    return write_cr0(vcpu, cr0 & ~_LMSW | value & (_LMSW | CR0_PE))


def clear_task_switched(vcpu: "Vcpu") -> None:
    """CLTS."""
    vcpu.hvm.cr0 &= ~CR0_TS


def write_cr3(vcpu: "Vcpu", value: int) -> bool:
    """MOV to CR3; False when the guest gets #GP(0) instead: address bits that the processor lacks."""
    if value >> PHYSICAL_BITS:
        return False
    vcpu.hvm.cr3 = value
    vcpu.domain.hvm.paging.root_changed(vcpu)
    return True


def write_cr4(vcpu: "Vcpu", value: int) -> bool:
    """MOV to CR4; False when the guest gets #GP(0) instead: unknown bits, or PAE cleared in long mode."""
    hvm = vcpu.hvm
    old = hvm.cr4
    if value & ~CR4_KNOWN or (hvm.efer & EFER_LMA and not value & CR4_PAE):
        return False
    hvm.cr4 = value
    if (old ^ value) & _CR4_OF_PAGING:
        vcpu.domain.hvm.paging.mode_changed(vcpu)
    return True


def read_cr8(vcpu: "Vcpu") -> int:
    """CR8: the upper half of the local APIC's task priority."""
    return vcpu.hvm.vlapic.task_priority >> 4


def write_cr8(vcpu: "Vcpu", value: int) -> bool:
    """MOV to CR8; False when the guest gets #GP(0) instead: it has four bits."""
    if value & ~_PRIORITY:
        return False
    vcpu.hvm.vlapic.task_priority = value << 4
    return True
