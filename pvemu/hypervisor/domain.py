"""A domain: a guest with its memory, its vCPUs and its event channels."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pvemu.abi.arch_x86 import HYPERVISOR_VIRT_START_PAE, XEN_LEGACY_MAX_VCPUS
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.sched import SHUTDOWN_crash
from pvemu.abi.xen import (
    DOMID_FIRST_RESERVED,
    DOMID_SELF,
    VIRQ_DOM_EXC,
    shared_info,
)
from pvemu.hypervisor.crash_report import report_crash
from pvemu.hypervisor.event_2l import TwoLevel
from pvemu.hypervisor.event_ports import CallDelivery, Delivery, first_bucket
from pvemu.hypervisor.grant_table import GrantTable
from pvemu.hypervisor.iomem import iomem_flags, iomem_refusal
from pvemu.hypervisor.paging_pool import PagingPool
from pvemu.hypervisor.runstate import settle_runstate
from pvemu.hypervisor.scheduler import DEFAULT_WEIGHT
from pvemu.hypervisor.time import write_wallclock
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.virq import send_global_virq
from pvemu.hypervisor.watchdog import Watchdogs
from pvemu.memory.guest import GuestMemory
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.p2m import P2m
from pvemu.memory.page_tables import COMPAT
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.hvm.hvm_domain import HvmDomain
    from pvemu.hypervisor.hypercall import Entry
    from pvemu.hypervisor.shadow.pv_shadow import PvShadow
    from pvemu.hypervisor.translated.paging import TranslatedPaging

#: Bytes of a long of a 32-bit guest: how every domain begins, and every PV guest stays.
WORD32: Final = 4

#: The last event port of an unprivileged domain, as xl makes it.
MAX_EVENT_PORT: Final = 1023
MOST_PORTS: Final = (1 << 31) - 1
#: Device interrupts that domains can name (asked of real Xen on a PC with 24 of them).
_PIRQS: Final = 56
_PIRQS_PRIVILEGED: Final = 208


class Domain:
    """One domain.

    Attributes:
        memory: the door to its memory.
        word: bytes of a long in the structures of its hypercalls. An HVM guest's can change with each.
        shared_info: machine address of its shared_info page; shared_info_word: of a long in it.
        pages: frames that it owns by allocation; max_pages: how many it may have.
        shutdown_reason: a SHUTDOWN_* number once it has shut down, else None.
        vm_assist: the assists it has switched on, a bit for each VMASST_TYPE_*.
        channels: its event channels by port; events: how it is told of them;
            polling: vCPUs that poll for one.
        virq_ports: the ports of its virtual interrupts, by interrupt and vCPU (0 for a global one).
        max_event_port: the last port it may bind; lowest_free_port: none below is free; next_reset_port:
            where EVTCHNOP_reset goes on that was stopped, else 0.
        nr_pirqs: how many device interrupts it can name; pirqs: those that are mapped for it, and to what;
            pirq_eoi_frame: its page of a bit for each; unmasks_at_eoi: their end unmasks the port.
        memory_map: what XENMEM_memory_map answers: address and size in bytes, and type.
        grant_table: what it grants to others, and what it has mapped of theirs.
        written_pages: its frames that the hypervisor writes by itself (guest_page.py); foreign_mapped: those
            among them that are mapped outside.
        pause_count: how often a privileged domain has paused it.
        weight, cap: its share of the processor beside others, and the most of it in percent (0: no limit).
        is_dying: it is being destroyed, up to frame `relinquished`; is_torn_down: it only waits for others
            to give back what is its.
        handle: its UUID, 16 bytes; has_vcpus: a toolstack has asked for its vCPUs.
        on_event: called with the port of an event, for a domain that lives outside the machine.
        is_translated: its frame numbers are its own and not the machine's; so are those of an HVM guest.
        p2m: its guest frames, where is_translated; hvm: what only HVM guests have, as is_hvm tells;
            translation: what auto-translated PV guests have. Others lack these attributes.
        exits, hypercalls: a PV guest's handlers by number.
        paging_pool: frames for page tables that are made for it; a PV guest has none, unless for shadows.
        pv_shadow: the shadows of a PV guest that is not auto-translated, while it is on them.
    """

    paging_pool: PagingPool
    p2m: P2m
    hvm: "HvmDomain"
    translation: "TranslatedPaging"
    exits: list[Callable[[], None]]
    hypercalls: "Mapping[int, Entry]"

    def __init__(
        self, hypervisor: "Hypervisor", domid: int, *, privileged: bool, max_pages: int, vcpus: int = 1
    ) -> None:
        self.hypervisor = hypervisor
        self.domid = domid
        self.is_hvm = self.is_translated = False
        self.privileged = privileged
        self.max_pages = max_pages
        self.pages = 0
        self.word = self.shared_info_word = WORD32
        self.memory = GuestMemory(hypervisor.ram, COMPAT, HYPERVISOR_VIRT_START_PAE, hypervisor.before_write)
        is_ordinary = domid < DOMID_FIRST_RESERVED
        self.shared_info_frame = hypervisor.allocate_shared_page(domid) if is_ordinary else 0
        self.shared_info = self.shared_info_frame << PAGE_SHIFT
        self.shutdown_reason: int | None = None
        self._announced_reason: int | None = None
        self.vm_assist = 0
        self.channels = first_bucket()
        self.virq_ports: dict[tuple[int, int], int] = {}
        self.polling: list[Vcpu] = []
        self.max_event_port = MOST_PORTS if privileged else MAX_EVENT_PORT
        self.lowest_free_port = 1
        self.next_reset_port = 0
        self.nr_pirqs = _PIRQS_PRIVILEGED if privileged else _PIRQS
        self.pirqs: dict[int, int] = {}
        self.pirq_eoi_frame: int | None = None
        self.unmasks_at_eoi = False
        self.grant_table = GrantTable(self)
        if is_ordinary and not self.grant_table.grow(1):
            hypervisor.free_xen_page(self.shared_info_frame)
            raise OutOfFrames
        self.memory_map: tuple[tuple[int, int, int], ...] = ()
        self.written_pages: list[int] = []
        self.foreign_mapped: list[int] = []
        self.pause_count = 0
        self.weight, self.cap = DEFAULT_WEIGHT, 0
        self.is_dying = self.is_torn_down = False
        self.relinquished = 0
        self.handle = bytes(16)
        self.has_vcpus = bool(vcpus)
        self.on_event: Callable[[int], None] | None = None
        self.vcpus: list[Vcpu] = []
        self.vcpus += (Vcpu(self, number) for number in range(vcpus))
        self.events: Delivery = TwoLevel(self) if is_ordinary and vcpus else CallDelivery(self)
        self.watchdogs = Watchdogs(self)
        self.pv_shadow: PvShadow | None = None
        self.paging_pool = PagingPool(
            hypervisor.ram, hypervisor.allocate_paging_page, hypervisor.free_paging_page
        )

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
    def has_stopped(self) -> bool:
        """Whether none of its vCPUs will run again of itself: it has shut down, or is being destroyed."""
        return self.shutdown_reason is not None or self.is_dying

    def is_self(self, domid: int) -> bool:
        """Whether a domain id that the guest gave means this domain."""
        return domid in (DOMID_SELF, self.domid)

    def named(self, domid: int) -> "Domain":
        """The domain that the guest means by a domain id (Xen: rcu_lock_domain_by_any_id).

        Raises:
            HypercallError: ESRCH, there is none.
        """
        found = self if self.is_self(domid) else self.hypervisor.domains.get(domid)
        if found is None:
            raise HypercallError(Errno.ESRCH)
        return found

    def iomem_flags(self, entry: int, mfn: int) -> int:
        """What to flip in an L1 entry of this domain for memory that is no RAM; or a negative errno."""
        return iomem_flags(entry, mfn) if self.privileged else iomem_refusal(mfn)

    def vcpu_info_address(self, vcpu_id: int) -> int:
        """Machine address of a vCPU's part of the shared_info page; beyond the last, of a dummy."""
        if vcpu_id >= XEN_LEGACY_MAX_VCPUS:
            return self.hypervisor.dummy_vcpu_info
        return self.shared_info + shared_info.offset(f"vcpu_info[{vcpu_id}]", self.shared_info_word)

    def use_shared_info(self, word: int) -> None:
        """Read shared_info otherwise from now on; what is in it stays where it is, but for the wallclock."""
        self.shared_info_word = word
        if isinstance(self.events, TwoLevel):
            self.events = TwoLevel(self)
        write_wallclock(self, self.hypervisor.wallclock)

    def shutdown(self, reason: int) -> None:
        """Stop the domain, with a SHUTDOWN_* reason unless one was announced before."""
        if self.shutdown_reason is None:
            self.shutdown_reason = reason if self._announced_reason is None else self._announced_reason
            for vcpu in self.vcpus:
                settle_runstate(vcpu)
            self.hypervisor.ended.append(self)
            send_global_virq(self.hypervisor, VIRQ_DOM_EXC)
            self.hypervisor.reschedule()

    def resume(self) -> None:
        """Let a domain go on that has shut down (a suspended one, after its suspend was given up)."""
        self.shutdown_reason = self._announced_reason = None
        for vcpu in self.vcpus:
            self.hypervisor.make_runnable(vcpu)

    @property
    def announced_reason(self) -> int | None:
        """The SHUTDOWN_* reason that was named in advance."""
        return self._announced_reason

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
