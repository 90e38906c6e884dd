"""A vCPU as its local APIC sees it: something to interrupt, to reset and to start."""

from typing import TYPE_CHECKING

from pvemu.hypervisor.hvm.hvm_vcpu import HvmEntry

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
        """A non-maskable interrupt has come."""
        self._vcpu.nmi_pending = True
        self.kick()

    def init(self) -> None:
        """Reset, and wait for a start-up message."""
        vcpu = self._vcpu
        hypervisor = vcpu.domain.hypervisor
        hypervisor.unload(vcpu.domain)
        vcpu.online = vcpu.is_initialised = vcpu.blocked = vcpu.nmi_pending = vcpu.nmi_masked = False
        vcpu.saved = None
        vcpu.hvm.waits_for_startup = True
        hypervisor.reschedule()

    def start_up(self, page: int) -> None:
        """If it waits for one: begin in real mode, at the beginning of a page below 1 MiB."""
        vcpu = self._vcpu
        if vcpu.hvm.waits_for_startup or not vcpu.is_initialised:
            vcpu.hvm.waits_for_startup = False
            start_hvm_vcpu(vcpu, HvmEntry(start_page=page))


def start_hvm_vcpu(vcpu: "Vcpu", entry: HvmEntry) -> None:
    """Give a vCPU its first registers, and let it run."""
    vcpu.hvm.entry = entry
    vcpu.saved = None
    vcpu.is_initialised = vcpu.online = True
    vcpu.domain.hypervisor.make_runnable(vcpu)
