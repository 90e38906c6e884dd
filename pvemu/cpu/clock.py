"""The machine's clock: it counts guest code, never host time, so the same run shows the same times.

The unit is the cycle. Guest code takes one cycle a byte; whoever handles an exit charges what it costs.
The same counter is the preemption timer: past its deadline the engine stops before the next block.
"""

import ctypes
import mmap
from typing import Final

from pvemu.cpu.binding import HOOK_BLOCK, HOOK_INTERRUPT, Engine
from pvemu.cpu.errors import EngineError
from pvemu.cpu.native_page import function_address

#: Cycles a second; one cycle is one nanosecond.
CYCLES_PER_SECOND: Final = 1_000_000_000

#: Cycles that an exit takes: about what one takes here in real time.
EXIT_COST: Final = 1000

_NEVER: Final = 1 << 62
_COUNT_LIMIT: Final = 1 << 31
#: Mean length of an instruction in bytes, for the clock that counts instructions.
_BYTES_PER_INSTRUCTION: Final = 4

# The block hook, called with (engine, address, size, data) in RDI RSI EDX RCX:
#   sub [rcx], rdx ; js 1f ; ret ; 1: jmp [rcx+8]
_COUNT_AND_STOP: Final = bytes.fromhex("482911 7801 c3 ff6108")

# The exit hook, called with (engine, exit number, data) in RDI ESI RDX:
#   sub qword [rdx], EXIT_COST ; mov rax, [rdx+16] ; mov dword [rax], 0 ; mov edi, esi ; jmp [rdx+24]
_CHARGE_AND_CALL: Final = bytes.fromhex(
    f"48812a{EXIT_COST.to_bytes(4, 'little').hex()} 488b4210 c70000000000 89f7 ff6218"
)
_EXIT_STUB: Final = 64


class Clock:
    """Counts down the cycles that are left until the deadline; past it the engine stops.

    An exit costs EXIT_COST, so that a guest that does nothing but trap reaches its deadline, too.
    """

    #: How many cycles are left, as a view of one number; below 0 the deadline has passed.
    left: memoryview
    #: Whether the engine works out the flags before every instruction. It keeps them where the operands of
    #: the last operation were, and after a fault only forgets to say so.
    computes_flags = False
    name: str

    def __init__(self) -> None:
        #: For native code: cycles left, the engine's stop function, what the exit stub clears, what it calls.
        self._memory = (ctypes.c_int64 * 4)(_NEVER)
        self.left = memoryview(self._memory).cast("B").cast("q")[:1]
        self._deadline = _NEVER

    @property
    def now(self) -> int:
        """Cycles since the machine was made."""
        return self._deadline - self.left[0]

    @now.setter
    def now(self, cycles: int) -> None:
        self.left[0] = self._deadline - cycles

    @property
    def deadline(self) -> int:
        """The cycle after which the engine stops."""
        return self._deadline

    @deadline.setter
    def deadline(self, cycles: int) -> None:
        cycles = min(cycles, _NEVER)
        self.left[0] += cycles - self._deadline
        self._deadline = cycles

    @property
    def expired(self) -> bool:
        """Whether the engine stops, or has stopped, because of the deadline."""
        return self.left[0] < 0

    def charge(self, cycles: int) -> None:
        """Let time pass that no guest code took."""
        self.left[0] -= cycles

    def run(self, engine: Engine, address: int) -> int:
        """Run the engine from a linear address until it is stopped; the library's status."""
        return engine.start(address)

    def fold(self) -> None:
        """Bring the count up to date within a run, where the engine does not keep it so."""

    def limit(self) -> None:
        """Within a run, make the engine heed a new deadline or charge, where it needs to be told."""


class BlockClock(Clock):
    """Nine bytes of native code, called by the engine at every block of guest code: 1 to 2 ns each.

    A second piece stands in front of the handler of exits. It charges them, clears the engine's mark of a
    software interrupt and drops the argument that nobody needs: in Python that takes 0.15 µs an exit.

    Raises:
        EngineError: this host gives no memory that is writable and executable.
    """

    name = "block"

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        try:
            self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError as refusal:
            raise EngineError(f"no executable page for the block clock: {refusal.strerror}") from refusal
        self._page[: len(_COUNT_AND_STOP)] = _COUNT_AND_STOP
        self._page[_EXIT_STUB : _EXIT_STUB + len(_CHARGE_AND_CALL)] = _CHARGE_AND_CALL
        self._memory[1] = engine.stop_function()
        self._code = ctypes.c_char.from_buffer(self._page)
        engine.hook(HOOK_BLOCK, ctypes.c_void_p(ctypes.addressof(self._code)), ctypes.byref(self._memory))

    def hook_exits(self, engine: Engine, callback: object, interrupt_mark: int) -> None:
        """Have a callback called with the number of each exit.

        Args:
            callback: made with binding.EXIT_CALLBACK; the caller keeps it alive.
            interrupt_mark: host address of the 32 bits that say "this was a software interrupt".
        """
        self._memory[2] = interrupt_mark
        self._memory[3] = function_address(callback)
        stub = ctypes.c_void_p(ctypes.addressof(self._code) + _EXIT_STUB)
        engine.hook(HOOK_INTERRUPT, stub, ctypes.byref(self._memory))


class CountClock(Clock):
    """The fallback: the engine's own instruction count, four to five times slower.

    The counter inside the engine advances while the guest runs; `fold` moves it into the clock at each
    exit. An instruction counts as `_BYTES_PER_INSTRUCTION` bytes, so times differ from the block clock's,
    but are the same in every run.

    Attributes:
        instructions: how many have run so far.

    Args:
        counter_address: host address of the engine's counter (see calibration.py).
    """

    name = "count"
    computes_flags = True

    def __init__(self, counter_address: int) -> None:
        super().__init__()
        self._counter = ctypes.c_uint64.from_address(counter_address)
        # The count at which the engine stops stands behind the counter.
        self._stop_at = ctypes.c_uint64.from_address(counter_address + 8)
        self._folded = 0
        self.instructions = 0

    def run(self, engine: Engine, address: int) -> int:
        """Run until stopped, or until the count that reaches the deadline is used up."""
        self._counter.value = self._folded = 0
        status = engine.start(address, self._instructions_left())
        self.fold()
        return status

    def fold(self) -> None:
        """Add the instructions run since the last call to the clock."""
        # The instruction before which the engine stops is in its count, and has not run.
        executed = min(self._counter.value, self._stop_at.value)
        self.instructions += executed - self._folded
        self.charge((executed - self._folded) * _BYTES_PER_INSTRUCTION)
        self._folded = executed

    def limit(self) -> None:
        """Move the count at which the engine stops to where the deadline is now."""
        # Past the deadline not one more: it might be the hypercall again that has just stopped because of it.
        self._stop_at.value = self._folded + (0 if self.expired else self._instructions_left())

    def _instructions_left(self) -> int:
        return min(max(self.left[0], 0) // _BYTES_PER_INSTRUCTION + 1, _COUNT_LIMIT)
