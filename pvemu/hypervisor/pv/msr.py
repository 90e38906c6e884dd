"""The model-specific registers that Xen emulates for a 32-bit PV guest; any other is #GP."""

from collections.abc import Callable
from typing import Final

from pvemu.hypervisor.vcpu import Vcpu

_TSC: Final = 0x10
_APIC_BASE: Final = 0x1B
_MISC_ENABLE: Final = 0x1A0
_PAT: Final = 0x277
_EFER: Final = 0xC0000080

#: EFER without what a 32-bit guest has no use for: SCE and NXE (golden: msr-efer).
_GUEST_EFER: Final = 0x801
#: Xen's order of memory types (golden: msr-pat-lo; high half: write-combining, write-protected).
_XEN_PAT: Final = 0x0000_0501_0007_0406
_APIC_ENABLED_AT_DEFAULT: Final = 0xFEE0_0800
_APIC_BOOT_PROCESSOR: Final = 1 << 8

# Numbers that read as zero and may be written: power management of AMD's processors, which Linux tries.
_IGNORED: Final = frozenset({0xC0010015, 0xC001001F, 0xC0010041, 0xC0010042, *range(0xC0010061, 0xC001006C)})


def _tsc(vcpu: Vcpu) -> int:
    return vcpu.domain.hypervisor.tsc()


def _apic_base(vcpu: Vcpu) -> int:
    return _APIC_ENABLED_AT_DEFAULT | (_APIC_BOOT_PROCESSOR if vcpu.id == 0 else 0)


_READ: Final[dict[int, Callable[[Vcpu], int]]] = {
    _TSC: _tsc,
    _APIC_BASE: _apic_base,
    _MISC_ENABLE: lambda vcpu: 0x0080_1800,
    _PAT: lambda vcpu: _XEN_PAT,
    _EFER: lambda vcpu: _GUEST_EFER,
    **{number: lambda vcpu: 0 for number in _IGNORED},
}


def read_msr(vcpu: Vcpu, number: int) -> int | None:
    """The 64-bit value that the guest reads; None: it may not."""
    read = _READ.get(number)
    return None if read is None else read(vcpu)


def write_msr(_vcpu: Vcpu, number: int, value: int) -> bool:
    """Whether the guest may write the value: EFER only as it is."""
    return number in _IGNORED or (number == _EFER and value == _GUEST_EFER)
