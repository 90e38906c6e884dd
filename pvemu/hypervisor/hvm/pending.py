"""What is looked at on every way into an HVM guest: does an interrupt wait, can it be delivered now."""

from typing import TYPE_CHECKING

from pvemu.hypervisor.hvm.interrupts import (
    can_inject_interrupt,
    can_inject_nmi,
    inject_interrupt,
    inject_nmi,
)

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu


def events_need_delivery(vcpu: "Vcpu") -> bool:
    """Whether an interrupt would be delivered at once, so that the vCPU has no reason to sleep."""
    if vcpu.nmi_pending:
        return can_inject_nmi(vcpu)
    return _interrupt_is_due(vcpu) and can_inject_interrupt(vcpu)


def test_interrupts(vcpu: "Vcpu") -> None:
    """Deliver what is pending for the vCPU that is loaded, or have it told when it can be delivered.

    An NMI goes first, then an upcall for events, then the interrupt controllers (Xen:
    hvm_vcpu_has_pending_irq).
    """
    hvm, domain = vcpu.hvm, vcpu.domain
    if not hvm.attention or domain.has_shut_down:
        return
    hypervisor = domain.hypervisor
    if vcpu.nmi_pending and can_inject_nmi(vcpu):
        hypervisor.wake(vcpu)
        inject_nmi(vcpu)
    elif vcpu.nmi_pending:
        hypervisor.cpu.await_nmi_window()
    if _interrupt_is_due(vcpu) and can_inject_interrupt(vcpu) and not domain.has_shut_down:
        if vcpu.blocked:
            hypervisor.wake(vcpu)
        upcall = domain.hvm.upcalls.due_vector(vcpu)
        vector = domain.hvm.platform.acknowledge(vcpu.id) if upcall is None else upcall
        if vector is not None:
            inject_interrupt(vcpu, vector)
    if _interrupt_is_due(vcpu):
        # One at a time: a handler that lets interrupts in can't stand for ever before its first instruction.
        hypervisor.cpu.await_interrupt_window()
        return
    hvm.attention = vcpu.nmi_pending or domain.hvm.upcalls.line_is_high
    hypervisor.cpu.forget_interrupt_window()


def _interrupt_is_due(vcpu: "Vcpu") -> bool:
    hvm = vcpu.domain.hvm
    return hvm.upcalls.due_vector(vcpu) is not None or hvm.platform.pending_vector(vcpu.id)
