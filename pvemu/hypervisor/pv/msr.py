"""The model-specific registers that Xen emulates for a 32-bit PV guest; any other is #GP.

Judge: golden pv32-* (families msr, trap) and by_kind/registers.
"""

from collections.abc import Callable
from typing import Final

from pvemu.abi.errors import HypercallError
from pvemu.cpu import exits, layout
from pvemu.hypervisor.cpuid import MICROCODE_REVISION
from pvemu.hypervisor.guest_page import get_guest_page, put_guest_page
from pvemu.hypervisor.pv.hypercall_page import hypercall_page
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

#: None: #GP.
_Read = Callable[[Vcpu], int | None]
_Write = Callable[[Vcpu, int], bool]

#: EFER without what a 32-bit guest has no use for: SCE and NXE (golden: msr-efer).
_GUEST_EFER: Final = 0x801
#: Xen's order of memory types (golden: msr-pat-lo; high half: write-combining, write-protected).
_XEN_PAT: Final = 0x0000_0501_0007_0406
#: Fast strings; no branch traces, no event-based sampling, no task priority messages.
_MISC_ENABLE: Final = 0x0080_1801
_APIC_ENABLED_AT_DEFAULT: Final = 0xFEE0_0800
_APIC_BOOT_PROCESSOR: Final = 1 << 8
_LFENCE_SERIALIZES: Final = 2
#: Two banks of machine checks: control, status, address, miscellaneous.
_MACHINE_CHECK_BANKS: Final = range(0x400, 0x408)
_TSC_AUX: Final = layout.TSC_AUX // 8
#: Numbers that begin so are Xen's own, or those of another hypervisor.
_HYPERVISORS: Final = 0x4000
_ALL_ONES: Final = (1 << 64) - 1


def read_msr(vcpu: Vcpu, number: int) -> int | None:
    """The 64-bit value that the guest reads; None: it may not.

    While the guest has no handler of #GP, what it may not read is zero: kernels try registers before they
    have set up their traps.
    """
    entry = _REGISTERS.get(number)
    value = None if entry is None else entry[0](vcpu)
    if value is None and not vcpu.traps[exits.GP].address and number >> 16 != _HYPERVISORS:
        return 0
    return value


def write_msr(vcpu: Vcpu, number: int, value: int) -> bool:
    """Whether the guest may write the 64-bit value; if not, nothing has changed."""
    entry = _REGISTERS.get(number)
    return entry is not None and entry[1](vcpu, value)


def _refuse(_vcpu: Vcpu, _value: int) -> bool:
    return False


def _ignore(_vcpu: Vcpu, _value: int) -> bool:
    return True


def _only(value: int) -> _Write:
    return lambda vcpu, written: written == value


def _constant(value: int) -> _Read:
    return lambda vcpu: value


def _nothing(_vcpu: Vcpu) -> None:
    return None


def _of_the_machine(vcpu: Vcpu) -> int | None:
    """What only domain 0 may read: where memory lies. The machine has nothing to say there."""
    return 0 if vcpu.domain.privileged else None


def _tsc(vcpu: Vcpu) -> int:
    return vcpu.domain.hypervisor.tsc()


def _apic_base(vcpu: Vcpu) -> int:
    return _APIC_ENABLED_AT_DEFAULT | (_APIC_BOOT_PROCESSOR if vcpu.id == 0 else 0)


def _read_mcg_status(vcpu: Vcpu) -> int:
    return vcpu.mcg_status


def _write_mcg_status(vcpu: Vcpu, value: int) -> bool:
    vcpu.mcg_status = value
    return True


def read_tsc_aux(vcpu: Vcpu) -> int:
    """What RDTSCP puts into ECX, 32 bits."""
    return vcpu.domain.hypervisor.cpu.window.u64[_TSC_AUX]


def _write_tsc_aux(vcpu: Vcpu, value: int) -> bool:
    if value >> 32:
        return False
    vcpu.domain.hypervisor.cpu.window.u64[_TSC_AUX] = value
    return True


def _write_hypercall_page(vcpu: Vcpu, value: int) -> bool:
    """Fill a page that the guest may write with the code of hypercalls; the value is its machine address."""
    domain = vcpu.domain
    if value & PAGE_MASK:
        return False
    try:
        frame = get_guest_page(domain, value >> PAGE_SHIFT)
    except HypercallError:
        return False
    domain.hypervisor.ram.frame(frame)[:] = hypercall_page()
    put_guest_page(domain, frame)
    return True


_CONSTANT: Final = {
    # P5_MC_ADDR, P5_MC_TYPE, PLATFORM_INFO, PERF_CAPABILITIES
    **dict.fromkeys((0x0, 0x1, 0xCE, 0x345), 0),
    0x8B: MICROCODE_REVISION,
    0x277: _XEN_PAT,
}
#: Written values are ignored.
_FIXED: Final = {
    0x1A0: _MISC_ENABLE,
    0x179: len(_MACHINE_CHECK_BANKS) // 4,  # MCG_CAP
    0xC001_1029: _LFENCE_SERIALIZES,  # DE_CFG
    # MCG_CTL, MCi_CTL2, and banks that do not exist
    **dict.fromkeys((0x17B, *range(0x280, 0x2A0), *range(0x408, 0x480)), 0),
    **dict.fromkeys(_MACHINE_CHECK_BANKS[::4], _ALL_ONES),
    # Performance counters of AMD's processors: the old ones, the new ones.
    **dict.fromkeys((*range(0xC001_0000, 0xC001_0008), *range(0xC001_0200, 0xC001_020C)), 0),
    # Their power management, which Linux tries: HWCR, NB_CFG, FID and VID, P-states.
    **dict.fromkeys(
        (0xC001_0015, 0xC001_001F, 0xC001_0041, 0xC001_0042, *range(0xC001_0061, 0xC001_006C)), 0
    ),
}
#: SYSCFG, IORRs, TOP_MEM, TOP_MEM2, and the range for system management.
_MEMORY_RANGES: Final = (0xC001_0010, *range(0xC001_0016, 0xC001_001B), 0xC001_001D, 0xC001_0112, 0xC001_0113)

_REGISTERS: Final[dict[int, tuple[_Read, _Write]]] = {
    **{number: (_constant(value), _refuse) for number, value in _CONSTANT.items()},
    **{number: (_constant(value), _ignore) for number, value in _FIXED.items()},
    **{number: (_constant(0), _only(0)) for number in _MACHINE_CHECK_BANKS if number & 3},
    **dict.fromkeys(_MEMORY_RANGES, (_of_the_machine, _refuse)),
    0x10: (_tsc, _refuse),
    0x1B: (_apic_base, _refuse),
    0xE7: (_nothing, _ignore),  # MPERF
    0xE8: (_nothing, _ignore),  # APERF
    0x140: (_constant(0), _only(0)),  # MISC_FEATURES_ENABLES
    0x17A: (_read_mcg_status, _write_mcg_status),
    0x4000_0000: (_constant(0), _write_hypercall_page),
    0xC000_0080: (_constant(_GUEST_EFER), _only(_GUEST_EFER)),
    0xC000_0103: (read_tsc_aux, _write_tsc_aux),
}
