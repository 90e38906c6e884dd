"""CPUID of an HVM guest: the processor's leaves with what only such a guest may use, and Xen's own leaves."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.arch_x86 import (
    XEN_CPUID_FIRST_LEAF,
    XEN_HVM_CPUID_DOMID_PRESENT,
    XEN_HVM_CPUID_IOMMU_MAPPINGS,
    XEN_HVM_CPUID_UPCALL_VECTOR,
    XEN_HVM_CPUID_VCPU_ID_PRESENT,
)
from pvemu.hypervisor.cpuid import (
    EXTENDED_ECX,
    EXTENDED_EDX,
    FEATURES_ECX,
    FEATURES_EDX,
    PROCESSOR,
    Leaf,
    bits,
    xen_leaf,
)

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: PSE, MCE, MTRR, PGE, MCA and PSE36, which Xen hides from PV guests only.
_MORE_FEATURES: Final = bits(3, 7, 12, 13, 14, 17)
#: A local APIC that is switched off is not there.
_APIC: Final = bits(9)
_TSC_DEADLINE: Final = bits(24)
_GIGABYTE_PAGES: Final = bits(26)
_FSGSBASE: Final = bits(0)
_CLFLUSH_SIZE: Final = 8 << 8
_APIC_ID_SHIFT: Final = 24
_STRUCTURED_FEATURES: Final = 7

_PROCESSOR: Final[dict[int, Leaf]] = {
    **PROCESSOR,
    0x80000001: (
        PROCESSOR[0x80000001][0],
        0,
        EXTENDED_ECX,
        EXTENDED_EDX | _MORE_FEATURES | _GIGABYTE_PAGES,
    ),
    _STRUCTURED_FEATURES: (0, _FSGSBASE, 0, 0),
}
_HVM_FEATURES: Final = (
    XEN_HVM_CPUID_IOMMU_MAPPINGS
    | XEN_HVM_CPUID_VCPU_ID_PRESENT
    | XEN_HVM_CPUID_DOMID_PRESENT
    | XEN_HVM_CPUID_UPCALL_VECTOR
)


def guest_cpuid(vcpu: "Vcpu", leaf: int, subleaf: int) -> Leaf:
    """EAX, EBX, ECX and EDX as CPUID shows them to an HVM guest."""
    if XEN_CPUID_FIRST_LEAF <= leaf <= XEN_CPUID_FIRST_LEAF + 0xFF:
        return _xen_leaf(vcpu, leaf - XEN_CPUID_FIRST_LEAF, subleaf)
    if leaf == 1:
        has_apic = vcpu.hvm.vlapic.is_on
        return (
            PROCESSOR[1][0],
            apic_id(vcpu) << _APIC_ID_SHIFT | _CLFLUSH_SIZE,
            FEATURES_ECX | _TSC_DEADLINE,
            (FEATURES_EDX | _MORE_FEATURES) & (-1 if has_apic else ~_APIC),
        )
    if leaf == _STRUCTURED_FEATURES and subleaf:
        return 0, 0, 0, 0
    return _PROCESSOR.get(leaf, (0, 0, 0, 0))


def apic_id(vcpu: "Vcpu") -> int:
    """The local APIC's id, of which Xen gives each vCPU the next even one."""
    return 2 * vcpu.id & 0xFF


def _xen_leaf(vcpu: "Vcpu", number: int, subleaf: int) -> Leaf:
    if number == 2:
        pages, msr, _, _ = xen_leaf(vcpu, number, subleaf)
        return pages, msr, 0, 0
    if number == 4 and subleaf == 0:
        return _HVM_FEATURES, vcpu.id, vcpu.domain.domid, 0
    return (0, 0, 0, 0) if number == 5 else xen_leaf(vcpu, number, subleaf)
