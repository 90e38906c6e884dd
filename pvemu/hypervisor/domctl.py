"""What a privileged domain asks of the hypervisor: making domains, filling them, reaching into them.

This is the one handle through which toolstack and services act; it stands for the domctl hypercall, for
foreign mappings and for event channels of domain 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pvemu.abi.arch_x86 import FLAT_RING1_CS, FLAT_RING1_DS
from pvemu.abi.errors import HypercallError, PvemuError
from pvemu.abi.grant_table import GNTTAB_NR_RESERVED_ENTRIES
from pvemu.cpu import flags, layout
from pvemu.hypervisor import domain_lifecycle, event_channel
from pvemu.hypervisor.address_space import load_descriptor_registers
from pvemu.hypervisor.continuation import RESTART
from pvemu.hypervisor.core import Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl_hvm import HvmDomctl
from pvemu.hypervisor.gfn import frame_number
from pvemu.hypervisor.grant_access import GrantAccess
from pvemu.hypervisor.guest_page import hold_page
from pvemu.hypervisor.hvm.physmap import add_to_physmap
from pvemu.hypervisor.pv.descriptors import CACHED_FLAT
from pvemu.hypervisor.pv.mm import load_base
from pvemu.hypervisor.time import update_time
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_L3
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import PAGE_SHIFT

#: A deadline that is never reached.
NEVER: Final = 1 << 62

_DATA_SEGMENTS = (layout.ES, layout.SS, layout.DS, layout.FS, layout.GS)


@dataclass(frozen=True)
class StartState:
    """The registers with which a 32-bit PV guest begins.

    Addresses are virtual; `root` is the frame of its L3, as the guest itself numbers frames.
    """

    eip: int
    esp: int
    start_info: int
    root: int


class Domctl:
    """The hypervisor as seen by a privileged domain.

    Attributes:
        hvm: what concerns HVM domains only.

    Args:
        domid: the domain on whose behalf calls are made; None while there is none, as when Xen builds
            domain 0 itself.
    """

    def __init__(self, hypervisor: Hypervisor, domid: int | None = None) -> None:
        self._hypervisor = hypervisor
        self._caller = None if domid is None else hypervisor.domains[domid]
        self._handlers: dict[int, Callable[[], None]] = {}
        self._grants: GrantAccess | None = None
        self.hvm = HvmDomctl(hypervisor)

    # --- domains ---------------------------------------------------------------------------------

    def create_domain(
        self, domid: int, *, privileged: bool, pages: int, vcpus: int = 1, translated: bool = False
    ) -> Domain:
        """Make a PV domain with as many vCPUs, that may have up to `pages` frames; none of it runs yet.

        Args:
            translated: it is auto-translated: its frame numbers are its own.
        """
        try:
            return domain_lifecycle.create_domain(
                *(self._hypervisor, domid),
                privileged=privileged,
                pages=pages,
                vcpus=vcpus,
                translated=translated,
            )
        except OutOfFrames as none_left:
            raise PvemuError(
                f"the hypervisor has no memory of its own left for {vcpus} more vCPUs: "
                "give this domain fewer, or end another one"
            ) from none_left

    def pause(self, domain: Domain) -> None:
        """Stop a domain, until it has been unpaused as often as paused."""
        domain_lifecycle.pause(domain)

    def unpause(self, domain: Domain) -> None:
        """Let a paused domain go on; one that is not paused goes on anyway."""
        domain_lifecycle.unpause(domain)

    def destroy(self, domain: Domain) -> None:
        """End a domain, and take back all it had: ports, grants, frames.

        It stays in the machine's list as long as another domain holds frames of it.
        """
        clock = self._hypervisor.clock
        deadline, clock.deadline = clock.deadline, NEVER
        domain_lifecycle.destroy(domain)
        clock.deadline = deadline

    def populate_physmap(self, domain: Domain, pages: int) -> list[int]:
        """Give a domain frames for its pfns from 0 up; their mfns.

        Raises:
            PvemuError: the machine has not so much memory left.
        """
        hypervisor = self._hypervisor
        if pages > hypervisor.heap.free_frames:
            free = hypervisor.heap.free_frames >> 8
            raise PvemuError(
                f"the machine has {free} MiB free, the domain wants {pages >> 8} MiB: "
                "give the machine more with --machine-memory, or the domain less with --memory"
            )
        try:
            frames = [hypervisor.heap.allocate(domain.domid) for _ in range(pages)]
        except OutOfFrames as none_left:
            raise PvemuError("the machine's memory is used up") from none_left
        for pfn, mfn in enumerate(frames):
            hypervisor.m2p.set(mfn, pfn)
            if domain.is_translated:
                domain.p2m.set(pfn, mfn)
        domain.pages += pages
        return frames

    def add_to_physmap(self, domain: Domain, space: int, index: int, gfn: int) -> None:
        """Let a translated domain find something of its own at a frame number (XENMEM_add_to_physmap).

        Raises:
            PvemuError: there is no such thing, or no memory for it.
        """
        try:
            add_to_physmap(domain, space, index, gfn)
        except HypercallError as refused:
            raise PvemuError(
                f"the hypervisor has no memory left for the grant table of {domain}: end another domain"
            ) from refused

    def map_foreign(self, domid: int, mfn: int) -> memoryview:
        """A machine frame of a domain, to read and write (Linux: privcmd's foreign mapping).

        Until the domain is destroyed the frame can be neither freed nor made a page table.
        """
        domain = self._hypervisor.domains.get(domid)
        if domain is None or not hold_page(domain, mfn):
            raise PvemuError(f"machine frame {mfn:x} does not belong to domain {domid}")
        domain.foreign_mapped.append(mfn)
        return self._hypervisor.ram.frame(mfn)

    def new_page(self, domain: Domain, mfn: int) -> memoryview:
        """A machine frame of a domain that has not run yet, to fill it."""
        if self._hypervisor.frames.owner[mfn] != domain.domid:
            raise PvemuError(f"machine frame {mfn:x} does not belong to domain {domain.domid}")
        return self._hypervisor.ram.frame(mfn)

    def pin_root(self, domain: Domain, mfn: int) -> None:
        """Validate and pin a domain's L3 with all that hangs below it."""
        types = self._hypervisor.page_types
        # No guest runs meanwhile, so time may well be up: it goes on at once where it was stopped.
        while (failure := types.get_page_and_type(mfn, domain, PGT_L3)) == RESTART:
            pass
        if failure:
            raise PvemuError("the boot page tables of the domain are not valid")
        self._hypervisor.frames.pinned[mfn] = 1

    def seed_grant(self, domain: Domain, reference: int, mfn: int) -> None:
        """Grant one of a new domain's frames to domain 0 (Xen's tools: xc_dom_gnttab_seed).

        It is meant for GNTTAB_RESERVED_CONSOLE and GNTTAB_RESERVED_XENSTORE. The guest finds the entry there
        when it asks for its table.

        Raises:
            PvemuError: no reserved reference, or another domain's frame.
        """
        if not 0 <= reference < GNTTAB_NR_RESERVED_ENTRIES:
            raise PvemuError(f"grant reference {reference} is not one that tools may use")
        if self._hypervisor.frames.owner[mfn] != domain.domid:
            raise PvemuError(f"machine frame {mfn:x} does not belong to domain {domain.domid}")
        domain.grant_table.seed(reference, 0, frame_number(domain, mfn))

    def start(self, vcpu: Vcpu, state: StartState) -> None:
        """Load the registers with which a vCPU begins, and let it run."""
        hypervisor = self._hypervisor
        cpu = hypervisor.cpu
        hypervisor.switch_to(vcpu)
        window = cpu.window
        load_descriptor_registers(hypervisor)
        code, data = CACHED_FLAT[FLAT_RING1_CS], CACHED_FLAT[FLAT_RING1_DS]
        for register in _DATA_SEGMENTS:
            cpu.set_segment(register, data)
        cpu.set_ring(code, data)
        window.u64[layout.RSI], window.u64[layout.RSP] = state.start_info, state.esp
        window.u64[layout.EIP // 8] = state.eip
        flags.write_eflags(window, flags.IF | flags.FIXED)
        if load_base(vcpu, state.root):
            raise PvemuError("the boot page tables of the domain are not valid")
        cpu.set_root(vcpu.processor_root << PAGE_SHIFT)
        vcpu.kernel_selector, vcpu.kernel_stack = FLAT_RING1_DS, state.esp
        vcpu.is_initialised = vcpu.online = True
        update_time(vcpu, hypervisor.tsc())
        hypervisor.make_runnable(vcpu)

    # --- the privileged domain's own event channels ----------------------------------------------

    def adopt(self, domid: int) -> None:
        """Act as a domain that lives outside the machine: without vCPUs, told of events by a call."""
        domain = Domain(self._hypervisor, domid, privileged=True, max_pages=0, vcpus=0)
        domain.on_event = self._on_event
        self._hypervisor.add_domain(domain)
        self._caller = domain

    @property
    def caller(self) -> Domain:
        """The domain on whose behalf calls are made."""
        assert self._caller is not None
        return self._caller

    def alloc_unbound(self, domid: int) -> int:
        """Make a port in a domain to which the caller may bind."""
        return event_channel.alloc_unbound(self.caller, domid, self.caller.domid)

    def bind_interdomain(self, domid: int, port: int, handler: Callable[[], None]) -> int:
        """Bind to a port that a domain offers; the caller's port, and `handler` is called for its events."""
        local = event_channel.bind_interdomain(self.caller, domid, port)
        self._handlers[local] = handler
        return local

    def bind_virq(self, virq: int, handler: Callable[[], None]) -> int:
        """Have `handler` called for a global virtual interrupt (VIRQ_DOM_EXC...); the caller's port."""
        local = event_channel.bind_virq(self.caller, virq, 0)
        self._handlers[local] = handler
        return local

    def notify(self, port: int) -> None:
        """Ring one of the caller's ports; one that is no more bound is no error."""
        if port in self._handlers:
            if self._grants is not None:
                self._grants.forget_written_code()
            event_channel.send(self.caller, port)

    def close_port(self, port: int) -> None:
        """Free one of the caller's ports; one that is free already is no error."""
        if self._handlers.pop(port, None) is not None:
            event_channel.close(self.caller, port)

    def map_grant(self, domid: int, reference: int, *, writable: bool) -> tuple[int, memoryview]:
        """Map a frame that a domain grants to the caller: a handle to unmap it by, and its bytes."""
        return self._own_grants().map(domid, reference, writable=writable)

    def unmap_grant(self, handle: int) -> None:
        """Give a mapped grant back; one that is none is no error."""
        self._own_grants().unmap(handle)

    def copy_from_grant(self, domid: int, reference: int, offset: int, size: int) -> bytes:
        """Bytes out of a granted frame (GNTTABOP_copy); raises GrantRefused."""
        return self._own_grants().copy_from(domid, reference, offset, size)

    def copy_to_grant(self, domid: int, reference: int, offset: int, data: bytes) -> None:
        """Bytes into a granted frame (GNTTABOP_copy); raises GrantRefused."""
        self._own_grants().copy_to(domid, reference, offset, data)

    def _own_grants(self) -> GrantAccess:
        if self._grants is None:
            self._grants = GrantAccess(self.caller)
        return self._grants

    def _on_event(self, port: int) -> None:
        handler = self._handlers.get(port)
        if handler is not None:
            handler()
