"""CPUID as Xen answers it: its own leaves, and the processor's without what no PV guest may use."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.arch_x86 import (
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
    XEN_CPUID_FIRST_LEAF,
    XEN_CPUID_MAX_NUM_LEAVES,
    XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX,
    XEN_CPUID_SIGNATURE_EDX,
)
from pvemu.cpu.clock import CYCLES_PER_SECOND
from pvemu.hypervisor.version import XEN_VERSION
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: EAX, EBX, ECX, EDX.
Leaf = tuple[int, int, int, int]

_NONE: Final[Leaf] = (0, 0, 0, 0)
_RDTSCP_AVAILABLE: Final = 4
_PHYSICAL_CLOCK: Final = 2  #: subleaf of the leaf about time
_MSR_INDEX_OF_HYPERCALL_PAGE: Final = 0x40000000
#: Of the processor, in the MSR PATCH_LEVEL, which Xen shows to all guests.
MICROCODE_REVISION: Final = 0x0100_0065


def bits(*numbers: int) -> int:
    """A word with these bits set."""
    return sum(1 << number for number in numbers)


def _letters(text: str) -> tuple[int, ...]:
    return tuple(int.from_bytes(text[at : at + 4].encode(), "little") for at in range(0, len(text), 4))


_B, _D, _C = _letters("AuthenticAMD")
_BRAND: Final = _letters("pvemu virtual processor".ljust(48, "\0"))

# Features by the bit numbers of APM volume 3, appendix E. Absent: what Xen hides from PV guests (VME, PSE,
# MCE, PGE, MTRR, PSE36, x2APIC, SVM, MONITOR) and what the engine lacks (AVX and XSAVE, FMA).
FEATURES_ECX: Final = bits(0, 1, 9, 13, 19, 20, 22, 23, 25, 31)
FEATURES_EDX: Final = bits(0, 2, 4, 5, 6, 8, 9, 11, 15, 16, 19, 23, 24, 25, 26)
EXTENDED_ECX: Final = bits(0, 5, 6, 8)
EXTENDED_EDX: Final = bits(0, 2, 4, 5, 6, 8, 9, 11, 15, 16, 20, 23, 24, 25, 27, 29)
FAMILY_MODEL_STEPPING: Final = 0x00800F12

#: The processor's own leaves.
PROCESSOR: Final[dict[int, Leaf]] = {
    0x0: (0xD, _B, _C, _D),
    0x1: (FAMILY_MODEL_STEPPING, 0x800, FEATURES_ECX, FEATURES_EDX),
    0x80000000: (0x80000008, _B, _C, _D),
    0x80000001: (FAMILY_MODEL_STEPPING, 0, EXTENDED_ECX, EXTENDED_EDX),
    0x80000002: _BRAND[0:4],  # type: ignore[dict-item]
    0x80000003: _BRAND[4:8],  # type: ignore[dict-item]
    0x80000004: _BRAND[8:12],  # type: ignore[dict-item]
    0x80000008: (0x3028, 0, 0, 0),
}


def guest_cpuid(vcpu: "Vcpu", leaf: int, subleaf: int) -> Leaf:
    """What CPUID shows a PV guest that asks through the forced-emulation prefix."""
    if XEN_CPUID_FIRST_LEAF <= leaf <= XEN_CPUID_FIRST_LEAF + 0xFF:
        return xen_leaf(vcpu, leaf - XEN_CPUID_FIRST_LEAF, subleaf)
    return PROCESSOR.get(leaf, _NONE)


def xen_leaf(vcpu: "Vcpu", number: int, subleaf: int) -> Leaf:
    """Xen's leaves (public header arch-x86/cpuid.h; values of golden entry/dump32)."""
    if number == 0:
        last = XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES
        return last, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX
    if number == 1:
        return XEN_VERSION, 0, 0, 0
    if number == 2:
        return 1, _MSR_INDEX_OF_HYPERCALL_PAGE, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0
    if number == 3 and subleaf == 0:
        return _RDTSCP_AVAILABLE, 0, 0, 0
    if number == 3 and subleaf == _PHYSICAL_CLOCK:
        return CYCLES_PER_SECOND // 1000, 0, 0, 0
    if number == 5 and subleaf == 0:
        frames = vcpu.domain.hypervisor.ram.frames
        return 0, (frames - 1).bit_length() + PAGE_SHIFT, 0, 0
    return _NONE
