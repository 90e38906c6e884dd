"""SYSCALL and SYSENTER, which the engine only reports; SYSRET and SYSEXIT it executes itself.

Rules: AMD64 Architecture Programmer's Manual volume 2, section 6.1, and volume 3. On AMD's processors
SYSENTER is no instruction of long mode, not even in its 32-bit code.
"""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.mode import EFER_SCE
from pvemu.cpu.segments import (
    BIG,
    GRANULAR,
    LONG,
    NOT_SYSTEM,
    PRESENT,
    TYPE_ACCESSED,
    TYPE_CODE,
    TYPE_WRITABLE,
)
from pvemu.hypervisor.hvm.event import Event
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.handler_entry import enter
from pvemu.hypervisor.hvm.instruction_fetch import instruction_length
from pvemu.hypervisor.hvm.segment_registers import SegmentRegister

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_EIP, _RSP, _RCX, _R11 = layout.EIP // 8, layout.RSP, layout.RCX, 11
_HFLAGS: Final = layout.HFLAGS // 4
_STAR, _LSTAR, _CSTAR, _SFMASK = layout.STAR // 8, layout.LSTAR // 8, layout.CSTAR // 8, layout.SFMASK // 8
_SYSENTER_CS = layout.SYSENTER_CS // 4
_SYSENTER_ESP, _SYSENTER_EIP = layout.SYSENTER_ESP // 8, layout.SYSENTER_EIP // 8
_LOW: Final = 0xFFFFFFFF

# Flat segments of ring 0; they are made, not read from any table.
_FLAT: Final = PRESENT | NOT_SYSTEM | TYPE_WRITABLE | TYPE_ACCESSED | GRANULAR
_CODE64, _CODE32, _STACK = _FLAT | TYPE_CODE | LONG, _FLAT | TYPE_CODE | BIG, _FLAT | BIG


def _flat_ring(selector: int, code: int) -> dict[int, SegmentRegister]:
    selector &= 0xFFFC
    return {
        layout.CS: SegmentRegister(selector, 0, _LOW, code),
        layout.SS: SegmentRegister(selector + 8 & 0xFFFF, 0, _LOW, _STACK),
    }


def system_call(vcpu: "Vcpu") -> None:
    """SYSCALL at EIP: to the place that STAR, LSTAR or CSTAR name, in ring 0 on the same stack."""
    window = vcpu.domain.hypervisor.cpu.window
    u64, hflags = window.u64, window.u32[_HFLAGS]
    if not vcpu.hvm.efer & EFER_SCE or not hflags & layout.HF_PE:
        deliver(vcpu, Event(exits.UD))
        return
    selector = u64[_STAR] >> 32
    following = u64[_EIP] + instruction_length(vcpu)
    if hflags & layout.HF_LMA:
        in_long_code = hflags & layout.HF_CS64
        u64[_RCX] = following if in_long_code else following & _LOW
        u64[_R11] = flags.read_eflags(window) & ~flags.RF
        target = u64[_LSTAR if in_long_code else _CSTAR]
        _clear_flags(vcpu, u64[_SFMASK] & _LOW | flags.RF)
        enter(window, target, u64[_RSP], _flat_ring(selector, _CODE64), 0)
    else:
        u64[_RCX] = following & _LOW
        cleared = flags.IF | flags.RF | flags.VM
        enter(window, u64[_STAR] & _LOW, u64[_RSP], _flat_ring(selector, _CODE32), cleared)


def system_enter(vcpu: "Vcpu") -> None:
    """SYSENTER at EIP: to the place and stack that the SYSENTER registers name."""
    window = vcpu.domain.hypervisor.cpu.window
    u32, u64 = window.u32, window.u64
    selector = u32[_SYSENTER_CS]
    if u32[_HFLAGS] & layout.HF_LMA:
        deliver(vcpu, Event(exits.UD))
    elif not u32[_HFLAGS] & layout.HF_PE or not selector & 0xFFFC:
        deliver(vcpu, Event(exits.GP, error_code=0))
    else:
        cleared = flags.IF | flags.RF | flags.VM
        target, stack = u64[_SYSENTER_EIP] & _LOW, u64[_SYSENTER_ESP] & _LOW
        enter(window, target, stack, _flat_ring(selector, _CODE32), cleared)


def _clear_flags(vcpu: "Vcpu", cleared: int) -> None:
    """The mask may name arithmetic flags, which the engine keeps apart from the others."""
    window = vcpu.domain.hypervisor.cpu.window
    flags.write_eflags(window, flags.read_eflags(window) & ~cleared)
