"""Shadow paging of HVM guests: the processor walks tables that are kept in step with the guest's own."""

from typing import TYPE_CHECKING

from pvemu.cpu import exits
from pvemu.cpu.mode import CR0_PG, CR0_WP, CR4_PAE, EFER_LMA, EFER_LME, EFER_NXE
from pvemu.hypervisor.emulate import Unemulated
from pvemu.hypervisor.hvm.event import Event
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.machine_map import MACHINE_BASE, MachineMap
from pvemu.hypervisor.hvm.task_switch import finish_task_switch
from pvemu.hypervisor.shadow.outcome import EmulateWrite, Fixed, GuestFault
from pvemu.hypervisor.shadow.paging import Shadow
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu


class ShadowPaging:
    """The shadows of one domain.

    Attributes:
        shadow: the tables themselves.
    """

    name = "shadow"
    has_guest_cr3 = False

    def __init__(self, domain: "Domain") -> None:
        hypervisor = domain.hypervisor
        self._hypervisor, self._p2m = hypervisor, domain.p2m
        self.shadow = Shadow(
            hypervisor.ram,
            domain.p2m.get,
            domain.p2m.is_writable,
            pool=domain.paging_pool,
            flush_tlb=hypervisor.cpu.flush_tlb,
        )
        self._machine_map = MachineMap(hypervisor.ram, domain.paging_pool.take)
        self.shadow.tables.machine_base = MACHINE_BASE
        self.may_mark = self.shadow.may_mark
        domain.p2m.watchers.append(self.shadow.p2m_changed)

    def engine_registers(self, cr0: int, cr4: int, efer: int) -> tuple[int, int, int]:
        """The processor always has paging on; its mode is long exactly when the guest's is."""
        efer |= EFER_NXE
        if not efer & EFER_LMA:
            efer &= ~EFER_LME
        return cr0 | CR0_PG | CR0_WP, cr4 | CR4_PAE, efer

    def enter(self, vcpu: "Vcpu") -> None:
        """A vCPU was loaded onto the processor."""
        self._hypervisor.cpu.set_nested_root(self._machine_map.root)
        self.root_changed(vcpu)

    def mode_changed(self, vcpu: "Vcpu") -> None:
        """Paging works otherwise: other shadows."""
        self.root_changed(vcpu)

    def root_changed(self, vcpu: "Vcpu") -> None:
        """CR3 was written."""
        hvm = vcpu.hvm
        root = self.shadow.set_root(PagingMode.of(hvm.cr0, hvm.cr4, hvm.efer), hvm.cr3, vcpu.id)
        self._hypervisor.cpu.set_root(MACHINE_BASE | root << PAGE_SHIFT)

    def invalidate(self, vcpu: "Vcpu", address: int) -> None:
        """INVLPG."""
        self.shadow.invalidate(address, vcpu.id)

    def page_fault(self, vcpu: "Vcpu", address: int, error_code: int) -> bool:
        """Make the shadow allow the access, carry the instruction out, or tell the guest; always True."""
        outcome = self.shadow.page_fault(address, error_code, vcpu.id)
        if isinstance(outcome, GuestFault):
            deliver(vcpu, Event(exits.PF, error_code=outcome.error_code, address=address))
        elif isinstance(outcome, EmulateWrite):
            try:
                self._hypervisor.hvm_traps.emulation.emulate(vcpu)
            except Unemulated:
                self.shadow.unsync(outcome.address >> PAGE_SHIFT)
        elif not isinstance(outcome, Fixed):
            self._hypervisor.hvm_traps.emulation.access_device(vcpu)
        return True

    def nested_page_fault(self, vcpu: "Vcpu") -> bool:
        """The processor follows a CR3 that is not ours: the engine has taken it from a TSS. Always True."""
        event = finish_task_switch(vcpu)
        if event is not None:
            deliver(vcpu, event)
        return True

    def guest_wrote(self, gfn: int, offset: int, size: int) -> None:
        """An emulated instruction wrote guest memory, perhaps a table."""
        self.shadow.guest_wrote(gfn, offset, size)

    def release(self) -> None:
        """Give back the shadows."""
        self._p2m.watchers.remove(self.shadow.p2m_changed)
        self.shadow.destroy()
