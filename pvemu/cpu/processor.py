"""One physical CPU: it runs guest code and calls a handler at every exit.

A virtual CPU is a saved state; to run it, its bytes are loaded here. The guest always runs with AMD-V's
guest flag set and every exception intercepted, so whatever happens arrives as an exit number of
exits.py. Handlers run inside the engine's hook, and what they leave in the state window is what the
guest goes on with; the engine is left only to switch to another vCPU (or at the clock's deadline).
"""

import ctypes
import mmap
from collections.abc import Callable, Iterable
from typing import Final, Literal

from pvemu.cpu import binding, exits, flags, layout
from pvemu.cpu.binding import Engine
from pvemu.cpu.calibration import calibrate
from pvemu.cpu.clock import EXIT_COST, BlockClock, Clock, CountClock
from pvemu.cpu.errors import EngineError
from pvemu.cpu.fpu import INITIAL_IMAGE, load_fpu
from pvemu.cpu.segments import null_segment
from pvemu.cpu.state_window import WINDOWS, StateWindow, WindowKind

ClockKind = Literal["auto", "block", "count"]

#: Index of the fault address in `Processor.control_block`.
EXIT_INFO_2: Final = layout.VMCB_EXIT_INFO_2 // 8

#: The processor's own pages (control block, empty page table) lie where no page-table entry can lead: entries
#: have 40 address bits.
PRIVATE_BASE: Final = 1 << 40
_EMPTY_TABLE: Final = PRIVATE_BASE + 0x1000
#: Two pages of ones: every access to a model-specific register exits.
_MSR_BITMAP: Final = PRIVATE_BASE + 0x2000
_MSR_BITMAP_SIZE: Final = 0x2000
_PRIVATE_SIZE: Final = 0x2000 + _MSR_BITMAP_SIZE
#: jmp to the next instruction ; hlt. Runs where it lies: paging is still off then.
_TWO_BLOCKS: Final = b"\xeb\x00\xf4"

# The features a guest may use are switched on once; what it reads back is the hypervisor's affair.
_CR0: Final = 0x80050033
_CR4: Final = 0x406E0  # OSXSAVE OSXMMEXCPT OSFXSR PGE MCE PAE
_EFER: Final = 0x1D01  # SVME NXE LMA LME SCE

_CR0_INDEX, _CR3_INDEX = layout.CR // 8, layout.CR // 8 + 3
_EIP, _HFLAGS = layout.EIP // 8, layout.HFLAGS // 4
_INT = layout.EXCEPTION_IS_INT // 4
_NEXT_EIP = layout.EXCEPTION_NEXT_EIP // 8
_CC_OP = layout.CC_OP // 4
_OLD = layout.OLD_EXCEPTION // 4
_HFLAGS2, _NESTED_CR3 = layout.HFLAGS2 // 4, layout.NESTED_CR3 // 8
_HFLAGS_OF_SEGMENTS: Final = (
    layout.HF_CPL | layout.HF_CS32 | layout.HF_SS32 | layout.HF_ADDSEG | layout.HF_CS64
)
_GUEST_FLAGS: Final = layout.HF_GUEST | layout.HF_SVME | layout.HF_LMA | layout.HF_PE | layout.HF_OSFXSR

#: Exits that are always asked for: time must come from the machine's clock, and only from there; and RDPMC,
#: which the engine would take for an unknown opcode.
_INTERCEPTS: Final = (exits.RDTSC, exits.RDPMC)

#: Exits behind an instruction that is done (DB: single steps): the lazy form of the flags is of that one.
_BETWEEN_INSTRUCTIONS: Final = frozenset(
    {exits.INTERRUPT_WINDOW, exits.NMI_WINDOW, exits.EXCEPTION + exits.DB}
)

#: Cycles for a block of code that was translated in vain: about what that takes here in real time.
_IN_VAIN: Final = 100 * EXIT_COST

