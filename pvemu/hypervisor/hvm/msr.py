"""The model-specific registers of an HVM guest; any other is #GP.

Which there are, and which values they refuse, is what Xen 4.17 does for a guest on AMD's processors. Those
that the engine itself works with (SYSRET, SYSEXIT, SWAPGS, RDTSCP) lie in the state window.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.cpu import layout
from pvemu.cpu.mode import CR0_PG, EFER_FFXSR, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE
from pvemu.cpu.segments import LONG, is_canonical
from pvemu.hypervisor.cpuid import MICROCODE_REVISION
from pvemu.hypervisor.hvm.control_registers import PHYSICAL_BITS
from pvemu.hypervisor.hvm.hypercall_page import hypercall_page
from pvemu.hypervisor.hvm.segment_registers import read_segment, write_segment
from pvemu.hypervisor.hvm.word import latch_shared_info
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

TSC: Final = 0x10
APIC_BASE: Final = 0x1B
TSC_ADJUST: Final = 0x3B
PATCH_LEVEL: Final = 0x8B
PLATFORM_INFO: Final = 0xCE
MTRR_CAP: Final = 0xFE
FEATURES_ENABLED: Final = 0x140  #: MISC_FEATURES_ENABLES
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x174, 0x175, 0x176
PAT: Final = 0x277
TSC_DEADLINE: Final = 0x6E0
MTRR_DEFAULT_TYPE: Final = 0x2FF
HYPERCALL_PAGE: Final = 0x40000000
EFER: Final = 0xC0000080
STAR, LSTAR, CSTAR, SFMASK = 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX = 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103
TSC_RATIO: Final = 0xC0000104
PATCH_LOADER: Final = 0xC0010020
HOST_SAVE_AREA: Final = 0xC0010117  #: VM_HSAVE_PA

#: Set in FEATURES_ENABLED, CPUID is #GP outside of ring 0; PLATFORM_INFO says that this can be had.
CPUID_FAULTS: Final = 1 << 0
_CPUID_CAN_FAULT: Final = 1 << 31

_MTRR_VARIABLE: Final = range(0x200, 0x210)  #: eight ranges: base, mask
_MTRR_FIXED: Final = (0x250, 0x258, 0x259, *range(0x268, 0x270))
#: Eight variable ranges, fixed ranges, write-combining.
_MTRR_CAPABILITIES: Final = 0x508
#: Memory types of MTRRs: uncacheable, write-combining, write-through, write-protected, write-back.
_MTRR_TYPES: Final = frozenset({0, 1, 4, 5, 6})
_PAT_TYPES: Final = _MTRR_TYPES | {7}
_MTRR_DEFAULT_BITS: Final = 0xCFF

_EFER_CHOICES: Final = EFER_SCE | EFER_LME | EFER_NXE | EFER_FFXSR
_MTRR_ENABLED, _WRITE_BACK = 1 << 11, 6
#: Two banks of machine checks: control, status, address, miscellaneous.
_MACHINE_CHECK_BANKS: Final = range(0x400, 0x408)
#: DEBUGCTL, and from where to where the last branch and the last interrupt went.
_LAST_BRANCHES: Final = (0x1D9, *range(0x1DB, 0x1DF))
#: Error thresholds of the fourth bank (MC4_MISC1 to 3), which the firmware keeps to itself.
_THRESHOLDS: Final = range(0xC0000408, 0xC000040B)
_LOCKED: Final = 1 << 61
#: Behind it are addresses that AMD's processors reserve.
_LAST_SAVE_AREA: Final = 0xFD_0000_0000
_LOW: Final = 0xFFFFFFFF

#: What a vCPU's registers hold at reset, where that is not zero. The default memory type is write-back, as a
#: toolstack sets it for a guest without firmware.
INITIAL: Final = {
    MTRR_DEFAULT_TYPE: _MTRR_ENABLED | _WRITE_BACK,
    PAT: 0x0007_0406_0007_0406,
}

_Read = Callable[["Vcpu"], int]
_Write = Callable[["Vcpu", int], bool]


def read_msr(vcpu: "Vcpu", number: int) -> int | None:
    """The 64-bit value that RDMSR shows; None: the guest gets #GP(0)."""
    entry = _REGISTERS.get(number)
    return None if entry is None or entry[0] is None else entry[0](vcpu)


def write_msr(vcpu: "Vcpu", number: int, value: int) -> bool:
    """WRMSR; False: the guest gets #GP(0), and nothing has changed."""
    entry = _REGISTERS.get(number)
    return entry is not None and entry[1](vcpu, value)


def _refuse(_vcpu: "Vcpu", _value: int) -> bool:
    return False


def _ignore(_vcpu: "Vcpu", _value: int) -> bool:
    return True


def _only_zero(_vcpu: "Vcpu", value: int) -> bool:
    return value == 0


def _constant(value: int) -> _Read:
    return lambda vcpu: value


# --- registers that the engine has a place for ---------------------------------------------------------


