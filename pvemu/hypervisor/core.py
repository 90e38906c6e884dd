"""The hypervisor: the machine's memory and processor, its domains, and the loop that runs them."""

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from pvemu.abi.errors import HypercallError
from pvemu.abi.hypercalls import BY_NUMBER, HVM
from pvemu.abi.word import WORDS
from pvemu.abi.xen import DOMID_IO, DOMID_SELF, DOMID_XEN, VIRQ_CONSOLE, VIRQ_TIMER
from pvemu.cpu import flags, layout
from pvemu.cpu.clock import CYCLES_PER_SECOND, EXIT_COST
from pvemu.cpu.decode import Decoder
from pvemu.cpu.processor import ClockKind, Processor
from pvemu.cpu.state_window import WindowKind
from pvemu.hypervisor import families
from pvemu.hypervisor.address_space import MachineToPhysical, build_xen_gdt_page
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domain_lifecycle import bury
from pvemu.hypervisor.hvm.pending import test_interrupts
from pvemu.hypervisor.hvm.port_access import port_in, port_out
from pvemu.hypervisor.hvm.traps import HvmTraps
from pvemu.hypervisor.hypercall import ARGUMENT_INDEXES, ENOSYS, Entry, Words
from pvemu.hypervisor.log import Log
from pvemu.hypervisor.pv import emul_priv_op
from pvemu.hypervisor.pv.bounce import make_bounce
from pvemu.hypervisor.pv.guest_context import load_guest_context
from pvemu.hypervisor.pv.inject import deliver_nmi, inject_upcall
from pvemu.hypervisor.pv.l1_entry import make_mod_l1_entry
from pvemu.hypervisor.pv.ldt import drop_ldt
from pvemu.hypervisor.pv.page_types import PageTypes
from pvemu.hypervisor.pv.traps import PvTraps
from pvemu.hypervisor.runstate import settle_runstate, update_runstate_area
from pvemu.hypervisor.scheduler import Scheduler
from pvemu.hypervisor.shadow.pv_shadow import PvShadow
from pvemu.hypervisor.time import update_time
from pvemu.hypervisor.timers import Timers
from pvemu.hypervisor.translated.traps import translated_tables
from pvemu.hypervisor.upcall import stop_polling
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.virq import send_global_virq, send_virq
from pvemu.memory.frames import PGT_NONE, Frames
from pvemu.memory.heap import Heap
from pvemu.memory.ram import PAGE_SHIFT, Ram

MIB: Final = 1 << 20
_FRAMES_PER_MIB: Final = MIB >> PAGE_SHIFT
#: The first MiB of a PC is no ordinary memory.
_LOW_MEMORY: Final = 1
#: MiB of the hypervisor's own frames, besides the m2p, at the end of memory; more come from the domains'.
_XEN_HEAP: Final = 6
_LARGE_PAGE_MIB: Final = 2


