"""A virtual CPU: what Xen keeps of it besides the registers."""

from typing import TYPE_CHECKING, Any, NamedTuple

from pvemu.abi.xen import VIRQ_TIMER
from pvemu.hypervisor.runstate import Runstate
from pvemu.hypervisor.scheduler import INITIAL_CREDIT
from pvemu.hypervisor.timers import Timer
from pvemu.hypervisor.virq import send_virq

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.hvm.hvm_vcpu import HvmVcpu

#: CR4 as a 32-bit PV guest first reads it: OSXMMEXCPT, OSFXSR, MCE, PAE.
INITIAL_CR4 = 0x660
TRAP_VECTORS = 256


class TrapHandler(NamedTuple):
    """One entry of the guest's trap table (public header: struct trap_info)."""

    selector: int = 0
    address: int = 0
    dpl: int = 0
    masks_events: bool = False


class Callback(NamedTuple):
    """Where the guest wants to be called."""

    selector: int = 0
    address: int = 0
    masks_events: bool = False


NO_HANDLER = TrapHandler()
NO_CALLBACK = Callback()


class Vcpu:
    """One vCPU of a domain.

    Attributes:
        saved: its processor state while it is not the one that is loaded.
        is_initialised: it has registers; online: it has been brought up; blocked: it waits for an event;
            preempted: it last left the processor because its time was up, not by its own doing.
        info: machine address of its vcpu_info; info16: the same as an index of 16-bit words, where
            pending and mask are read at once; info_frame: the guest's frame that it was moved to, or None.
        kernel_selector, kernel_stack: the stack on which traps from ring 3 are delivered.
        cr3: machine frame of the guest's own root table; monitor: frame of the L4 above it; shadow_root:
            frame of the shadow that the processor walks instead, None while it walks the monitor.
        own_frames: the frames that monitor consists of.
        ldt_pages: machine frames of the pages of the LDT that the processor has used.
        debugreg: DR0 to DR7 as the guest set them; mcg_status: the same of its machine-check status.
        iopl: virtual I/O privilege level, 0 to 3; io_bitmap, io_ports: virtual address of a map of ports that
            it may use all the same, and how many of them the map is for.
        entry_context: its first registers (vcpu_guest_context) until it gets the processor.
        nmi_pending, nmi_masked: an NMI is to be delivered; none is until the guest returns from the last.
        polls_for: the port that it polls for (upcall.py), None when it does not.
        runstate_area, time_area: where its guest wants copies of runstate and time; 0 for nowhere.
        credit, is_queued, has_yielded: the scheduler's.
        pinned_override: domain 0 has pinned it (SCHEDOP_pin_override).
        pause_count: how often it alone is paused.
        hvm: what only the vCPUs of HVM guests have; the others lack the attribute.
    """

    hvm: "HvmVcpu"

    def __init__(self, domain: "Domain", vcpu_id: int) -> None:
        self.domain = domain
        self.id = vcpu_id
        self.name = f"d{domain.domid}v{vcpu_id}"
        self.saved: bytes | None = None
        self.online = self.is_initialised = False
        self.blocked = False
        self.preempted = False
        self.info = domain.vcpu_info_address(vcpu_id)
        self.info16 = self.info >> 1
        self.info_frame: int | None = None

        self.traps: list[TrapHandler] = [NO_HANDLER] * TRAP_VECTORS
        self.event_callback = NO_CALLBACK
        self.failsafe_callback = NO_CALLBACK
        self.syscall32_callback = NO_CALLBACK
        self.sysenter_callback = NO_CALLBACK
        self.kernel_selector = 0
        self.kernel_stack = 0

        self.cr2 = 0
        self.cr3 = 0
        self.cr4 = INITIAL_CR4
        self.task_switched = False
        self.monitor = 0
        self.shadow_root: int | None = None
        self.descriptor_l1 = 0
        self.own_frames: list[int] = []
        self.gdt_frames: list[int] = []
        self.gdt_entries = 0
        self.ldt_base = 0
        self.ldt_entries = 0
        self.ldt_pages: dict[int, int] = {}
        self.debugreg = [0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400]
        self.mcg_status = 0
        self.iopl = 0
        self.io_bitmap = self.io_ports = 0
        self.nmi_pending = self.nmi_masked = False

        self.in_multicall = False
        self.entry_context: Any = None
        timers = domain.hypervisor.timers
        self.singleshot_timer = Timer(timers, lambda: send_virq(self, VIRQ_TIMER))
        self.periodic_timer = Timer(timers, domain.hypervisor.reschedule)
        self.poll_timer = Timer(timers, lambda: domain.hypervisor.wake(self))
        self.periodic_period = 0
        self.last_tick = 0
        self.polls_for: int | None = None
        self.runstate = Runstate(domain.hypervisor.system_time())
        self.runstate_area = 0
        self.time_area = 0
        self.credit = INITIAL_CREDIT
        self.is_queued = False
        self.has_yielded = False
        self.pinned_override = False
        self.pause_count = 0

    def __repr__(self) -> str:
        return self.name

    @property
    def processor_root(self) -> int:
        """Frame of the table that the processor begins its walks with."""
        return self.monitor if self.shadow_root is None else self.shadow_root

    @property
    def runnable(self) -> bool:
        """Whether it may be given the processor."""
        domain = self.domain
        return self.online and not (
            self.blocked or self.pause_count or domain.pause_count or domain.has_shut_down
        )
