"""A domain: a guest with its memory, its vCPUs and its event channels."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pvemu.abi.arch_x86 import HYPERVISOR_VIRT_START_PAE
from pvemu.abi.sched import SHUTDOWN_crash
from pvemu.abi.xen import DOMID_FIRST_RESERVED, DOMID_SELF, SIF_INITDOMAIN, SIF_PRIVILEGED, shared_info
from pvemu.hypervisor.crash_report import report_crash
from pvemu.hypervisor.iomem import iomem_flags, iomem_refusal
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestMemory
from pvemu.memory.page_tables import COMPAT
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.event_channel import EventChannel

#: Bytes of a guest word: 32-bit guests only, so far.
WORD32 = 4


class Domain:
    """One domain.

    Attributes:
        memory: the door to its memory.
        shared_info: machine address of its shared_info page.
        pages: frames that it owns by allocation; max_pages: how many it may have.
        shutdown_reason: a SHUTDOWN_* number once it has shut down, else None.
        vm_assist: the assists it has switched on, a bit for each VMASST_TYPE_*.
        channels: its event channels by port.
        on_event: called with the port of an event, for a domain that lives outside the machine.
    """

    def __init__(
        self, hypervisor: "Hypervisor", domid: int, *, privileged: bool, max_pages: int, vcpus: int = 1
    ) -> None:
        self.hypervisor = hypervisor
        self.domid = domid
        self.privileged = privileged
        self.max_pages = max_pages
        self.pages = 0
        self.word = WORD32
        self.memory = GuestMemory(hypervisor.ram, COMPAT, HYPERVISOR_VIRT_START_PAE, hypervisor.before_write)
        is_ordinary = domid < DOMID_FIRST_RESERVED
        self.shared_info_frame = hypervisor.allocate_shared_page(domid) if is_ordinary else 0
        self.shared_info = self.shared_info_frame << PAGE_SHIFT
        self.shutdown_reason: int | None = None
        self._announced_reason: int | None = None
        self.vm_assist = 0
        self.channels: list[EventChannel] = []
        self.on_event: Callable[[int], None] | None = None
        self.vcpus = [Vcpu(self, number) for number in range(vcpus)]

    @classmethod
    def without_vcpus(cls, hypervisor: "Hypervisor", domid: int) -> "Domain":
        """A domain that never runs: an owner of frames (DOMID_IO, DOMID_XEN)."""
        return cls(hypervisor, domid, privileged=False, max_pages=0, vcpus=0)

    def __repr__(self) -> str:
        return f"d{self.domid}"

    @property
    def has_shut_down(self) -> bool:
        """Whether its vCPUs will never run again."""
        return self.shutdown_reason is not None

    @property
    def start_flags(self) -> int:
        """The SIF_* flags of its start_info."""
        return SIF_PRIVILEGED | SIF_INITDOMAIN if self.privileged else 0

    def is_self(self, domid: int) -> bool:
        """Whether a domain id that the guest gave means this domain."""
        return domid in (DOMID_SELF, self.domid)

    def iomem_flags(self, entry: int, mfn: int) -> int:
        """What to flip in an L1 entry of this domain for memory that is no RAM; or a negative errno."""
        return iomem_flags(entry, mfn) if self.privileged else iomem_refusal(mfn)

    def vcpu_info_address(self, vcpu_id: int) -> int:
        """Machine address of a vCPU's part of the shared_info page."""
        return self.shared_info + shared_info.offset(f"vcpu_info[{vcpu_id}]", self.word)

    def shutdown(self, reason: int) -> None:
        """Stop the domain for good, with a SHUTDOWN_* reason unless one was announced before."""
        if self.shutdown_reason is None:
            self.shutdown_reason = reason if self._announced_reason is None else self._announced_reason
            self.hypervisor.reschedule()

    def announce_shutdown(self, reason: int) -> None:
        """Say for which reason the domain is going to stop; the first word counts."""
        if self._announced_reason is None:
            self._announced_reason = reason

    def crash(self, reason: str) -> None:
        """Stop the domain because of what it did (Xen: domain_crash); the reason goes to the log."""
        if self.shutdown_reason is None:
            report_crash(self, reason)
            self._announced_reason = SHUTDOWN_crash
            self.shutdown(SHUTDOWN_crash)