def _m2p_pages(memory: int) -> int:
    """Pages of 2 MiB that the machine-to-physical map takes: four bytes for each frame of so many MiB."""
    return -(-memory * _FRAMES_PER_MIB * 4 // (_LARGE_PAGE_MIB * MIB))


def overhead(memory: int) -> int:
    """MiB that the domains can't have of a machine of so many MiB."""
    return _LOW_MEMORY + _XEN_HEAP + _m2p_pages(memory) * _LARGE_PAGE_MIB


#: The same of any machine of up to 2 GiB.
OVERHEAD: Final = overhead(2048)

#: Cycles that a vCPU gets at least: an exit takes EXIT_COST of them, and some must be left to get on with.
_LEAST_SLICE: Final = 2 * EXIT_COST

_HFLAGS, _EIP = layout.HFLAGS // 4, layout.EIP // 8


class End(Enum):
    """Why `run` returned."""

    ALL_DOWN = "every domain has shut down"
    DEADLINE = "the deadline has passed"
    IDLE = "every vCPU waits for something that can't come"


class Hypervisor:
    """One machine and the hypervisor on it.

    Attributes:
        ram, frames, heap: machine memory; heap has the frames that domains get.
        cpu: the physical processor.
        current: the vCPU whose state is on it; loaded: the same, None before the first one is.
        m2p: the machine-to-physical map.
        domains: by domain id, with those that are dying.
        scheduler: whose turn it is; timers: what happens when.
        virq_handlers: the domain that gets a global virtual interrupt, where it is not domain 0.
        pci_devices: segment, bus and function of what domain 0 says it has found.
        dummy_vcpu_info: machine address of a vcpu_info for vCPUs that have none.
        bounce: enters the guest's kernel at a handler (pv/bounce.py).
        mod_l1_entry: replaces an entry of an L1 (pv/l1_entry.py).
        tlb_is_stale: the processor may still use a translation that was changed.
        pv_tables, translated_tables: handlers of exits and hypercalls, of PV guests and auto-translated ones.
        counters: how often each hypercall was made, by number; hvm_entries: what answers those of HVM guests,
            by the bytes of a long and by number.
        console_output: called with what domain 0 writes to the console; console_input: what it can read.
        between_turns: called before each turn of a vCPU, with the domain that had the last one.
        ended: domains that have shut down, for whoever takes them from here.
        host_clock: where set, what guests read as time-stamp counter and system time, in nanoseconds: then a
            run depends on the host. Timers stay on the machine's own clock.
        pass_idle_time: called with how many cycles no vCPU can run for; how many of them it let pass. None:
            nothing can come in from outside, so the clock may jump.

    Args:
        memory: machine memory in MiB, an even number.
        log: where the hypervisor's own lines go.
        seconds: the wallclock at the start, as Unix time.
    """

    current: Vcpu
    cpu: Processor

    def __init__(
        self,
        memory: int,
        *,
        log: Log | None = None,
        window: WindowKind = "live",
        clock: ClockKind = "auto",
        seconds: int = 0,
    ) -> None:
        self.log = log or Log()
        self.wallclock = seconds
        self.ram = Ram(memory * MIB)
        self.frames = Frames(self.ram.frames)
        self._carve_memory(memory)
        self.cpu = Processor(self.ram.host_address, self.ram.size, window=window, clock=clock)
        self.clock = self.cpu.clock
        self.decoder = Decoder()
        self.page_types = PageTypes(self)
        self.mod_l1_entry = make_mod_l1_entry(self)
        self.domains: dict[int, Domain] = {}
        self._owners = {domid: Domain.without_vcpus(self, domid) for domid in (DOMID_IO, DOMID_XEN)}
        self.tlb_is_stale = False
        self.pv_shadows: tuple[PvShadow, ...] = ()
        self.timers = Timers()
        self.timers.was_set = self._shorten_slice
        self.counters = [0] * (max(BY_NUMBER) + 1)
        self.console_output: Callable[[bytes], None] = lambda data: None
        self.console_input = bytearray()
        self.between_turns: Callable[[Domain | None], None] = lambda last: None
        self.ended: deque[Domain] = deque()
        self.pass_idle_time: Callable[[int], int | None] = lambda cycles: None
        self.host_clock: Callable[[], int] | None = None
        self.loaded: Vcpu | None = None
        self._pristine = self.cpu.save()
        self.scheduler = Scheduler(self)
        self.virq_handlers: dict[int, int] = {}
        self.pci_devices: set[tuple[int, int, int]] = set()
        self._notices: deque[tuple[Domain, int]] = deque()
        self._entries = families.table(self)
        self.hvm_entries = {word: families.table(self, HVM, word) for word in WORDS}
        self._u32, self._u64 = self.cpu.window.u32, self.cpu.window.u64
        self.bounce = make_bounce(self)
        self._traps = PvTraps(self)
        self._traps.install(self.cpu.exits, self._entries)
        self.pv_tables = (self.cpu.exits, self._entries)
        self.translated_tables = translated_tables(self)
        self.hvm_traps = HvmTraps(self)
        self._connect_processor()

    # --- memory ----------------------------------------------------------------------------------

    def _carve_memory(self, memory: int) -> None:
        """From the bottom: low memory, the domains' heap, the m2p, Xen's own heap."""
        frames = self.ram.frames
        m2p_pages = _m2p_pages(memory)
        m2p_first = frames - (_XEN_HEAP + m2p_pages * _LARGE_PAGE_MIB) * _FRAMES_PER_MIB
        xen_first = frames - _XEN_HEAP * _FRAMES_PER_MIB
        for mfn in range(_LOW_MEMORY * _FRAMES_PER_MIB):
            self.frames.share(mfn, DOMID_IO, PGT_NONE)
        for mfn in range(m2p_first, xen_first):
            self.frames.share(mfn, DOMID_XEN, PGT_NONE)
        for mfn in range(xen_first, frames):
            self.frames.withhold(mfn)
        self.m2p = MachineToPhysical(self.ram, m2p_first, m2p_pages)
        self.heap = Heap(self.ram, self.frames, _LOW_MEMORY * _FRAMES_PER_MIB, m2p_first)
        self._xen_heap = Heap(self.ram, self.frames, xen_first, frames)
        #: Frames of the domains' heap that have become the hypervisor's own.
        self._borrowed: set[int] = set()
        self.gdt_frame = self.allocate_xen_page()
        build_xen_gdt_page(self.ram, self.gdt_frame)
        self.zero_frame = self.allocate_xen_page()
        self.dummy_vcpu_info = self.allocate_xen_page() << PAGE_SHIFT
        self.ram.u8[self.dummy_vcpu_info + 1] = 1

    def allocate_xen_page(self) -> int:
        """A zeroed frame of the hypervisor's own: of its part of memory, and then of the domains'.

        In Xen the two are one heap. Here the part at the end of memory is used up first, so that the frames
        of the first domains are the same whatever the hypervisor needs for them.

        Raises:
            OutOfFrames: there is none left.
        """
        heap = self._xen_heap if self._xen_heap.free_frames else self.heap
        mfn = heap.allocate(DOMID_XEN)
        if heap is self.heap:
            self._borrowed.add(mfn)
        self.frames.withhold(mfn)
        return mfn

    def allocate_shared_page(self, domid: int) -> int:
        """A zeroed frame of the hypervisor's own that a domain may map."""
        mfn = self.allocate_xen_page()
        self.frames.share(mfn, domid)
        return mfn

    def free_xen_page(self, mfn: int) -> None:
        """Take back a frame of the hypervisor's own, shared or not, that nobody refers to any more."""
        self.flush_stale_tlb()
        self.m2p.forget(mfn)
        if mfn in self._borrowed:
            self._borrowed.remove(mfn)
            self.heap.free(mfn)
        else:
            self._xen_heap.free(mfn)
            self.frames.withhold(mfn)

    @property
    def free_xen_frames(self) -> int:
        """How many frames the hypervisor has left for its own needs."""
        return self._xen_heap.free_frames

    def allocate_paging_page(self) -> int:
        """A zeroed frame of the domains' memory for page tables of ours (Xen: the paging pool).

        Raises:
            OutOfFrames: there is none left.
        """
        mfn = self.heap.allocate(DOMID_XEN)
        self.frames.withhold(mfn)
        return mfn

    def free_paging_page(self, mfn: int) -> None:
        """Take back a zeroed frame of page tables, which the processor does not walk."""
        self.heap.free(mfn, is_zeroed=True)

    def free_domain_page(self, mfn: int) -> None:
        """Take back a frame that nobody refers to any more."""
        owner = self.domains.get(self.frames.owner[mfn])
        self.flush_stale_tlb()
        self.m2p.forget(mfn)
        self.before_write(mfn)
        self.heap.free(mfn)
        if owner is not None:
            owner.pages -= 1
            if owner.is_torn_down:
                bury(owner)

    def before_write(self, mfn: int) -> None:
        """Must be called before a frame that guest code may lie in is written by the hypervisor."""
        if mfn in self.cpu.code_frames:
            self.cpu.forget_code()
        if self.pv_shadows:
            self.mark_dirty(mfn)

    def mark_dirty(self, mfn: int) -> None:
        """A frame counts as written for those who log the writes of its domain."""
        for shadow in self.pv_shadows:
            shadow.wrote(mfn)

    def is_special_page(self, mfn: int) -> bool:
        """Whether a frame is one of the hypervisor's own (it may be shared with a guest)."""
        return mfn >= self._xen_heap.first or mfn in self._borrowed

    def flush_stale_tlb(self) -> None:
        """Make the processor forget translations that were changed since the last time."""
        if self.tlb_is_stale:
            self.tlb_is_stale = False
            self.cpu.flush_tlb()
            for shadow in self.pv_shadows:
                shadow.flush()

    def flush_tlb(self) -> None:
        """Forget all translations, because upper levels or the base pointer changed."""
        self.tlb_is_stale = False
        self.cpu.flush_tlb()
        for shadow in self.pv_shadows:
            shadow.flush()
        if self.loaded is not None:
            self.loaded.domain.memory.flush_tables()

    def drop_ldt(self, vcpu: Vcpu) -> None:
        """Forget the pages of a vCPU's LDT: they were found through the tables it leaves."""
        drop_ldt(vcpu)

    def foreign_domain(self, caller: Domain, domid: int) -> Domain | None:
        """The domain that an operation on memory names: DOMID_SELF for the caller, never its own number."""
        if domid == DOMID_SELF:
            return caller
        if domid == caller.domid:
            return None
        return self._owners.get(domid) or self.domains.get(domid)

    # --- time ------------------------------------------------------------------------------------

    def tsc(self) -> int:
        """The time-stamp counter of every vCPU, in cycles."""
        return self.clock.now if self.host_clock is None else self.host_clock()

    def system_time(self) -> int:
        """Nanoseconds since the machine was made."""
        return self.clock.now * 1_000_000_000 // CYCLES_PER_SECOND

    def cycle_of(self, nanoseconds: int) -> int:
        """The cycle at which a system time is reached."""
        return -(-nanoseconds * CYCLES_PER_SECOND // 1_000_000_000)

    def charge(self, cycles: int) -> None:
        """Let time pass for work that takes longer than an exit usually does."""
        self.clock.left[0] -= cycles

    def preempt_due(self) -> bool:
        """Whether a long hypercall has to stop, because its vCPU's time is up."""
        return bool(self.clock.left[0] < 0)

    def hypercall_preempt_check(self, vcpu: Vcpu) -> bool:
        """Whether a hypercall of many parts has to stop: time is up, or an upcall of a PV guest is due."""
        upcall_is_due = 0 < self.ram.u16[vcpu.info16] < 0x100 and not vcpu.domain.is_hvm
        return upcall_is_due or bool(self.clock.left[0] < 0)

    def _shorten_slice(self, expiry: int) -> None:
        """Make the running vCPU stop in time for a timer that was just set."""
        if expiry < self.clock.deadline:
            self.clock.deadline = expiry

    # --- domains and vCPUs -----------------------------------------------------------------------

    def add_domain(self, domain: Domain) -> None:
        """Enter a domain into the machine."""
        self.domains[domain.domid] = domain

    def make_runnable(self, vcpu: Vcpu) -> None:
        """Let a vCPU wait for its turn, if it can run."""
        settle_runstate(vcpu)
        self.scheduler.add(vcpu)

    def wake(self, vcpu: Vcpu) -> None:
        """An event is pending for a vCPU: it need not wait any longer."""
        if vcpu.blocked:
            vcpu.blocked = False
            if vcpu.polls_for is not None:
                stop_polling(vcpu)
            self.make_runnable(vcpu)

    def unload(self, domain: Domain) -> None:
        """Take a domain's vCPU off the processor, so that nothing there leads to its memory."""
        if self.loaded is not None and self.loaded.domain is domain:
            self._save_loaded(self.loaded)
            self.loaded = None
            self.cpu.load(self._pristine)

    def reschedule(self) -> None:
        """Leave the guest after this exit and choose anew who runs."""
        self.cpu.stop()

    def type_at_console(self, keys: bytes) -> None:
        """Keys for the hypervisor's own console, which domain 0 reads; it is told by VIRQ_CONSOLE."""
        self.console_input += keys
        send_global_virq(self, VIRQ_CONSOLE)

    def notify_service(self, domain: Domain, port: int) -> None:
        """Queue an event for a domain that lives outside the machine."""
        self._notices.append((domain, port))

    # --- running ---------------------------------------------------------------------------------

    def run(self, until: int) -> End:
        """Run all domains until they have shut down, or the clock has reached cycle `until`.

        Nothing here looks at domains that have nothing to do, as long as any has.
        """
        last: Domain | None = None
        while True:
            self.between_turns(last)
            self._deliver_notices()
            self.timers.run_expired(self.clock.now)
            is_time = self.clock.now < until
            vcpu = self.scheduler.take() if is_time else None
            if vcpu is not None:
                last = vcpu.domain
                self._run_slice(vcpu, until)
            elif all(domain.has_stopped for domain in self.domains.values() if domain.vcpus):
                return End.ALL_DOWN
            elif not is_time:
                return End.DEADLINE
            elif not (self._notices or self._pass_idle_time(until)):
                return End.IDLE

    def _pass_idle_time(self, until: int) -> bool:
        """Nobody can run: move the clock to the next timer; False if there is nothing to wait for."""
        expiry = self.timers.next_expiry()
        cycles = max(min(until, until if expiry is None else expiry) - self.clock.now, 0)
        passed = self.pass_idle_time(cycles)
        if passed is None:
            if expiry is None:
                return False
            passed = cycles
        self.clock.now += passed
        return True

    def _run_slice(self, vcpu: Vcpu, until: int) -> None:
        now = self.clock.now
        self.switch_to(vcpu)
        if vcpu.entry_context is not None:
            load_guest_context(vcpu)
        end = self.scheduler.start(vcpu, now)
        update_time(vcpu, now if self.host_clock is None else self.host_clock())
        if vcpu.runstate_area:
            update_runstate_area(vcpu)
        expiry = self.timers.next_expiry()
        self.clock.deadline = min(until, end, until if expiry is None else expiry)
        self.run_periodic_timer(vcpu)
        if vcpu.domain.is_hvm:
            test_interrupts(vcpu)
        else:
            if vcpu.nmi_pending:
                deliver_nmi(vcpu)
            self.test_events(vcpu, resume_flag=flags.RF if vcpu.preempted else 0)
        self.clock.deadline = max(self.clock.deadline, now + _LEAST_SLICE)
        vcpu.preempted = False
        if vcpu.runnable:
            vcpu.preempted = self.cpu.run()
        vcpu.periodic_timer.cancel()
        self.scheduler.stop(vcpu)
        if vcpu.runstate_area and self.loaded is vcpu:
            update_runstate_area(vcpu)

    def switch_to(self, vcpu: Vcpu) -> None:
        """Load a vCPU onto the processor, after saving the one that was there."""
        if self.loaded is vcpu:
            return
        if self.loaded is not None:
            self._save_loaded(self.loaded)
        self.loaded = self.current = vcpu
        self.cpu.load(vcpu.saved or self._pristine)
        if vcpu.domain.is_hvm:
            vcpu.hvm.enter()
        else:
            self.cpu.use_exits(vcpu.domain.exits)
            vcpu.domain.memory.set_root(vcpu.cr3 or None)

    def _save_loaded(self, vcpu: Vcpu) -> None:
        if vcpu.domain.is_hvm:
            vcpu.hvm.leave()
        vcpu.saved = self.cpu.save()

    def run_periodic_timer(self, vcpu: Vcpu) -> None:
        """The periodic timer runs only while its vCPU does; a tick that was missed comes now."""
        if not vcpu.periodic_period or (VIRQ_TIMER, vcpu.id) not in vcpu.domain.virq_ports:
            return
        now, period = self.clock.now, self.cycle_of(vcpu.periodic_period)
        if now >= vcpu.last_tick + period:
            vcpu.last_tick = now - (now - vcpu.last_tick) % period
            send_virq(vcpu, VIRQ_TIMER)
        vcpu.periodic_timer.set(vcpu.last_tick + period)

    def _deliver_notices(self) -> None:
        while self._notices:
            domain, port = self._notices.popleft()
            if domain.on_event is not None:
                domain.on_event(port)

    # --- exits -----------------------------------------------------------------------------------

    def hypercall_handler(self, entries: Mapping[int, Entry]) -> Callable[[], None]:
        """The way of one hypercall: look the number up, call the handler, hand over the result.

        A closure, because its variables are found faster than attributes: this path is taken a million
        times a second.
        """
        u32, u64, u16 = self._u32, self._u64, self.ram.u16
        entry_of, counters, refuse = entries.get, self.counters, self._traps.refuse_hypercall

        def on_hypercall() -> None:
            vcpu = self.current
            if u32[_HFLAGS] & 3 != 1:
                refuse(vcpu)
            elif (entry := entry_of(number := u32[0])) is None:
                u64[0] = ENOSYS & 0xFFFFFFFF
            else:
                counters[number] += 1
                try:
                    u64[0] = entry(vcpu, u32) & 0xFFFFFFFF
                except HypercallError as error:
                    u64[0] = error.result & 0xFFFFFFFF
                except Continuation as continuation:
                    self._restart_hypercall(continuation)
            if 0 < u16[vcpu.info16] < 0x100:
                self.test_events(vcpu)

        return on_hypercall

    def call(self, vcpu: Vcpu, number: int, words: Words) -> int:
        """Make one hypercall for a vCPU whose registers do not hold the arguments: it is made by a test.

        Raises:
            Continuation: it stopped in the middle.
        """
        domain = vcpu.domain
        entries = self.hvm_entries[domain.word] if domain.is_hvm else domain.hypercalls
        entry = entries.get(number)
        if entry is None:
            return ENOSYS
        self.counters[number] += 1
        try:
            return entry(vcpu, words)
        except HypercallError as error:
            return error.result

    def _restart_hypercall(self, continuation: Continuation) -> None:
        """Let the guest make its hypercall again, with what is left of the arguments."""
        for index, word in zip(ARGUMENT_INDEXES, continuation.words, strict=False):
            self._u64[index // 2] = word
        self._u64[_EIP] = (self._u64[_EIP] - 2) & 0xFFFFFFFF

    def test_events(self, vcpu: Vcpu, *, resume_flag: int = 0) -> None:
        """On the way back into a guest: call it up if an event is pending and upcalls are not masked."""
        pending = self.ram.u16[vcpu.info16]
        if 0 < pending < 0x100 and not vcpu.domain.has_shut_down:
            inject_upcall(vcpu, resume_flag=resume_flag)

    def _connect_processor(self) -> None:
        self.cpu.port_in = self._port_in
        self.cpu.port_out = self._port_out
        self.cpu.frame_of = self._frame_of_code

    def _port_in(self, port: int, size: int) -> int | None:
        vcpu = self.current
        return (port_in if vcpu.domain.is_hvm else emul_priv_op.port_in)(vcpu, port, size)

    def _port_out(self, port: int, size: int, value: int) -> bool:
        vcpu = self.current
        return (port_out if vcpu.domain.is_hvm else emul_priv_op.port_out)(vcpu, port, size, value)

    def _frame_of_code(self, address: int) -> int | None:
        vcpu = self.loaded
        return None if vcpu is None else vcpu.domain.memory.frame_of(address)
