"""When an interrupt or NMI may be delivered to an HVM guest, and which one is next.

AMD64 Architecture Programmer's Manual volume 2, section 8.5.
"""

from typing import TYPE_CHECKING

from pvemu.abi.sched import SHUTDOWN_poweroff
from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.hvm.event import Event, Source
from pvemu.hypervisor.hvm.event_delivery import deliver

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_HFLAGS, _HFLAGS2, _EFLAGS = layout.HFLAGS // 4, layout.HFLAGS2 // 4, layout.EFLAGS // 8


def in_interrupt_shadow(vcpu: "Vcpu") -> bool:
    """Whether the instruction before was STI or a load of SS, after which nothing may come in between."""
    return bool(vcpu.domain.hypervisor.cpu.window.u32[_HFLAGS] & layout.HF_INHIBIT_IRQ)


def can_inject_interrupt(vcpu: "Vcpu") -> bool:
    """Whether the guest takes a maskable interrupt before its next instruction."""
    return bool(vcpu.domain.hypervisor.cpu.window.u64[_EFLAGS] & flags.IF) and not in_interrupt_shadow(vcpu)


def can_inject_nmi(vcpu: "Vcpu") -> bool:
    """Whether the guest takes an NMI: not between one and the IRET that ends its handler."""
    masked = vcpu.domain.hypervisor.cpu.window.u32[_HFLAGS2] & layout.HF2_NMI
    return not masked and not in_interrupt_shadow(vcpu)


def inject_interrupt(vcpu: "Vcpu", vector: int) -> None:
    """Enter the guest's handler of an interrupt; the controller has acknowledged the vector."""
    deliver(vcpu, Event(vector, Source.EXTERNAL))


def inject_nmi(vcpu: "Vcpu") -> None:
    """Enter the guest's handler of NMIs, and keep further ones out until it has returned by IRET."""
    cpu = vcpu.domain.hypervisor.cpu
    vcpu.nmi_pending = False
    cpu.forget_nmi_window()
    cpu.window.u32[_HFLAGS2] |= layout.HF2_NMI
    deliver(vcpu, Event(exits.NMI, Source.EXTERNAL))


def halt(vcpu: "Vcpu") -> None:
    """HLT: the vCPU sleeps until an interrupt comes.

    One that has interrupts off can't be woken, and takes itself offline; with the last one the domain
    powers off, as real Xen has it (hvm_hlt).
    """
    hypervisor, domain = vcpu.domain.hypervisor, vcpu.domain
    if vcpu.domain.hypervisor.cpu.window.u64[_EFLAGS] & flags.IF:
        vcpu.blocked = True
    else:
        vcpu.online = False
        if not any(other.online for other in domain.vcpus):
            domain.shutdown(SHUTDOWN_poweroff)
    hypervisor.reschedule()
