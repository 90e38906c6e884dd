"""From an instruction's bytes to its execution: what is known, in which mode, and stepping over it."""

from dataclasses import dataclass
from typing import Final

from pvemu.cpu import flags, layout
from pvemu.cpu.decode import Decoder, Instruction
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.emulate.arithmetic import ARITHMETIC
from pvemu.hypervisor.emulate.bits import BITS
from pvemu.hypervisor.emulate.branches import BRANCHES
from pvemu.hypervisor.emulate.memory import Memory, NoInstruction
from pvemu.hypervisor.emulate.moves import MOVES, Translate
from pvemu.hypervisor.emulate.products import PRODUCTS
from pvemu.hypervisor.emulate.scans import SCANS
from pvemu.hypervisor.emulate.shifts import SHIFTS
from pvemu.hypervisor.emulate.stack import STACK
from pvemu.hypervisor.emulate.strings import STRINGS
from pvemu.hypervisor.emulate.translation import Mode, Run, Translation
from pvemu.hypervisor.emulate.vectors import VECTORS

#: Iterations of a repeated string instruction in one step, in which no interrupt is looked at.
MOST_ITERATIONS: Final = 64
_CACHE_LIMIT: Final = 4096
_LOW: Final = 0xFFFFFFFF
_ALL: Final = (1 << 64) - 1

_EIP, _EFLAGS, _HFLAGS = layout.EIP // 8, layout.EFLAGS // 8, layout.HFLAGS // 4
_CS_BASE = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.BASE) // 4
_OF_MODE: Final = layout.HF_PE | layout.HF_CS32 | layout.HF_SS32 | layout.HF_CS64

#: What is known, by mnemonic.
_TRANSLATIONS: Final[dict[str, Translate]] = {
    **MOVES,
    **ARITHMETIC,
    **PRODUCTS,
    **BITS,
    **SCANS,
    **SHIFTS,
    **STRINGS,
    **STACK,
    **BRANCHES,
}
#: Instructions that lock the bus by themselves.
_EXCHANGES: Final = frozenset({"xchg", "cmpxchg", "cmpxchg8b", "cmpxchg16b"})


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An instruction that is ready to run, again and again.

    `run` leaves EIP alone, and is true when a repeat prefix makes the instruction come again. `is_exchange`
    is set for XCHG, CMPXCHG and whatever has a LOCK prefix.
    """

    run: Run
    length: int
    is_exchange: bool


def translate(window: StateWindow, mode: Mode, instruction: Instruction) -> Operation:
    """Make an instruction ready to run on a window.

    Raises:
        Unemulated: it is not known, or not in this form.
    """
    translation = Translation(window, mode, instruction)
    # MOVSD and CMPSD are two instructions each, which their operands tell apart.
    of_vectors = any(operand.kind == "vector" for operand in instruction.operands)
    make = (VECTORS if of_vectors else _TRANSLATIONS).get(instruction.mnemonic)
    if make is None:
        raise translation.unemulated()
    is_exchange = instruction.mnemonic in _EXCHANGES or "lock" in instruction.prefixes
    return Operation(make(translation), instruction.length, is_exchange)


class _ModeOperations:
    """The operations of one mode, by the bytes that they were decoded from."""

    def __init__(self, window: StateWindow, mode: Mode) -> None:
        self._window, self._mode, self._decoder = window, mode, Decoder(mode.bits)
        self._cache: dict[bytes, Operation] = {}

    def __call__(self, code: bytes) -> Operation:
        operation = self._cache.get(code)
        if operation is None:
            instruction = self._decoder.decode(0, code)
            if instruction is None:
                raise NoInstruction(f"the bytes {code.hex(' ')}")
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            operation = self._cache[code] = translate(self._window, self._mode, instruction)
        return operation


class Emulator:
    """Carries out single instructions of the vCPU that is loaded, in whatever mode it is.

    Attributes:
        iterations: how many of a string instruction the last step has begun; 1 for others.
    """

    def __init__(self, window: StateWindow) -> None:
        self._window = window
        self.iterations = 1
        self._modes: dict[int, _ModeOperations] = {}

    def instruction_address(self) -> int:
        """The linear address of the instruction at EIP."""
        u32, u64 = self._window.u32, self._window.u64
        if u32[_HFLAGS] & layout.HF_CS64:
            return u64[_EIP]
        return u64[_EIP] + u32[_CS_BASE] & _LOW

    def step(self, memory: Memory, code: bytes) -> bool:
        """Carry out the instruction at EIP.

        Args:
            memory: where it loads and stores.
            code: the bytes at EIP, 15 of them or as many as can be fetched.

        Returns:
            Whether TF was set, so that a single-step trap is due; of a string instruction after an iteration.

        Raises:
            Unemulated: the instruction is not known.
            InstructionFault: an exception for the guest.
            Exception: whatever the memory raises.
        """
        u32, u64 = self._window.u32, self._window.u64
        rest, self.iterations = u64[_EFLAGS], 1
        run_mode = u32[_HFLAGS] & _OF_MODE | rest & flags.VM
        operations = self._modes.get(run_mode)
        if operations is None:
            operations = self._modes[run_mode] = _ModeOperations(self._window, _mode(run_mode))
        operation = operations(code)
        steps = bool(rest & flags.TF)
        for self.iterations in range(1, 2 if steps else MOST_ITERATIONS + 1):
            if not operation.run(memory):
                width = _ALL if run_mode & layout.HF_CS64 else _LOW
                u64[_EIP] = u64[_EIP] + operation.length & width
                break
        u64[_EFLAGS] &= ~flags.RF
        u32[_HFLAGS] &= ~layout.HF_INHIBIT_IRQ
        return steps


def _mode(run_mode: int) -> Mode:
    """From the engine's flags; virtual-8086 mode is a bit of EFLAGS."""
    protected = bool(run_mode & layout.HF_PE) and not run_mode & flags.VM
    if run_mode & layout.HF_CS64:
        return Mode(64, 64, protected, is_checked=True)
    bits = 32 if run_mode & layout.HF_CS32 else 16
    return Mode(bits, 32 if run_mode & layout.HF_SS32 else 16, protected, is_checked=True)
