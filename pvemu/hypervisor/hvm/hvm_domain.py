"""The part of a domain that only HVM guests have: paging, devices, parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pvemu.abi.hvm_op import HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_TRIPLE_FAULT_REASON
from pvemu.abi.sched import SHUTDOWN_poweroff, SHUTDOWN_reboot
from pvemu.hypervisor.crash_report import report_state
from pvemu.hypervisor.hvm.apic_processor import ApicProcessor
from pvemu.hypervisor.hvm.device_space import MmioSpace, PortSpace
from pvemu.hypervisor.hvm.hvm_memory import HvmMemory
from pvemu.hypervisor.hvm.hvm_vcpu import HvmVcpu
from pvemu.hypervisor.hvm.nested_paging import NestedPaging
from pvemu.hypervisor.hvm.paging import Paging
from pvemu.hypervisor.hvm.platform import Platform
from pvemu.hypervisor.hvm.shadow_paging import ShadowPaging
from pvemu.hypervisor.hvm.upcall_vector import Upcalls
from pvemu.memory.p2m import P2m

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

#: Type of a range in a memory map.
_RAM: Final = 1
_FOUR_GIB: Final = 1 << 32

#: By the name of a way of paging, what makes it.
PAGING: Final[dict[str, Callable[["Domain"], Paging]]] = {"nested": NestedPaging, "shadow": ShadowPaging}


@dataclass(frozen=True)
class HvmPlan:
    """What to decide about an HVM domain.

    `paging` is "nested" or "shadow"; `memory_map` what the guest is told of its memory: address and size in
    bytes, and type; without `is_pc` it is a PVH guest: of the PC it has nothing but the local APICs.
    """

    paging: str
    memory_map: tuple[tuple[int, int, int], ...]
    is_pc: bool = True

    @property
    def low_memory(self) -> int:
        """Bytes of RAM below 4 GiB."""
        return sum(size for at, size, kind in self.memory_map if kind == _RAM and at + size <= _FOUR_GIB)


def make_hvm(domain: "Domain", plan: HvmPlan) -> None:
    """Make a new domain, whose vCPUs have never run, an HVM domain.

    Raises:
        OutOfFrames: there is no memory for page tables.
    """
    domain.p2m = P2m()
    domain.memory = HvmMemory(domain)
    for vcpu in domain.vcpus:
        vcpu.hvm = HvmVcpu(vcpu)
    domain.hvm = HvmDomain(domain, plan)
    domain.is_hvm = domain.is_translated = True
    domain.use_shared_info(8)


class HvmDomain:
    """What an HVM domain has besides what every domain has.

    Attributes:
        paging: how its memory is kept apart.
        ports, mmio: its devices.
        parameters: HVM_PARAM_* by number, as the guest can read them.
        platform: the PC around its vCPUs; upcalls: how it is told of events.
        exits: the handlers of its vCPUs' exits; wanted_exits: the numbers of those that are asked for.

    Raises:
        OutOfFrames: there is no memory for page tables.
    """

    def __init__(self, domain: "Domain", plan: HvmPlan) -> None:
        hypervisor = domain.hypervisor
        self._domain = domain
        self.paging = PAGING[plan.paging](domain)
        domain.memory_map = plan.memory_map
        self.parameters: dict[int, int] = {
            HVM_PARAM_TRIPLE_FAULT_REASON: SHUTDOWN_reboot,
            HVM_PARAM_ACPI_IOPORTS_LOCATION: 1,
        }
        self.exits = hypervisor.hvm_traps.table
        self.wanted_exits = hypervisor.hvm_traps.wanted_exits(shadow=not self.paging.has_guest_cr3)
        self.platform = Platform(
            hypervisor.timers,
            hypervisor.system_time,
            lambda: hypervisor.wallclock,
            [ApicProcessor(vcpu) for vcpu in domain.vcpus],
            lambda: hypervisor.current.id,
            lambda: domain.shutdown(SHUTDOWN_poweroff),
            plan.low_memory,
        )
        self.ports = self.platform.ports if plan.is_pc else PortSpace()
        self.mmio = MmioSpace()
        for first, last, device in self.platform.mmio if plan.is_pc else (self.platform.lapic_page,):
            self.mmio.add(first, last, device)
        self.upcalls = Upcalls(domain, self.platform, has_lines=plan.is_pc)
        for vcpu, lapic in zip(domain.vcpus, self.platform.lapics, strict=True):
            vcpu.hvm.vlapic = lapic
            lapic.enabled = partial(self.upcalls.apic_enabled, vcpu)

    def triple_fault(self, vcpu: "Vcpu") -> None:
        """A processor of the guest has shut down; what that means, a parameter says."""
        reason = self.parameters[HVM_PARAM_TRIPLE_FAULT_REASON]
        log = self._domain.hypervisor.log
        log.xen(f"{vcpu} Triple fault - invoking HVM shutdown action {reason}")
        report_state(vcpu)
        self._domain.shutdown(reason)

    def release(self) -> None:
        """The domain ends: give back page tables and stop timers."""
        self.platform.stop()
        self.paging.release()
