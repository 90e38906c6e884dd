"""One instruction on its way to a closure: its operands become functions over the state window.

Nothing of the instruction is looked at any more when it runs: which register, which width and which segment
are settled here, once for each instruction of a guest that is emulated again and again.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.cpu import flags, layout
from pvemu.cpu.decode import Instruction, Operand
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.emulate.memory import Memory, Unemulated
from pvemu.hypervisor.emulate.segmentation import Linear, checked_linear, plain_linear

#: Carries out an instruction; true when a repeat prefix makes it come again.
Run = Callable[[Memory], bool]
#: Where an operand is, or what its value is, now.
Get = Callable[[], int]
Put = Callable[[int], None]

_EIP: Final = layout.EIP // 8
_LOW: Final = 0xFFFFFFFF
ALL: Final = (1 << 64) - 1


class Mode(NamedTuple):
    """The processor's mode as far as instructions differ by it.

    `bits` and `stack_bits` are 16, 32 or 64; `is_protected` is false in real and virtual-8086 mode, where
    segments have limits but no rights. Without `is_checked` segments have neither.
    """

    bits: int
    stack_bits: int
    is_protected: bool
    is_checked: bool


def mask(size: int) -> int:
    """All ones in `size` bytes."""
    return (1 << 8 * size) - 1


class Translation:
    """An instruction, the mode it runs in, and the functions that its operands become."""

    def __init__(self, window: StateWindow, mode: Mode, instruction: Instruction) -> None:
        self.window, self.mode, self.instruction = window, mode, instruction
        self.operands = instruction.operands

    def unemulated(self) -> Unemulated:
        """The refusal of this instruction."""
        kinds = ", ".join(operand.kind for operand in self.operands)
        return Unemulated(f"{self.instruction.mnemonic} {kinds}".rstrip())

    # --- registers and immediates ----------------------------------------------------------------

    def value(self, operand: Operand, size: int) -> Get:
        """What a register or an immediate holds, as `size` bytes without a sign."""
        if operand.kind == "general":
            return register(self.window, operand.number, size, high=operand.high)
        if operand.kind == "segment":
            u32, at = self.window.u32, (layout.SEGMENTS + operand.number * layout.SEGMENT_SIZE) // 4
            return lambda: u32[at] & 0xFFFF
        if operand.kind == "immediate":
            number = operand.number & mask(size)
            return lambda: number
        raise self.unemulated()

    def raw(self, operand: Operand, size: int) -> Callable[[], bytes]:
        """The same as the bytes that a store of it writes."""
        if operand.kind == "general":
            u8, start = self.window.u8, 8 * operand.number + operand.high
            end = start + size
            return lambda: u8[start:end].tobytes()
        value = self.value(operand, size)
        if operand.kind == "immediate":
            data = value().to_bytes(size, "little")
            return lambda: data
        return lambda: value().to_bytes(size, "little")

    def put(self, operand: Operand) -> Put:
        """Sets a general register as an instruction does: 32 bits clear the upper half of 64."""
        if operand.kind != "general":
            raise self.unemulated()
        return set_register(self.window, operand.number, operand.size, high=operand.high)

    # --- memory ----------------------------------------------------------------------------------

    def load(self, operand: Operand, size: int) -> Callable[[Memory], int]:
        """The value of any operand: of memory, a register, an immediate."""
        if operand.kind != "memory":
            value = self.value(operand, size)
            return lambda memory: value()
        place = self.place(operand, size)
        return lambda memory: int.from_bytes(memory.read(place(), size), "little")

    def place(self, operand: Operand, size: int, *, write: bool = False) -> Get:
        """The linear address of a memory operand, checked for an access of `size` bytes."""
        if operand.kind != "memory":
            raise self.unemulated()
        if not self.mode.is_checked and self.instruction.address_size == 4 and self.mode.bits == 32:
            return self._flat_place(operand)
        offset, linear = self.offset(operand), self.linear(operand.segment, size, write=write)
        return lambda: linear(offset())

    def linear(self, segment: int, size: int, *, write: bool = False) -> Linear:
        """From an offset in a segment to a linear address, checked for an access of `size` bytes."""
        if not self.mode.is_checked:
            return plain_linear(self.window, self.mode.bits, segment)
        return checked_linear(
            self.window, self.mode.bits, segment, size, write=write, rights=self.mode.is_protected
        )

    def offset(self, operand: Operand) -> Get:
        """The offset of a memory operand in its segment."""
        u64, displacement = self.window.u64, operand.displacement
        base, index, scale = operand.base, operand.index_register, operand.scale
        width = mask(self.instruction.address_size)
        if operand.relative:
            displacement += self.instruction.length
            return lambda: u64[_EIP] + displacement & width
        if base is not None and index is not None:
            return lambda: u64[base] + u64[index] * scale + displacement & width
        if base is not None:
            return lambda: u64[base] + displacement & width
        if index is not None:
            return lambda: u64[index] * scale + displacement & width
        constant = displacement & width
        return lambda: constant

    def _flat_place(self, operand: Operand) -> Get:
        """The common case of PV kernels in one function: stores to page tables are counted in millions."""
        u32, displacement, scale = self.window.u32, operand.displacement, operand.scale
        segment = (layout.SEGMENTS + operand.segment * layout.SEGMENT_SIZE + layout.BASE) // 4
        if operand.base is None and operand.index_register is None:
            return lambda: displacement + u32[segment] & _LOW
        if operand.index_register is None:
            base = 2 * (operand.base or 0)
            return lambda: u32[base] + displacement + u32[segment] & _LOW
        index = 2 * operand.index_register
        if operand.base is None:
            return lambda: u32[index] * scale + displacement + u32[segment] & _LOW
        base = 2 * operand.base
        return lambda: u32[base] + u32[index] * scale + displacement + u32[segment] & _LOW

    # --- flags -----------------------------------------------------------------------------------

    def eflags(self) -> Get:
        """EFLAGS as they are now."""
        window = self.window
        return lambda: flags.read_eflags(window)

    def set_flag(self, flag: int) -> Callable[[object], None]:
        """Sets one flag to whether something is true, and leaves the others."""
        window = self.window

        def put(value: object) -> None:
            others = flags.read_eflags(window) & ~flag
            flags.write_eflags(window, others | flag if value else others)

        return put


def register(window: StateWindow, number: int, size: int, *, high: bool = False) -> Get:
    """Reads `size` bytes of a general register; `high` is its second byte."""
    u8, u32, u64 = window.u8, window.u32, window.u64
    if size == 1:
        byte = 8 * number + high
        return lambda: u8[byte]
    word = 2 * number
    if size == 2:
        return lambda: u32[word] & 0xFFFF
    if size == 4:
        return lambda: u32[word]
    return lambda: u64[number]


def set_register(window: StateWindow, number: int, size: int, *, high: bool = False) -> Put:
    """Writes `size` bytes of a general register; four of them clear the upper four."""
    u8, u64 = window.u8, window.u64
    keep = 0 if size >= 4 else ALL & ~mask(size)

    def put_byte(value: int) -> None:
        u8[8 * number + high] = value

    def put(value: int) -> None:
        u64[number] = u64[number] & keep | value

    return put_byte if size == 1 else put
