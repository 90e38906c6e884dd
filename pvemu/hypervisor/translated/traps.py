"""What is different in the exits and hypercalls of auto-translated PV guests: tables for the processor."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.cpu import layout
from pvemu.cpu.processor import EXIT_INFO_2
from pvemu.hypervisor import families
from pvemu.hypervisor.address_space import GDT_VIRTUAL
from pvemu.hypervisor.hypercall import Entry
from pvemu.hypervisor.pv.traps import PvTraps
from pvemu.hypervisor.translated.hypercalls import HANDLERS
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.vcpu import Vcpu

_ERROR_CODE: Final = layout.ERROR_CODE // 4

Exits = list[Callable[[], None]]


class TranslatedTraps(PvTraps):
    """The exits of PV guests, but for page faults."""

    def _page_fault_handler(self) -> Callable[["Vcpu"], None]:
        u32, control_block = self._u32, self._cpu.control_block

        def page_fault(vcpu: "Vcpu") -> None:
            address = control_block[EXIT_INFO_2]
            if address >= GDT_VIRTUAL:
                self._descriptor_fault(vcpu, address)
            else:
                vcpu.domain.translation.page_fault(vcpu, address, u32[_ERROR_CODE])

        return page_fault

    def _descriptor_fault(self, vcpu: "Vcpu", address: int) -> None:
        """The processor wants a page of the GDT or LDT that it has not got yet."""
        index = address - GDT_VIRTUAL >> PAGE_SHIFT
        if not vcpu.domain.translation.descriptors.fault_in(vcpu, index):
            super()._descriptor_fault(vcpu, address)


def translated_tables(hypervisor: "Hypervisor") -> tuple[Exits, dict[int, Entry]]:
    """The handlers of exits and of hypercalls for a machine, both by number."""
    table, hypercalls = list(hypervisor.cpu.exits), families.table(hypervisor, instead=HANDLERS)
    TranslatedTraps(hypervisor).install(table, hypercalls)
    return table, hypercalls
