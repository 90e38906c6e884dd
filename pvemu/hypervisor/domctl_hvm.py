"""What a privileged domain asks of the hypervisor about HVM domains: making them, and being their devices."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pvemu.abi.errors import PvemuError
from pvemu.hypervisor import domain_lifecycle
from pvemu.hypervisor.hvm.apic_processor import start_hvm_vcpu
from pvemu.hypervisor.hvm.device_space import ByteDevice, PortDevice
from pvemu.hypervisor.hvm.hvm_domain import HvmPlan
from pvemu.hypervisor.hvm.hvm_vcpu import HvmEntry
from pvemu.hypervisor.hvm.string_ports import StringDevice
from pvemu.memory.heap import OutOfFrames

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu


class HvmDomctl:
    """HVM domains as a privileged domain sees them."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor

    def create_domain(
        self,
        domid: int,
        *,
        pages: int,
        vcpus: int,
        paging: str,
        memory_map: Sequence[tuple[int, int, int]],
        is_pc: bool = True,
    ) -> "Domain":
        """Make a domain that may have up to `pages` frames; it has none yet.

        Args:
            paging: "nested" or "shadow".
            memory_map: what XENMEM_memory_map tells it: address, size in bytes, and type (1: RAM).
            is_pc: it has a PC's timers and interrupt controllers; else it is a PVH guest.

        Raises:
            PvemuError: there is no memory for it.
        """
        try:
            return domain_lifecycle.create_domain(
                self._hypervisor,
                domid,
                privileged=False,
                pages=pages,
                vcpus=vcpus,
                hvm=HvmPlan(paging, tuple(memory_map), is_pc),
            )
        except OutOfFrames as none_left:
            raise PvemuError(
                "the machine has no memory left for another domain: "
                "give it more with --machine-memory, or end another domain"
            ) from none_left

    def populate(self, domain: "Domain", frames: Iterable[int]) -> list[int]:
        """Give a domain memory at guest frames; their machine frames.

        Raises:
            PvemuError: the machine has not so much memory left.
        """
        hypervisor = self._hypervisor
        machine_frames = []
        for gfn in frames:
            try:
                mfn = hypervisor.heap.allocate(domain.domid)
                domain.pages += 1
                hypervisor.m2p.set(mfn, gfn)
                domain.p2m.set(gfn, mfn)
            except OutOfFrames as none_left:
                raise PvemuError(
                    "the machine has not so much memory left: "
                    "give it more with --machine-memory, or the domain less with --memory"
                ) from none_left
            machine_frames.append(mfn)
        return machine_frames

    def set_parameter(self, domain: "Domain", index: int, value: int) -> None:
        """Set an HVM_PARAM_*."""
        domain.hvm.parameters[index] = value

    def start(self, vcpu: "Vcpu", entry: HvmEntry) -> None:
        """Let a vCPU run, with these registers."""
        start_hvm_vcpu(vcpu, entry)

    def map_io_ports(self, domain: "Domain", first: int, last: int, device: PortDevice | ByteDevice) -> None:
        """Answer a domain's accesses to I/O ports (Xen: xendevicemodel_map_io_range_to_ioreq_server)."""
        domain.hvm.ports.add(first, last, device)

    def map_string_port(self, domain: "Domain", port: int, device: StringDevice) -> None:
        """Let REP INS and REP OUTS move much at once with the device that answers at a port."""
        domain.hvm.ports.strings[port] = device

    def isa_irq(self, domain: "Domain", line: int) -> Callable[[bool], None]:
        """A function that drives an interrupt line (Xen: xendevicemodel_set_isa_irq_level)."""
        return domain.hvm.platform.isa_irq(line)
