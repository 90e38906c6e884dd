"""The door to an HVM guest's memory: what its kernel names by linear addresses in hypercalls."""

from typing import TYPE_CHECKING, Final

from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.guest_walk import GuestPageFault
from pvemu.memory.page_tables import COMPAT, FAULT_WRITE, WRITABLE
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_SHORT: Final = (1 << 32) - 1
_LONG: Final = (1 << 64) - 1


class HvmMemory(GuestMemory):
    """Linear memory of the vCPU that makes the hypercall, page by page.

    No page is remembered here: under nested paging the guest changes its tables and CR3 without telling
    anybody. `LinearMemory.place` compares the tables with what they were.
    """

    def __init__(self, domain: "Domain") -> None:
        hypervisor = domain.hypervisor
        super().__init__(hypervisor.ram, COMPAT, _LONG, hypervisor.before_write)
        self._domain = domain

    def range_okay(self, address: int, size: int) -> bool:
        """The hypervisor has no part of the guest's address space; what is not mapped faults at its use."""
        return True

    def _translate(self, address: int, right: int) -> int:
        domain = self._domain
        vcpu = domain.hypervisor.loaded
        if vcpu is None or vcpu.domain is not domain:
            raise GuestFault(address)
        address &= _LONG if vcpu.hvm.is_long else _SHORT
        try:
            place = vcpu.hvm.linear_memory.place(address, FAULT_WRITE if right & WRITABLE else 0)
        except GuestPageFault as fault:
            raise GuestFault(address) from fault
        gfn = place >> PAGE_SHIFT
        mfn = domain.p2m.get(gfn)
        if mfn is None or (right & WRITABLE and not domain.p2m.is_writable(gfn)):
            raise GuestFault(address)
        return mfn << PAGE_SHIFT

    def frame_of(self, address: int) -> int | None:
        """The machine frame behind a linear address; None when there is none. Raises nothing."""
        vcpu = self._domain.hypervisor.loaded
        if vcpu is None or vcpu.domain is not self._domain:
            return None
        try:
            found = vcpu.hvm.linear_memory.translate(address & ~PAGE_MASK, 0, update=False)
        except GuestPageFault:
            return None
        return self._domain.p2m.get(found.address >> PAGE_SHIFT)
