"""Random instructions by their encoding, each with a state in which its memory operand lies in the area."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hypothesis import assume
from hypothesis import strategies as st
from native_rig import AREA, SEGMENTS, State

from pvemu.cpu import flags, layout
from pvemu.cpu.laboratory import CODE

Draw = Callable[[Any], Any]

#: Where operands are put, the other ones of string instructions, and the stack: 64 KiB from the area's ends.
OPERAND: Final = AREA.start + 0x10000
OTHER: Final = AREA.start + 0x18000
STACK: Final = AREA.start + 0x20000

_INTERESTING: Final = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
WORD32: Final = st.sampled_from(_INTERESTING) | st.integers(0, 0xFFFFFFFF)
WORD64: Final = (
    WORD32 | st.sampled_from([1 << 63, (1 << 63) - 1, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)
)
_PREFIXES: Final = {
    layout.ES: 0x26,
    layout.CS: 0x2E,
    layout.SS: 0x36,
    layout.DS: 0x3E,
    layout.FS: 0x64,
    layout.GS: 0x65,
}
_CHANGEABLE: Final = flags.ARITHMETIC | flags.DF | flags.AC | flags.ID
#: The registers of 16-bit addresses by the rm field.
_PAIRS_16: Final = (
    (layout.RBX, layout.RSI),
    (layout.RBX, layout.RDI),
    (layout.RBP, layout.RSI),
    (layout.RBP, layout.RDI),
    (layout.RSI, None),
    (layout.RDI, None),
    (layout.RBP, None),
    (layout.RBX, None),
)
_LOW: Final = 0xFFFFFFFF


class Form(NamedTuple):
    """How an instruction is encoded.

    `digit` is what the reg field holds; None: a register. `immediate` is "" or "b" (a byte), "w" (two) or
    "z" (as many as the operand, four at most). `width` is "v" when prefixes choose the operand's size, "d"
    when REX.W does, "q" when that has to be there, else the number of its bytes. `kind` is "modrm", "moffs",
    "vector", "string", "bits" (a bit number in a register) or "stack" (with a stack beside the operand).
    """

    name: str
    opcode: bytes
    digit: int | None = None
    immediate: str = ""
    width: str | int = "v"
    kind: str = "modrm"
    prefix: bytes = b""
    modes: tuple[int, ...] = (16, 32, 64)
    has_memory: bool = True
    #: Whether the engine gets addresses right that are relative to the next instruction.
    may_be_relative: bool = True


@dataclass(repr=False)
class Sample:
    """An instruction and what it starts from."""

    form: Form
    code: bytes
    state: State

    def __repr__(self) -> str:
        return f"{self.form.name}: {self.code.hex(' ')} in {self.state}"


class _Builder:
    """One draw of an instruction."""

    def __init__(self, draw: Draw, form: Form, bits: int) -> None:
        self.draw, self.form, self.bits = draw, form, bits
        word = WORD64 if bits == 64 else WORD32
        number = 16 if bits == 64 else 8
        self.registers = draw(st.lists(word, min_size=number, max_size=number)) + [0] * (16 - number)
        self.stack_bits = 64 if bits == 64 else draw(st.sampled_from([16, 32]))
        self.bases = {segment: draw(WORD32) for segment in SEGMENTS}
        # The engine does not wrap the sum of the code segment's base and EIP.
        self.bases[layout.CS] = CODE if bits == 16 else draw(st.integers(0, CODE))
        self.address_size = bits // 8
        self.operand_prefix = form.width == "v" and draw(st.booleans())
        self.rex = 0
        #: Whether the operand could be put near its place only.
        self.is_approximate = False
        self.address_prefix = draw(st.integers(0, 3)) == 0
        if self.address_prefix:
            self.address_size = {16: 4, 32: 2, 64: 4}[bits]
        choices = [None, None, None, *SEGMENTS]
        if self.address_size == 2 or form.kind in ("string", "moffs"):
            choices.remove(layout.CS)
        self.override = draw(st.sampled_from(choices))
        self.wide = form.width == "q" or (bits == 64 and form.width in ("v", "d") and draw(st.booleans()))
        self.has_rex = bits == 64 and (self.wide or draw(st.booleans()))

    @property
    def operand_size(self) -> int:
        if isinstance(self.form.width, int):
            return self.form.width
        if self.wide:
            return 8
        return 2 if (self.bits == 16) != self.operand_prefix else 4

    def build(self) -> Sample:
        body = getattr(self, f"_{self.form.kind}")()
        code = self._head() + body
        memory = self._memory()
        eflags = self.draw(st.integers(0, _CHANGEABLE)) & _CHANGEABLE | flags.IF | flags.FIXED
        state = State(self.registers, eflags, memory, self.bits, self.stack_bits, self.bases)
        if self.form.kind == "vector":
            number = len(self.registers) if self.bits == 64 else 8
            found = self.draw(st.binary(min_size=16, max_size=16))
            state.vectors = [bytes(byte ^ at for byte in found) for at in range(number)]
            state.vectors += [bytes(16)] * (16 - number)
        return Sample(self.form, code, state)

    def _head(self) -> bytes:
        prefixes = b""
        if self.operand_prefix:
            prefixes += b"\x66"
        if self.address_prefix:
            prefixes += b"\x67"
        if self.override is not None:
            prefixes += bytes([_PREFIXES[self.override]])
        prefixes += self.form.prefix
        if self.has_rex:
            prefixes += bytes([0x40 | self.wide << 3 | self.rex])
        return prefixes

    def _memory(self) -> bytes:
        """Few different bytes, so that comparisons find equal ones; random ones where operands lie."""
        pattern = self.draw(st.binary(min_size=4, max_size=40))
        memory = bytearray(pattern * (len(AREA) // len(pattern) + 1))[: len(AREA)]
        for place in (OPERAND, OTHER):
            at = place - AREA.start
            memory[at - 64 : at + 64] = (
                self.draw(st.sampled_from([b"\0", b"\xff", b"\x80", pattern[:2]])) * 128
            )
            memory = memory[: len(AREA)]
        special = self.draw(st.none() | st.sampled_from(["accumulator", "pair"]))
        at = OPERAND - AREA.start
        if special == "accumulator":
            memory[at : at + 8] = self.registers[0].to_bytes(8, "little")
        if special == "pair":
            half = 8 if self.wide else 4
            for index, number in enumerate((layout.RAX, layout.RDX)):
                raw = self.registers[number].to_bytes(8, "little")[:half]
                memory[at + half * index : at + half * (index + 1)] = raw
        return bytes(memory[: len(AREA)]).ljust(len(AREA), b"\0")

    # --- kinds of encodings ----------------------------------------------------------------------

    def _immediate(self) -> bytes:
        size = {"": 0, "b": 1, "w": 2, "z": min(self.operand_size, 4)}[self.form.immediate]
        return bytes(self.draw(st.binary(min_size=size, max_size=size)))

    def _modrm(self) -> bytes:
        digit = self.form.digit
        register = self.draw(st.integers(0, 15 if self.has_rex else 7)) if digit is None else digit
        self.rex |= register >> 3 << 2
        immediate = self._immediate()
        return self.form.opcode + self._address(register & 7, len(immediate)) + immediate

    def _vector(self) -> bytes:
        body = self._modrm()
        # Every access is aligned: the engine would not mind if it were not.
        assume(not self.is_approximate)
        return body

    def _bits(self) -> bytes:
        """A bit number in a register that stays within the area."""
        register = self.draw(st.integers(0, 15 if self.has_rex else 7))
        self.rex |= register >> 3 << 2
        bits = 8 * self.operand_size
        number = self.draw(st.integers(-0x8000, 0x7FFF)) & (1 << bits) - 1
        self.registers[register] = self.registers[register] & ~((1 << bits) - 1) | number
        body = self.form.opcode + self._address(register & 7, 0)
        assume(self.registers[register] & (1 << bits) - 1 == number)
        return body

    def _address(self, reg: int, behind: int) -> bytes:
        if self.address_size == 2:
            return self._address_16(reg)
        mod, rm = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 7))
        base: int | None = rm
        index, scale, sib = None, 0, b""
        if rm == 4:
            base, index = self.draw(st.integers(0, 15)), self.draw(st.integers(0, 15))
            scale = self.draw(st.integers(0, 3))
            if not self.has_rex:
                base, index = base & 7, index & 7
            self.rex |= base >> 3 | index >> 3 << 1
            sib = bytes([scale << 6 | (index & 7) << 3 | base & 7])
            if index == 4:
                index = None
        elif self.has_rex and self.draw(st.booleans()):
            base = rm + 8
            self.rex |= 1
        on_stack = self.form.kind == "stack" and base == layout.RSP
        if on_stack:
            mod, index, sib = 1, None, bytes([4 << 3 | 4])
            self.rex &= ~2
        relative = False
        if mod == 0 and (rm == 5 or (rm == 4 and base is not None and base & 7 == 5)):
            base, relative = None, rm == 5 and self.bits == 64
            assume(self.form.may_be_relative or not relative)
        size = {0: 0 if base is not None else 4, 1: 1, 2: 4}[mod]
        displacement = int.from_bytes(
            self.draw(st.binary(min_size=size, max_size=size)), "little", signed=True
        )
        stack = base in (layout.RSP, layout.RBP)
        segment = self._segment(layout.SS if stack else layout.DS)
        if relative:
            displacement = self._reach(CODE + self._length(behind, 1 + 4), segment)
        elif base is None and (self.bits == 64 or segment == layout.CS):
            if index is not None:
                self.registers[index] = self.draw(st.integers(0, 0x1000))
            displacement = self._reach((self.registers[index] if index is not None else 0) << scale, segment)
        elif not on_stack or segment != (layout.DS if self.bits == 64 else layout.SS):
            self._solve(base, index, scale, displacement, segment)
        return bytes([mod << 6 | reg << 3 | rm]) + sib + (displacement & _LOW).to_bytes(4, "little")[:size]

    def _length(self, behind: int, address: int) -> int:
        return len(self._head()) + len(self.form.opcode) + address + behind

    def _reach(self, offset: int, segment: int) -> int:
        """The displacement that leads from an offset to the operand."""
        if segment in (layout.FS, layout.GS):
            displacement = self.draw(st.integers(-(1 << 31), (1 << 31) - 1))
            width = (1 << 8 * self.address_size) - 1
            self.bases[segment] = OPERAND - (offset + displacement & width) & (1 << 64) - 1
            return int(displacement)
        return OPERAND - self._fixed_base(segment) - offset

    def _fixed_base(self, segment: int) -> int:
        """The base of a segment that can't be put where the operand wants it."""
        return 0 if self.bits == 64 else self.bases[segment]

    def _solve(
        self, base: int | None, index: int | None, scale: int, displacement: int, segment: int
    ) -> None:
        """Choose the segment's base, or in 64-bit mode a register, so that the operand is reached."""
        width = (1 << 8 * self.address_size) - 1
        if segment == layout.CS or (self.bits == 64 and segment not in (layout.FS, layout.GS)):
            assert base is not None
            wanted = OPERAND - self._fixed_base(segment) - displacement & width
            if base == index:
                # 1 + 2**scale times the register: only an address that this divides can be reached.
                self.registers[base] = wanted // (1 + (1 << scale))
                self.is_approximate = True
                return
            part = self.registers[index] << scale if index is not None else 0
            low = wanted - part & width
            self.registers[base] = low | self.registers[base] & ~width & (1 << 64) - 1
            return
        offset = displacement + (self.registers[base] if base is not None else 0)
        offset += self.registers[index] << scale if index is not None else 0
        self.bases[segment] = OPERAND - (offset & width) & ((1 << 64) - 1 if self.bits == 64 else _LOW)

    def _address_16(self, reg: int) -> bytes:
        mod, rm = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 7))
        base, index = _PAIRS_16[rm]
        size = mod
        first: int | None = base
        if mod == 0 and rm == 6:
            first, size = None, 2
        displacement = int.from_bytes(
            self.draw(st.binary(min_size=size, max_size=size)), "little", signed=True
        )
        segment = self._segment(layout.SS if first == layout.RBP else layout.DS)
        self._solve(first, index, 0, displacement, segment)
        return bytes([mod << 6 | reg << 3 | rm]) + (displacement & 0xFFFF).to_bytes(2, "little")[:size]

    def _segment(self, default: int) -> int:
        if self.bits == 64 and self.override not in (layout.FS, layout.GS):
            return layout.DS
        return default if self.override is None else self.override

    def _moffs(self) -> bytes:
        segment, size = self._segment(layout.DS), self.address_size
        if self.bits == 64 and segment not in (layout.FS, layout.GS):
            offset = OPERAND
        else:
            offset = self.draw(st.integers(0, (1 << 8 * size) - 1))
            self.bases[segment] = OPERAND - offset & ((1 << 64) - 1 if self.bits == 64 else _LOW)
        return self.form.opcode + offset.to_bytes(size, "little")

    def _string(self) -> bytes:
        size = self.address_size
        width = (1 << 8 * size) - 1
        # Without a wrap of 16 bits, and now and then so near that the operands overlap.
        first = self.draw(st.integers(0x8000, 0xA000)) if size == 2 else self.draw(WORD32)
        other = OPERAND + self.draw(st.integers(-16, 16)) if self.draw(st.booleans()) else OTHER
        source = self._segment(layout.DS)
        if self.bits == 64:
            source_base = self.bases[source] if source in (layout.FS, layout.GS) else 0
            target_base, first = 0, OPERAND
            if size == 4:
                self.bases[source] = source_base = 0
        else:
            target_base = self.bases[layout.ES] = OPERAND - first & _LOW
            if source != layout.ES:
                second = self.draw(st.integers(0x8000, 0xA000)) if size == 2 else self.draw(WORD32)
                self.bases[source] = other - second & _LOW
            source_base = self.bases[source]
            if size == 2 and source == layout.ES:
                other = OPERAND + self.draw(st.integers(-0x1000, 0x1000))
        values = {
            layout.RDI: OPERAND - target_base,
            layout.RSI: other - source_base,
            layout.RCX: self.draw(st.integers(0, 20)),
        }
        for number, value in values.items():
            kept = self.registers[number] & ~width
            self.registers[number] = value & width & (1 << 64) - 1 | kept
        return self.form.opcode

    def _stack(self) -> bytes:
        if self.stack_bits == 16:
            self.bases[layout.SS] = STACK - self.draw(st.integers(0x2000, 0xE000))
        self._place_stack()
        body = self._modrm() if self.form.has_memory else self.form.opcode + self._immediate()
        self._place_stack()  # wherever the operand has put the segment
        if self.registers[layout.RSP] >> self.stack_bits:
            self.stack_bits = 32
        return body

    def _place_stack(self) -> None:
        base = 0 if self.bits == 64 else self.bases[layout.SS]
        self.registers[layout.RSP] = STACK - base & _LOW


@st.composite
def samples(draw: Draw, form: Form) -> Sample:
    """An instruction of a form, in one of its modes."""
    return _Builder(draw, form, draw(st.sampled_from(form.modes))).build()
