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
    domain = vcpu.domain
    if vcpu.nmi_pending:
        return can_inject_nmi(vcpu)
    due = domain.hvm.upcalls.due_vector(vcpu) is not None
    return (due or domain.hvm.platform.pending_vector(vcpu.id)) and can_inject_interrupt(vcpu)


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
    platform, upcalls = domain.hvm.platform, domain.hvm.upcalls
    while (upcall := upcalls.due_vector(vcpu)) is not None or platform.pending_vector(vcpu.id):
        if domain.has_shut_down:
            return
        if not can_inject_interrupt(vcpu):
            hypervisor.cpu.await_interrupt_window()
            return
        if vcpu.blocked:
            hypervisor.wake(vcpu)
        vector = platform.acknowledge(vcpu.id) if upcall is None else upcall
        if vector is not None:
            inject_interrupt(vcpu, vector)
        if upcall is not None:
            # The flag is the guest's to clear: one that lets interrupts in before gets the next at once.
            hypervisor.cpu.await_interrupt_window()
            return
    hvm.attention = vcpu.nmi_pending or upcalls.line_is_high
    hypervisor.cpu.forget_interrupt_window()