def _in_window(offset: int, valid: Callable[[int], bool] = lambda value: True) -> tuple[_Read, _Write]:
    """A register of eight bytes in the state window."""
    index = offset // 8

    def read(vcpu: "Vcpu") -> int:
        return vcpu.domain.hypervisor.cpu.window.u64[index]

    def write(vcpu: "Vcpu", value: int) -> bool:
        if valid(value):
            vcpu.domain.hypervisor.cpu.window.u64[index] = value
            return True
        return False

    return read, write


def _segment_base(register: int) -> tuple[_Read, _Write]:
    return _in_window(layout.SEGMENTS + register * layout.SEGMENT_SIZE + layout.BASE, is_canonical)


def _read_sysenter_cs(vcpu: "Vcpu") -> int:
    return vcpu.domain.hypervisor.cpu.window.u32[layout.SYSENTER_CS // 4]


def _write_sysenter_cs(vcpu: "Vcpu", value: int) -> bool:
    vcpu.domain.hypervisor.cpu.window.u32[layout.SYSENTER_CS // 4] = value & _LOW
    return True


# --- registers that only the guest looks at ------------------------------------------------------------


def _kept(number: int, valid: Callable[[int], bool]) -> tuple[_Read, _Write]:
    """A register that is remembered, and has no effect."""

    def write(vcpu: "Vcpu", value: int) -> bool:
        if valid(value):
            vcpu.hvm.msrs[number] = value
            return True
        return False

    return lambda vcpu: vcpu.hvm.msrs.get(number, INITIAL.get(number, 0)), write


def _all_bytes_in(types: frozenset[int]) -> Callable[[int], bool]:
    return lambda value: types.issuperset(value.to_bytes(8, "little"))


def _is_default_type(value: int) -> bool:
    return value & 0xFF in _MTRR_TYPES and not value & ~_MTRR_DEFAULT_BITS


def _is_range_base(value: int) -> bool:
    return value & 0xFF in _MTRR_TYPES and not value & 0xF00 and not value >> PHYSICAL_BITS


def _is_range_mask(value: int) -> bool:
    return not value & 0x7FF and not value >> PHYSICAL_BITS


# --- registers that do something -----------------------------------------------------------------------


def _write_efer(vcpu: "Vcpu", value: int) -> bool:
    """EFER: LMA is not the guest's to write, and LME can't change while paging is on."""
    hvm = vcpu.hvm
    value &= ~EFER_LMA
    changed = value ^ hvm.efer
    if value & ~_EFER_CHOICES or (changed & EFER_LME and hvm.cr0 & CR0_PG):
        return False
    if changed & value & EFER_LME:
        _leave_long_code(vcpu)
    hvm.efer = value | hvm.efer & EFER_LMA
    if changed & EFER_NXE:
        vcpu.domain.hvm.paging.mode_changed(vcpu)
    return True


def _leave_long_code(vcpu: "Vcpu") -> None:
    """A 64-bit code segment loaded in legacy mode must not become one unnoticed: Xen takes its L bit away."""
    window = vcpu.domain.hypervisor.cpu.window
    code = read_segment(window, layout.CS)
    if code.attributes & LONG:
        write_segment(window, layout.CS, code._replace(attributes=code.attributes & ~LONG))


def _read_tsc(vcpu: "Vcpu") -> int:
    return vcpu.domain.hypervisor.tsc() + vcpu.hvm.msrs.get(TSC, 0) & (1 << 64) - 1


def _write_tsc(vcpu: "Vcpu", value: int) -> bool:
    """The offset between the machine's counter and the guest's is what is kept; TSC_ADJUST moves along."""
    moved = value - _read_tsc(vcpu)
    _move_tsc(vcpu, moved)
    return True


def _write_tsc_adjust(vcpu: "Vcpu", value: int) -> bool:
    _move_tsc(vcpu, value - vcpu.hvm.msrs.get(TSC_ADJUST, 0))
    return True


def _move_tsc(vcpu: "Vcpu", cycles: int) -> None:
    msrs = vcpu.hvm.msrs
    for number in (TSC, TSC_ADJUST):
        msrs[number] = msrs.get(number, 0) + cycles & (1 << 64) - 1


def _read_apic_base(vcpu: "Vcpu") -> int:
    return vcpu.hvm.vlapic.base


def _write_apic_base(vcpu: "Vcpu", value: int) -> bool:
    return vcpu.hvm.vlapic.set_base(value)


def _read_tsc_deadline(vcpu: "Vcpu") -> int:
    """The time that the guest waits for, of its own counter; 0 once it has come."""
    is_to_come = vcpu.hvm.vlapic.deadline > vcpu.domain.hypervisor.tsc()
    return vcpu.hvm.msrs[TSC_DEADLINE] if is_to_come else 0


def _write_tsc_deadline(vcpu: "Vcpu", value: int) -> bool:
    """The local APIC counts on the machine's counter: as in Xen, to write the guest's moves no deadline."""
    vcpu.hvm.msrs[TSC_DEADLINE] = value
    left = max(value - _read_tsc(vcpu), 0)
    vcpu.hvm.vlapic.deadline = vcpu.domain.hypervisor.tsc() + left if value else 0
    return True


def _write_hypercall_page(vcpu: "Vcpu", value: int) -> bool:
    """Fill the page at a guest-physical address with hypercall stubs (public header arch-x86/cpuid.h)."""
    hypervisor, p2m = vcpu.domain.hypervisor, vcpu.domain.p2m
    gfn = value >> PAGE_SHIFT
    mfn = p2m.get(gfn)
    if value & PAGE_MASK or mfn is None or not p2m.is_writable(gfn):
        return False
    latch_shared_info(vcpu)
    hypervisor.before_write(mfn)
    hypervisor.ram.u8[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT] = hypercall_page()
    return True


# Numbers of AMD's processors that read as zero and ignore what is written: performance counters, SYSCFG,
# TOP_MEM, TOP_MEM2, EX_CFG, VM_CR, and NB_CFG.
_READ_AS_ZERO: Final = frozenset(
    {*range(0xC0010000, 0xC0010008), *range(0xC0010200, 0xC001020C)}
    | {0xC0010010, 0xC001001A, 0xC001001D, 0xC001001F, 0xC001102C, 0xC0010114}
)

#: P5_MC_ADDR, P5_MC_TYPE, EBC_FREQUENCY_ID, ENABLE_C1E.
_ONLY_READ_AS_ZERO: Final = (0x0, 0x1, 0x2C, 0xC0010055)

#: Every register by number: how it is read, and how it is written; None: it can't be.
_REGISTERS: Final[dict[int, tuple[_Read | None, _Write]]] = {
    TSC: (_read_tsc, _write_tsc),
    APIC_BASE: (_read_apic_base, _write_apic_base),
    TSC_DEADLINE: (_read_tsc_deadline, _write_tsc_deadline),
    TSC_ADJUST: (lambda vcpu: vcpu.hvm.msrs.get(TSC_ADJUST, 0), _write_tsc_adjust),
    **{number: (_constant(0), _refuse) for number in _ONLY_READ_AS_ZERO},
    PATCH_LEVEL: (_constant(MICROCODE_REVISION), _refuse),
    PLATFORM_INFO: (_constant(_CPUID_CAN_FAULT), _refuse),
    FEATURES_ENABLED: _kept(FEATURES_ENABLED, lambda value: not value & ~CPUID_FAULTS),
    **{number: _kept(number, lambda value: True) for number in _LAST_BRANCHES},
    MTRR_CAP: (_constant(_MTRR_CAPABILITIES), _refuse),
    SYSENTER_CS: (_read_sysenter_cs, _write_sysenter_cs),
    SYSENTER_ESP: _in_window(layout.SYSENTER_ESP, is_canonical),
    SYSENTER_EIP: _in_window(layout.SYSENTER_EIP, is_canonical),
    **{number: (_constant(0), _ignore) for number in (0x17B, *range(0x280, 0x2A0), *range(0x400, 0x480))},
    **{number: (_constant(0), _only_zero) for number in _MACHINE_CHECK_BANKS},
    **{number: (_constant((1 << 64) - 1), _ignore) for number in _MACHINE_CHECK_BANKS[::4]},
    0x179: (_constant(len(_MACHINE_CHECK_BANKS) // 4), _ignore),  # MCG_CAP
    0x17A: _kept(0x17A, lambda value: True),  # MCG_STATUS
    PAT: _kept(PAT, _all_bytes_in(_PAT_TYPES)),
    MTRR_DEFAULT_TYPE: _kept(MTRR_DEFAULT_TYPE, _is_default_type),
    **{number: _kept(number, _is_range_base) for number in _MTRR_VARIABLE[::2]},
    **{number: _kept(number, _is_range_mask) for number in _MTRR_VARIABLE[1::2]},
    **{number: _kept(number, _all_bytes_in(_MTRR_TYPES)) for number in _MTRR_FIXED},
    HYPERCALL_PAGE: (_constant(0), _write_hypercall_page),
    EFER: (lambda vcpu: vcpu.hvm.efer, _write_efer),
    STAR: _in_window(layout.STAR),
    LSTAR: _in_window(layout.LSTAR, is_canonical),
    CSTAR: _in_window(layout.CSTAR, is_canonical),
    SFMASK: _in_window(layout.SFMASK),
    FS_BASE: _segment_base(layout.FS),
    GS_BASE: _segment_base(layout.GS),
    KERNEL_GS_BASE: _in_window(layout.KERNEL_GS_BASE, is_canonical),
    TSC_AUX: _in_window(layout.TSC_AUX, lambda value: not value >> 32),
    TSC_RATIO: _kept(TSC_RATIO, lambda value: not value >> 40),
    **{number: (_constant(_LOCKED), _ignore) for number in _THRESHOLDS},
    PATCH_LOADER: (None, _ignore),
    HOST_SAVE_AREA: _kept(HOST_SAVE_AREA, lambda value: not value & PAGE_MASK and value <= _LAST_SAVE_AREA),
    **{number: (_constant(0), _ignore) for number in _READ_AS_ZERO},
    0xC0010015: (_constant(0), _refuse),  # HWCR
    0xC0011029: (_constant(2), _ignore),  # DE_CFG: LFENCE serialises
}
