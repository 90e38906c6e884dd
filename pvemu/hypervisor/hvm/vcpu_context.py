"""The registers that an HVM guest chooses for a further vCPU of its own (header hvm/hvm_vcpu.h)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hvm_vcpu import VCPU_HVM_MODE_32B, VCPU_HVM_MODE_64B
from pvemu.cpu import layout
from pvemu.cpu.mode import (
    CR0_CD,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR4_PAE,
    EFER_FFXSR,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
)
from pvemu.cpu.segments import (
    GRANULAR,
    NOT_SYSTEM,
    PRESENT,
    TYPE_ACCESSED,
    TYPE_CODE,
    TYPE_WRITABLE,
    is_canonical,
)
from pvemu.hypervisor.hvm.control_registers import CR4_KNOWN, PHYSICAL_BITS
from pvemu.hypervisor.hvm.msr import TSC
from pvemu.hypervisor.hvm.segment_registers import SegmentRegister

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_EFER_KNOWN: Final = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR
_SEGMENTS: Final = {"cs": layout.CS, "ds": layout.DS, "ss": layout.SS, "es": layout.ES, "tr": layout.TR}
_UNUSED_ATTRIBUTES: Final = 0xF000
_TYPE: Final = 0xF00
_BUSY: Final = 2 << 8
_BUSY_TASK: Final = 0xB00
_WHOLE: Final = 0xFFFFFFFF

#: General registers by their numbers.
_NAMES: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")


def _attributes(access: int) -> int:
    """The upper word of a descriptor, of an _ar field."""
    return (access & 0xFF) << 8 | (access >> 8 & 0xF) << 20


# The segments of VCPU_HVM_MODE_64B.
_LONG_CODE: Final = SegmentRegister(0, 0, _WHOLE, _attributes(0xA9B))
_FLAT_DATA: Final = SegmentRegister(0, 0, _WHOLE, _attributes(0xC93))
_TASK: Final = SegmentRegister(0, 0, 0x67, _attributes(0x8B))
#: The registers that neither form gives.
_OTHERS: Final = {
    **dict.fromkeys((layout.FS, layout.GS), _FLAT_DATA),
    **dict.fromkeys((layout.LDTR, layout.GDTR, layout.IDTR), SegmentRegister(0, 0, 0, 0)),
}


class ControlRegisters(NamedTuple):
    """CR0, CR3, CR4 and EFER."""

    cr0: int
    cr3: int
    cr4: int
    efer: int

    @property
    def is_sound(self) -> bool:
        """Whether a processor runs with them at all (APM volume 2, section 15.5.1: illegal guest state)."""
        paging, long = self.cr0 & CR0_PG, self.efer & EFER_LME
        return not (
            self.cr0 >> 32
            or self.cr0 & (CR0_NW | CR0_CD) == CR0_NW
            or (paging and not self.cr0 & CR0_PE)
            or (paging and long and not self.cr4 & CR4_PAE)
            or self.cr3 >> PHYSICAL_BITS
        )


@dataclass(frozen=True)
class HvmContext:
    """The registers, ready to be loaded: general ones by number, and segments by layout.CS and so on.

    `tsc_offset` is the distance between the machine's time-stamp counter and the vCPU's.
    """

    general: tuple[int, ...]
    eip: int
    eflags: int
    control: ControlRegisters
    segments: dict[int, SegmentRegister]
    tsc_offset: int


def initialise(vcpu: "Vcpu", context: Any) -> None:
    """Keep a vcpu_hvm_context for a vCPU, which has to be brought up then; raises HypercallError(EINVAL)."""
    modes = {VCPU_HVM_MODE_32B: _protected, VCPU_HVM_MODE_64B: _long}
    if context.pad or context.mode not in modes:
        raise _invalid()
    tsc_offset = vcpu.domain.vcpus[0].hvm.msrs.get(TSC, 0)
    vcpu.hvm.entry = modes[context.mode](context.cpu_regs, tsc_offset)
    vcpu.saved = None
    vcpu.is_initialised = True


def _invalid() -> HypercallError:
    return HypercallError(Errno.EINVAL)


def _protected(registers: Any, tsc_offset: int) -> HvmContext:
    """VCPU_HVM_MODE_32B: protected mode, or compatibility mode."""
    given = registers.x86_32
    if given.pad1 or any(given.pad2):
        raise _invalid()
    segments = {number: _segment(given, name) for name, number in _SEGMENTS.items()}
    code, stack = segments[layout.CS], segments[layout.SS]
    limit = code.limit << 12 | 0xFFF if code.attributes & GRANULAR else code.limit
    if given.eip > limit or stack.dpl != code.dpl:
        raise _invalid()
    for number in (layout.DS, layout.ES):
        if segments[number].attributes & PRESENT and segments[number].dpl > code.dpl:
            raise _invalid()
    if given.efer & EFER_LMA and not given.efer & EFER_LME:
        raise _invalid()
    general = tuple(getattr(given, f"e{name}") for name in _NAMES)
    return HvmContext(general, given.eip, given.eflags, _control(given), _OTHERS | segments, tsc_offset)


def _segment(given: Any, name: str) -> SegmentRegister:
    """A segment register as given; accessed and busy bits are set for it."""
    access = getattr(given, f"{name}_ar")
    if access & _UNUSED_ATTRIBUTES:
        raise _invalid()
    attributes = _attributes(access)
    if not access:
        if name not in ("ds", "es"):
            raise _invalid()
    else:
        attributes |= _BUSY if name == "tr" else TYPE_ACCESSED
        if not attributes & PRESENT or not _is_of_kind(name, attributes):
            raise _invalid()
    return SegmentRegister(0, getattr(given, f"{name}_base"), getattr(given, f"{name}_limit"), attributes)


def _is_of_kind(name: str, attributes: int) -> bool:
    code, writable = bool(attributes & TYPE_CODE), bool(attributes & TYPE_WRITABLE)
    if name == "tr":
        return not attributes & NOT_SYSTEM and attributes & _TYPE == _BUSY_TASK
    fits = {"cs": code, "ss": writable and not code}.get(name, writable or not code)
    return fits and bool(attributes & NOT_SYSTEM)


def _long(registers: Any, tsc_offset: int) -> HvmContext:
    """VCPU_HVM_MODE_64B: 64-bit mode, with the segments that go with it."""
    given = registers.x86_64
    if not is_canonical(given.rip) or not given.cr0 & CR0_PG or not given.cr4 & CR4_PAE:
        raise _invalid()
    if not given.efer & EFER_LME:
        raise _invalid()
    segments = dict.fromkeys((layout.DS, layout.SS, layout.ES), _FLAT_DATA)
    segments |= {layout.CS: _LONG_CODE, layout.TR: _TASK}
    general = tuple(getattr(given, f"r{name}") for name in _NAMES)
    return HvmContext(general, given.rip, given.rflags, _control(given), _OTHERS | segments, tsc_offset)


def _control(given: Any) -> ControlRegisters:
    efer = given.efer
    if given.cr4 & ~CR4_KNOWN or efer & ~_EFER_KNOWN:
        raise _invalid()
    if efer & EFER_LME and given.cr0 & CR0_PG:
        efer |= EFER_LMA
    return ControlRegisters(given.cr0, given.cr3, given.cr4, efer)
