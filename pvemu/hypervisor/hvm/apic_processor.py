"""A vCPU as its local APIC sees it: something to interrupt, to reset and to start."""

from typing import TYPE_CHECKING

from pvemu.abi.sched import SHUTDOWN_poweroff
from pvemu.hypervisor.hvm.hvm_vcpu import HvmEntry
from pvemu.hypervisor.runstate import settle_runstate

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu


class ApicProcessor:
    """Messages from the APIC bus, carried out on a vCPU."""

    def __init__(self, vcpu: "Vcpu") -> None:
        self._vcpu = vcpu

    def kick(self) -> None:
        """An interrupt may be pending: the vCPU wakes up, and looks before its next block of code."""
        vcpu = self._vcpu
        hypervisor = vcpu.domain.hypervisor
        vcpu.hvm.attention = True
        hypervisor.wake(vcpu)
        if hypervisor.loaded is vcpu:
            hypervisor.cpu.await_interrupt_window()
            hypervisor.cpu.leave_block()

    def nmi(self) -> None:
        """A non-maskable interrupt has come. It brings back a vCPU that has halted with interrupts off.

        Xen, too, takes a vCPU that halts so offline, and brings it back here (vlapic_accept_irq).
        """
        vcpu = self._vcpu
        if not vcpu.nmi_pending:
            vcpu.nmi_pending = True
            if vcpu.is_initialised and not vcpu.online:
                vcpu.online = True
                vcpu.domain.hypervisor.make_runnable(vcpu)
        self.kick()

    def init(self) -> None:
        """Stop, and wait for a start-up message; if no other vCPU is up, the domain powers off.

        The instruction that has sent the message may be this vCPU's own and is still being completed, so what
        is on the processor stays there. Its registers are reset when it starts.
        """
        vcpu = self._vcpu
        domain = vcpu.domain
        if not any(other.online for other in domain.vcpus if other is not vcpu):
            domain.shutdown(SHUTDOWN_poweroff)
        vcpu.online = vcpu.is_initialised = vcpu.blocked = vcpu.nmi_pending = vcpu.nmi_masked = False
        settle_runstate(vcpu)
        domain.hypervisor.reschedule()

    def start_up(self, page: int) -> None:
        """If it waits for one: begin in real mode, at the beginning of a page below 1 MiB."""
        vcpu = self._vcpu
        if not vcpu.is_initialised:
            start_hvm_vcpu(vcpu, HvmEntry(start_page=page))


def start_hvm_vcpu(vcpu: "Vcpu", entry: HvmEntry) -> None:
    """Give a vCPU its first registers, and let it run."""
    hypervisor = vcpu.domain.hypervisor
    if hypervisor.loaded is vcpu:  # nobody has had the processor since it was reset
        hypervisor.unload(vcpu.domain)
    vcpu.hvm.entry = entry
    vcpu.saved = None
    vcpu.is_initialised = vcpu.online = True
    hypervisor.make_runnable(vcpu)
