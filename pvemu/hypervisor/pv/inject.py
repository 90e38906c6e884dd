"""Exceptions, software interrupts and upcalls given to the guest through its own tables."""

from typing import Final

from pvemu.abi.xen import vcpu_info
from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.page_tables import FAULT_USER

#: Where a 32-bit guest finds CR2 in its vcpu_info.
CR2: Final = vcpu_info.offset("arch.cr2", 4)
_HFLAGS: Final = layout.HFLAGS // 4

#: Names for the log, as Xen prints them.
VECTOR_NAMES: Final = {
    exits.DE: "DE", exits.DB: "DB", exits.NMI: "NMI", exits.BP: "BP", exits.OF: "OF", exits.BR: "BR",
    exits.UD: "UD", exits.NM: "NM", exits.DF: "DF", exits.TS: "TS", exits.NP: "NP", exits.SS: "SS",
    exits.GP: "GP", exits.PF: "PF", exits.MF: "MF", exits.AC: "AC", exits.MC: "MC", exits.XF: "XM",
}  # fmt: skip

#: What Xen prints where there is none.
_NO_ERROR_CODE: Final = 0xFFFFFFFF
_DR6_SINGLE_STEP: Final = 1 << 14

#: Exceptions that are traps: they come after the instruction, and their frame shows RF clear.
_TRAPS: Final = frozenset({exits.DB, exits.BP, exits.OF})


def kernel_mode(vcpu: Vcpu) -> bool:
    """Whether the guest is in its kernel, that is in ring 1."""
    return vcpu.domain.hypervisor.cpu.window.u32[_HFLAGS] & layout.HF_CPL == 1


def inject_exception(vcpu: Vcpu, vector: int, error_code: int = 0, *, resume_flag: int | None = None) -> None:
    """Deliver a hardware exception (Xen: pv_inject_hw_exception). Without a handler the domain crashes."""
    handler = vcpu.traps[vector]
    if handler.selector & ~3 == 0:
        shown = error_code if vector in exits.WITH_ERROR_CODE else _NO_ERROR_CODE
        vcpu.domain.crash(f"Unhandled: vec {vector}, #{VECTOR_NAMES.get(vector, '??')}[{shown:04x}]")
        return
    if resume_flag is None:
        resume_flag = 0 if vector in _TRAPS else flags.RF
    vcpu.domain.hypervisor.bounce(
        vcpu,
        handler.selector,
        handler.address,
        handler.masks_events,
        error_code if vector in exits.WITH_ERROR_CODE else None,
        resume_flag,
    )


def inject_single_step(vcpu: Vcpu) -> None:
    """Deliver the debug exception of an instruction that ran with TF set."""
    vcpu.debugreg[6] |= _DR6_SINGLE_STEP
    inject_exception(vcpu, exits.DB)


def inject_page_fault(vcpu: Vcpu, error_code: int, address: int) -> None:
    """Deliver a page fault at a linear address; the guest finds it in vcpu_info.arch.cr2."""
    hypervisor = vcpu.domain.hypervisor
    vcpu.cr2 = address = address & 0xFFFFFFFF
    hypervisor.ram.u32[vcpu.info + CR2 >> 2] = address
    if hypervisor.cpu.window.u32[_HFLAGS] & layout.HF_CPL == 1:
        error_code &= ~FAULT_USER
    else:
        error_code |= FAULT_USER
    selector, handler, _, masks_events = vcpu.traps[exits.PF]
    if selector & ~3:
        hypervisor.bounce(vcpu, selector, handler, masks_events, error_code, flags.RF)
    else:
        vcpu.domain.crash(f"Unhandled: vec {exits.PF}, #PF[{error_code:04x}] at {address:08x}")


def inject_interrupt(vcpu: Vcpu, vector: int, *, resume_flag: int = 0) -> None:
    """Deliver a software interrupt that the guest's trap table permits."""
    handler = vcpu.traps[vector]
    if handler.selector & ~3 == 0:
        vcpu.domain.crash(f"Unhandled: vec {vector}, ???[{_NO_ERROR_CODE:04x}]")
        return
    vcpu.domain.hypervisor.bounce(
        vcpu, handler.selector, handler.address, handler.masks_events, None, resume_flag
    )


def deliver_nmi(vcpu: Vcpu) -> None:
    """Enter the guest's NMI handler; a guest without one gets nothing, and further NMIs wait for its iret."""
    if vcpu.nmi_masked:
        return
    vcpu.nmi_pending = False
    handler = vcpu.traps[exits.NMI]
    if handler.selector & ~3:
        vcpu.nmi_masked = True
        vcpu.domain.hypervisor.bounce(vcpu, handler.selector, handler.address, handler.masks_events)


def inject_upcall(vcpu: Vcpu, *, resume_flag: int = 0) -> None:
    """Call the guest's event callback, with upcalls masked."""
    callback = vcpu.event_callback
    vcpu.domain.hypervisor.bounce(vcpu, callback.selector, callback.address, True, None, resume_flag)