PortIn = Callable[[int, int], int | None]
PortOut = Callable[[int, int, int], bool]
Trace = Callable[[int], None]
Around = Callable[[int, Callable[[], None]], None]


class Processor:
    """One engine with its memory, its clock and its handlers.

    Attributes:
        window: the CPU state; handlers read and write registers there.
        clock: virtual time and preemption.
        control_block: AMD-V's control block as 64-bit words; word EXIT_INFO_2 is the address of the last
            page fault.
        exits: the handler of each exit number; the owner fills it in, or puts another table in its place
            with `use_exits` for a vCPU of another kind.
        port_in, port_out: asked at IN (port, bytes) and OUT (port, bytes, value). None or False means
            that the guest may not, and gets a precise #GP.
        code_frames: frames that hold code the engine has translated; writing one of them from outside
            the guest calls for `forget_code`.

    Args:
        ram_address: host address of the machine's RAM.
        ram_size: its size in bytes.
        window: "live", or "context" for the fallback.
        clock: "auto", or one of "block" and "count".

    Raises:
        EngineError: the engine is not the known one.
    """

    def __init__(
        self, ram_address: int, ram_size: int, *, window: WindowKind = "live", clock: ClockKind = "auto"
    ) -> None:
        calibration = calibrate(window)
        self.engine = Engine()
        self.window: StateWindow = WINDOWS[window](self.engine)
        self.engine.map(ram_size, ram_address)
        self.engine.map_nothing(ram_size, PRIVATE_BASE)
        self._private = mmap.mmap(-1, _PRIVATE_SIZE)
        self._private_anchor = ctypes.c_char.from_buffer(self._private)
        self.engine.map(_PRIVATE_SIZE, ctypes.addressof(self._private_anchor), at=PRIVATE_BASE)
        self.control_block = memoryview(self._private).cast("Q")
        self.exits: list[Callable[[], None]] = [self._unexpected] * exits.EXIT_NUMBERS
        self.exits[exits.UNTRANSLATABLE] = self._untranslatable
        self.port_in: PortIn = lambda port, size: None
        self.port_out: PortOut = lambda port, size, value: False
        self.code_frames: set[int] = set()
        self._record_block: Callable[[int], None] | None = None
        self.frame_of: Callable[[int], int | None] = lambda address: None
        self._dispatch = self.exits
        self._surrounded = False
        self._running = False
        self._failure: BaseException | None = None
        self._held_state: bytes | None = None
        self._held_exit = 0
        self.clock = self._make_clock(clock, calibration.counter_offset)
        self._interrupt_request = self._find_interrupt_request()
        #: What the word holds while guest code runs.
        self._awaited = 0
        self._install_hooks()
        self._make_engine_report_blocks()
        self._reset()

    def close(self) -> None:
        """Give the engine back; the processor can't be used afterwards."""
        self.window.release()
        self.control_block.release()
        self.engine.close()

    # --- running ---------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run the loaded vCPU until `stop` is called or the clock passes its deadline; True for the deadline.

        Raises:
            EngineError: the engine itself failed.
            BaseException: whatever a handler raised, after the engine has stopped.
        """
        self._running = True
        u32, u64 = self.window.u32, self.window.u64
        while self._running:
            u32[_OLD] = 0xFFFFFFFF
            u32[_INT] = 0
            flags.store_whole(self.window)
            self.window.store()
            self._await(self._awaited)
            status = self.clock.run(self.engine, u64[_EIP])
            self.window.fetch()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self._held_state is not None:
                self._deliver_held()
                continue
            if status == binding.INVALID_INSTRUCTION:
                u64[_EIP] = u64[_NEXT_EIP]
                self._exit_by_stop(exits.UD)
                continue
            if status == binding.NO_CODE:
                self._exit_by_stop(exits.UNTRANSLATABLE)
                continue
            if status:
                raise EngineError(f"the engine failed at 0x{u64[_EIP]:x}: {binding.describe_status(status)}")
            if self._running and self.clock.expired:
                self._running = False
                return True
        return False

    def stop(self) -> None:
        """End the run after the current exit."""
        self._running = False
        self._leave_engine()

    def save(self) -> bytes:
        """The state of the vCPU that is loaded."""
        return bytes(self.window.u8)

    def load(self, state: bytes) -> None:
        """Make another vCPU the one that runs."""
        self.window.u8[:] = state
        self.flush_tlb()

    # --- state that spans several fields ---------------------------------------------------------

    @property
    def fault_address(self) -> int:
        """The address that the last page fault was about."""
        return self.control_block[EXIT_INFO_2]

    def set_segment(self, register: int, cached: bytes) -> None:
        """Load one segment register with the 24 bytes that `Descriptor.cached` makes."""
        at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
        self.window.u8[at : at + layout.SEGMENT_SIZE] = cached
        self._derive_hflags()

    def set_ring(self, code: bytes, stack: bytes) -> None:
        """Load CS and SS, and with them the privilege level, which is the stack segment's."""
        at = layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE
        self.window.u8[at : at + 2 * layout.SEGMENT_SIZE] = code + stack
        self._derive_hflags()

    def load_fpu(self, image: bytes) -> None:
        """Load the registers of the FPU and of SSE from an FXSAVE image."""
        load_fpu(self.engine, self.window, image)

    def set_task_switched(self, switched: bool) -> None:
        """Set or clear CR0.TS: whether the next use of the FPU is exception 7."""
        u32, u64 = self.window.u32, self.window.u64
        if switched:
            u64[_CR0_INDEX] |= 8
            u32[_HFLAGS] |= layout.HF_TS
        else:
            u64[_CR0_INDEX] &= ~8
            u32[_HFLAGS] &= ~layout.HF_TS

    def set_root(self, address: int) -> None:
        """Point CR3 at a root page table, by physical address, and forget old translations."""
        self.window.u64[_CR3_INDEX] = address
        self.flush_tlb()

    def flush_tlb(self) -> None:
        """Forget every cached address translation."""
        self.engine.flush_tlb()

    def forget_code(self) -> None:
        """Forget all translated code, because memory that holds some was written from outside."""
        self.code_frames.clear()
        self.engine.flush_code()

    def set_nested_root(self, address: int | None) -> None:
        """Translate the guest's physical addresses through tables of ours, by their root's physical address.

        None: what the guest's tables name is machine memory. The format is long mode's, with NX.
        """
        u32, u64 = self.window.u32, self.window.u64
        if address is None:
            u32[_HFLAGS2] &= ~layout.HF2_NPT
        else:
            u32[_HFLAGS2] |= layout.HF2_NPT
            u64[_NESTED_CR3] = address
            u32[layout.NESTED_PG_MODE // 4] = layout.NESTED_PAGING_LONG
        self.flush_tlb()

    def await_interrupt_window(self) -> None:
        """Have an exit INTERRUPT_WINDOW before the next instruction that an interrupt may precede.

        That is AMD-V's virtual interrupt (APM volume 2, section 15.21.4): the engine looks at IF and at the
        shadow of STI itself, at no cost. Where its request word was not found, the guest runs in slices
        of one block instead.
        """
        if self._interrupt_request is None:
            self.clock.deadline = self.clock.now
        else:
            self._await(self._awaited | layout.INTERRUPT_VIRQ)

    def forget_interrupt_window(self) -> None:
        """No interrupt waits any longer."""
        self._await(self._awaited & ~layout.INTERRUPT_VIRQ)

    def await_nmi_window(self) -> None:
        """Have an exit NMI_WINDOW before the next instruction that an NMI may precede.

        The engine knows when the handler of an NMI has returned. It does not look at the shadow of MOV SS:
        that is one block of code, after which the guest is stopped.
        """
        if self._interrupt_request is None or self.window.u32[_HFLAGS] & layout.HF_INHIBIT_IRQ:
            self.clock.deadline = self.clock.now
        else:
            self._await(self._awaited | layout.INTERRUPT_NMI)

    def forget_nmi_window(self) -> None:
        """No NMI waits any longer."""
        self._await(self._awaited & ~layout.INTERRUPT_NMI)

    def leave_block(self) -> None:
        """From a port handler: let what waits for the guest be looked at after this block of code."""
        self.engine.stop()

    def use_exits(self, table: list[Callable[[], None]]) -> None:
        """Handle exits by another table."""
        self.exits = table
        if not self._surrounded:
            self._dispatch = table

    def intercept(self, exit_numbers: Iterable[int]) -> None:
        """Ask for exits of codes 0x60 to 0x8b, besides those that are always asked for."""
        wanted = 0
        for number in (*_INTERCEPTS, *exit_numbers):
            wanted |= exits.intercept_bit(number)
        self.window.u64[layout.INTERCEPT // 8] = wanted

    def trace(self, record: Trace) -> None:
        """Call `record` with the exit number before each exit is handled."""

        def recorded(number: int, handle: Callable[[], None]) -> None:
            record(number)
            handle()

        self.surround(recorded)

    def watch_blocks(self, record: Callable[[int], None]) -> None:
        """Call `record` with the address of each block of guest code that runs and was not known before.

        It knows a block until it forgets all code (`forget_code`), or the block is written over.
        """
        self._record_block = record

    def surround(self, around: Around) -> None:
        """Call `around(exit number, handle)` for each exit, which has to call `handle`.

        What was put around exits before is inside of it.
        """
        inside = self._dispatch if self._surrounded else None
        self._surrounded = True

        def surrounded(number: int) -> Callable[[], None]:
            def handle() -> None:
                (self.exits if inside is None else inside)[number]()

            return lambda: around(number, handle)

        self._dispatch = [surrounded(number) for number in range(exits.EXIT_NUMBERS)]

    # --- inside ----------------------------------------------------------------------------------

    def _make_clock(self, kind: ClockKind, counter_offset: int | None) -> Clock:
        if kind != "count":
            try:
                return BlockClock(self.engine)
            except EngineError:
                if kind == "block":
                    raise
        if counter_offset is None:
            raise EngineError("the engine's instruction counter was not found; run `pvemu doctor`")
        return CountClock((self.engine.handle.value or 0) + counter_offset)

    def _find_interrupt_request(self) -> ctypes.c_uint32 | None:
        state = self.engine.state_address
        return None if state is None else ctypes.c_uint32.from_address(state + layout.INTERRUPT_REQUEST)

    def _await(self, requests: int) -> None:
        """Have windows reported, but not to somebody who wants to leave the engine.

        It looks at them before it looks whether it is to stop, so an open one would keep it for ever.
        """
        self._awaited = requests
        if self._interrupt_request is not None:
            is_leaving = not self._running or self._held_state is not None
            self._interrupt_request.value = 0 if is_leaving else requests

    def _leave_engine(self) -> None:
        self._await(self._awaited)
        self.engine.stop()

    def _install_hooks(self) -> None:
        engine = self.engine
        state = engine.state_address
        if self.window.live and isinstance(self.clock, BlockClock) and state is not None:
            self._on_exit = binding.EXIT_CALLBACK(self._exit_callback())
            self.clock.hook_exits(engine, self._on_exit, state + layout.EXCEPTION_IS_INT)
        else:
            callback = binding.INTERRUPT_CALLBACK(self._fallback_exit_callback())
            engine.hook(binding.HOOK_INTERRUPT, callback)
        engine.hook(binding.HOOK_TRANSLATED, binding.TRANSLATED_CALLBACK(self._on_translated))
        instruction = binding.HOOK_INSTRUCTION
        engine.hook(instruction, binding.PORT_IN_CALLBACK(self._on_in), None, binding.INSTRUCTION_IN)
        engine.hook(instruction, binding.PORT_OUT_CALLBACK(self._on_out), None, binding.INSTRUCTION_OUT)
        for number, exit_number in (
            (binding.INSTRUCTION_SYSCALL, exits.SYSCALL),
            (binding.INSTRUCTION_SYSENTER, exits.SYSENTER),
        ):
            callback_type = binding.INSTRUCTION_CALLBACK
            engine.hook(instruction, callback_type(self._fast_call_callback(exit_number)), None, number)

    def _exit_callback(self) -> Callable[[int], None]:
        def on_exit(number: int) -> None:
            try:
                self._dispatch[number]()
            except BaseException as failure:  # noqa: BLE001  it travels to run(), past the engine's C frames
                self._fail(failure)

        return on_exit

    def _fallback_exit_callback(self) -> Callable[[int, int], None]:
        handle = self._exit_callback()
        u32, flags_are_computed = self.window.u32, self.clock.computes_flags

        def on_exit(_engine: int, number: int) -> None:
            self.window.fetch()
            u32[_INT] = 0
            if flags_are_computed and number not in _BETWEEN_INSTRUCTIONS:
                u32[_CC_OP] = layout.CC_OP_EFLAGS
            self.clock.fold()
            self.clock.charge(EXIT_COST)
            handle(number)
            self.clock.limit()
            self.window.store()

        return on_exit

    def _on_translated(self, _engine: int, block: object, _previous: object, _data: int) -> None:
        generated = block.contents  # type: ignore[attr-defined]
        if self._record_block is not None:
            self._record_block(generated.pc)
        for address in (generated.pc, generated.pc + max(generated.size - 1, 0)):
            frame = self.frame_of(address)
            if frame is not None:
                self.code_frames.add(frame)

    def _on_in(self, _engine: int, port: int, size: int) -> int:
        self.window.fetch()
        value = None
        if self._held_state is None:
            try:
                value = self.port_in(port, size)
            except BaseException as failure:  # noqa: BLE001  it travels to run(), past the engine's C frames
                self._fail(failure)
        if value is None:
            self._fault_at_end_of_block(exits.EXCEPTION + exits.GP)
            return 0
        self._charge_port_access()
        return value

    def _on_out(self, _engine: int, port: int, size: int, value: int) -> None:
        self.window.fetch()
        done = False
        if self._held_state is None:
            try:
                done = self.port_out(port, size, value)
            except BaseException as failure:  # noqa: BLE001  it travels to run(), too
                self._fail(failure)
        if done:
            self._charge_port_access()
        else:
            self._fault_at_end_of_block(exits.EXCEPTION + exits.GP)

    def _fail(self, failure: BaseException) -> None:
        """Keep what a handler raised for `run`, and come there."""
        self._failure = failure
        self.stop()

    def _charge_port_access(self) -> None:
        self.clock.fold()
        self.clock.charge(EXIT_COST)
        self.clock.limit()

    def _fast_call_callback(self, exit_number: int) -> Callable[[int, int], None]:
        def on_fast_call(_engine: int, _data: int) -> None:
            self.window.fetch()
            self._fault_at_end_of_block(exit_number)

        return on_fast_call

    def _fault_at_end_of_block(self, exit_number: int) -> None:
        """Undo the rest of the block: the engine can't be left here, only at the block's end.

        The state is kept as it is now. An empty page table takes all memory away from what still runs.
        """
        if self._held_state is not None:
            return
        u32 = self.window.u32
        self._held_state, self._held_exit = bytes(self.window.u8), exit_number
        self._held_dispatch, self._dispatch = self._dispatch, [self.engine.stop] * exits.EXIT_NUMBERS
        nested = u32[_HFLAGS2] & layout.HF2_NPT
        self.window.u64[_NESTED_CR3 if nested else _CR3_INDEX] = _EMPTY_TABLE
        u32[_INT] = 0
        self.window.store()
        self.engine.flush_tlb()
        self._leave_engine()

    def _deliver_held(self) -> None:
        assert self._held_state is not None
        self.window.u8[:] = self._held_state
        self._held_state, self._dispatch = None, self._held_dispatch
        self.flush_tlb()
        self.window.u32[layout.ERROR_CODE // 4] = 0
        self._exit_by_stop(self._held_exit)

    def _exit_by_stop(self, number: int) -> None:
        """Handle an exit for which the engine had to be stopped, so that no hook has charged it."""
        self.clock.charge(EXIT_COST)
        self._dispatch[number]()

    def _untranslatable(self) -> None:
        """An instruction of the block at EIP can't be translated: go there one by one; it is invalid."""
        u32 = self.window.u32
        if u32[_HFLAGS] & layout.HF_INHIBIT_IRQ:
            u32[_HFLAGS] &= ~layout.HF_INHIBIT_IRQ
            self._dispatch[exits.EXCEPTION + exits.UD]()
        else:
            u32[_HFLAGS] |= layout.HF_INHIBIT_IRQ
            self.clock.charge(_IN_VAIN)
        if self.clock.expired:  # no code has run, so nobody else has looked
            self.stop()

    def _derive_hflags(self) -> None:
        """What the engine derives from the segment registers (QEMU: cpu_x86_load_seg_cache)."""
        u32 = self.window.u32

        def attributes(register: int) -> int:
            return u32[(layout.SEGMENTS + register * layout.SEGMENT_SIZE + layout.ATTRIBUTES) // 4]

        def base(register: int) -> int:
            return u32[(layout.SEGMENTS + register * layout.SEGMENT_SIZE + layout.BASE) // 4]

        code, stack = attributes(layout.CS), attributes(layout.SS)
        flags = u32[_HFLAGS] & ~_HFLAGS_OF_SEGMENTS | stack >> 13 & 3
        if code & 1 << 21:
            flags |= layout.HF_CS64 | layout.HF_CS32 | layout.HF_SS32
        else:
            flags |= layout.HF_CS32 if code & 1 << 22 else 0
            flags |= layout.HF_SS32 if stack & 1 << 22 else 0
            if not code & 1 << 22 or base(layout.DS) | base(layout.ES) | base(layout.SS):
                flags |= layout.HF_ADDSEG
        u32[_HFLAGS] = flags

    def _make_engine_report_blocks(self) -> None:
        """Run one block: only after that does the engine tell of every block it translates."""
        self._private[: len(_TWO_BLOCKS)] = _TWO_BLOCKS
        self.engine.start(PRIVATE_BASE)
        self.engine.flush_code()
        self._private[: len(_TWO_BLOCKS)] = bytes(len(_TWO_BLOCKS))
        self.code_frames.clear()
        self.clock.now = 0

    def _reset(self) -> None:
        """The state in which every vCPU starts: long mode, guest mode, exceptions intercepted."""
        self.engine.write_register("CR4", _CR4)
        self.engine.write_register("CR0", _CR0)
        self.window.fetch()
        u8, u32, u64 = self.window.u8, self.window.u32, self.window.u64
        u64[layout.EFER // 8] = _EFER
        u64[_CR3_INDEX] = _EMPTY_TABLE
        u32[_HFLAGS] = u32[_HFLAGS] & ~layout.HF_TS | _GUEST_FLAGS
        u64[layout.VM_VMCB // 8] = PRIVATE_BASE
        self.control_block[layout.VMCB_MSR_BITMAP // 8] = _MSR_BITMAP
        at = _MSR_BITMAP - PRIVATE_BASE
        self._private[at : at + _MSR_BITMAP_SIZE] = b"\xff" * _MSR_BITMAP_SIZE
        u32[layout.INTERCEPT_EXCEPTIONS // 4] = 0xFFFFFFFF
        for register in range(layout.LDTR + 1):
            at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
            u8[at : at + layout.SEGMENT_SIZE] = null_segment()
        self.intercept(())
        self.load_fpu(INITIAL_IMAGE)

    def _unexpected(self) -> None:
        raise EngineError("the engine reported an exit that nobody handles; run `pvemu doctor`")
