"""One instruction, carried out twice from the same state: by the engine and by the emulator."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from guestkit import assemble
from pvemu.cpu import exits, flags, layout
from pvemu.cpu.laboratory import CODE, Exit, Laboratory
from pvemu.hypervisor.emulate import Emulator, InstructionFault, Memory

#: Memory that instructions may use; everything in it is compared.
AREA: Final = range(0x20000, 0x50000)
_STOP: Final = b"\xcd\x80"
_STOPPED: Final = 0x80
#: Of writable data: the engine takes the mode from its own flags, and rights are tested elsewhere.
_CODE_ATTRIBUTES: Final = {16: 0x000FF300, 32: 0x00CFF300, 64: 0x00AFF300}
_DATA_ATTRIBUTES: Final = {16: 0x008FF300, 32: 0x00CFF300, 64: 0x00CFF300}
_HFLAGS_OF_MODE: Final = layout.HF_CS32 | layout.HF_SS32 | layout.HF_CS64 | layout.HF_ADDSEG
_LOW: Final = 0xFFFFFFFF
SEGMENTS: Final = (layout.ES, layout.CS, layout.SS, layout.DS, layout.FS, layout.GS)


@dataclass(repr=False)
class State:
    """What an instruction starts from, and what it leaves behind."""

    registers: list[int]
    eflags: int
    memory: bytes
    bits: int = 32
    stack_bits: int = 32
    bases: dict[int, int] = field(default_factory=dict)
    #: XMM0 to XMM15.
    vectors: list[bytes] = field(default_factory=lambda: [bytes(16)] * 16)
    #: Bytes that have been executed.
    passed: int = 0
    #: The vector of the exception that came instead.
    fault: int | None = None

    def __repr__(self) -> str:
        registers = " ".join(f"{value:x}" for value in self.registers)
        bases = " ".join(f"{value:x}" for value in self.bases.values())
        return f"{self.bits} bits, registers {registers}, segments at {bases}, EFLAGS {self.eflags:x}"


def assembled(source: str, bits: int = 32) -> bytes:
    """The bytes of an instruction."""
    head = (
        f'guest "bare", virt_base=0, paddr={CODE}, hypercall_page=none\nbits {bits}\nsection .text\nstart:\n'
    )
    return assemble(head + source).section_bytes(".text")


class OutsideArea(Exception):
    """An access where the rig maps nothing."""


class AreaMemory(Memory):
    """A copy of the area as an emulated instruction sees it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)

    def read(self, address: int, size: int) -> bytes:
        at = self._inside(address, size)
        return bytes(self.data[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        at = self._inside(address, len(data))
        self.data[at : at + len(data)] = data

    def _inside(self, address: int, size: int) -> int:
        if address not in AREA or address + size - 1 not in AREA:
            raise OutsideArea(f"0x{address:x}, {size} bytes")
        return address - AREA.start


class NativeRig(Laboratory):
    """A laboratory whose guest is in ring 3, in any mode, with segments of any base."""

    def native(self, code: bytes, state: State) -> State:
        """What the engine makes of an instruction."""
        self.memory[AREA.start : AREA.stop] = state.memory
        self.memory[CODE : CODE + len(code) + 2] = code + _STOP
        self.engine.flush_code()
        self.prepare(state)
        self.exit = None
        self.engine.start(self.window.u64[layout.EIP // 8])
        found: Exit | None = self.exit
        assert found is not None
        after = self.state(state, self.memory[AREA.start : AREA.stop])
        if found.number == _STOPPED:
            after.passed -= len(_STOP)
        else:
            after.fault = found.number - exits.EXCEPTION
        return after

    def emulated(self, code: bytes, state: State) -> State:
        """What the emulator makes of it, going on until the instruction is passed."""
        self.prepare(state)
        emulator, memory = Emulator(self.window), AreaMemory(state.memory)
        start = emulator.instruction_address()
        assert start == CODE
        fault = None
        while emulator.instruction_address() == start and fault is None:
            try:
                emulator.step(memory, code.ljust(15, b"\x90"))
            except InstructionFault as raised:
                fault = raised.vector
            except OutsideArea:
                fault = exits.PF
        after = self.state(state, bytes(memory.data))
        after.fault = fault
        return after

    def prepare(self, state: State) -> None:
        """Put a state into the window; the code is at linear address CODE."""
        self._enter(3, 0)
        u32, u64 = self.window.u32, self.window.u64
        for number, value in enumerate(state.registers):
            u64[number] = value
        for number, vector in enumerate(state.vectors):
            self.window.u8[_vector(number)] = vector
        for segment in SEGMENTS:
            at = layout.SEGMENTS + segment * layout.SEGMENT_SIZE
            base = state.bases.get(segment, 0)
            if state.bits != 64 or segment in (layout.FS, layout.GS):
                u64[(at + layout.BASE) // 8] = base
            u32[(at + layout.LIMIT) // 4] = _LOW
            is_code = segment == layout.CS
            u32[(at + layout.ATTRIBUTES) // 4] = (
                _CODE_ATTRIBUTES[state.bits] if is_code else _DATA_ATTRIBUTES[state.stack_bits]
            )
        mode = layout.HF_ADDSEG if state.bits != 64 else layout.HF_CS64
        mode |= layout.HF_CS32 if state.bits != 16 else 0
        mode |= layout.HF_SS32 if state.stack_bits != 16 else 0
        u32[layout.HFLAGS // 4] = u32[layout.HFLAGS // 4] & ~_HFLAGS_OF_MODE | mode
        u64[layout.EIP // 8] = self._first_eip(state)
        flags.write_eflags(self.window, state.eflags)
        self.whole_flags()

    def whole_flags(self) -> None:
        """A run takes all flags from EFLAGS."""
        flags.store_whole(self.window)
        self.window.store()

    def state(self, before: State, memory: bytes) -> State:
        """What the window holds now."""
        passed = self.window.u64[layout.EIP // 8] - self._first_eip(before)
        return State(
            [self.window.u64[number] for number in range(16)],
            flags.read_eflags(self.window),
            memory,
            before.bits,
            before.stack_bits,
            before.bases,
            [bytes(self.window.u8[_vector(number)]) for number in range(16)],
            passed & _LOW,
        )

    @staticmethod
    def _first_eip(state: State) -> int:
        base = 0 if state.bits == 64 else state.bases.get(layout.CS, 0)
        return CODE - base & _LOW


def _vector(number: int) -> slice:
    at = layout.XMM + number * layout.XMM_SIZE
    return slice(at, at + 16)


def difference(native: State, emulated: State, ignored_flags: int = 0) -> list[str]:
    """What differs, in words; nothing when all is well."""
    found = [
        f"register {number}: engine {one:x}, emulator {other:x}"
        for number, (one, other) in enumerate(zip(native.registers, emulated.registers, strict=True))
        if one != other
    ]
    if native.vectors != emulated.vectors:
        engine, emulator = ([vector.hex() for vector in state.vectors] for state in (native, emulated))
        found.append(f"vector registers: engine {engine}, emulator {emulator}")
    if (native.eflags ^ emulated.eflags) & ~ignored_flags:
        found.append(f"EFLAGS: engine {native.eflags:x}, emulator {emulated.eflags:x}")
    if (native.passed, native.fault) != (emulated.passed, emulated.fault):
        ends = [(state.passed, state.fault) for state in (native, emulated)]
        found.append(f"(bytes on, exception): engine {ends[0]}, emulator {ends[1]}")
    if native.memory != emulated.memory:
        pairs: Sequence[tuple[int, int]] = list(zip(native.memory, emulated.memory, strict=True))
        at = next(at for at, (one, other) in enumerate(pairs) if one != other)
        one, other = native.memory[at : at + 16].hex(), emulated.memory[at : at + 16].hex()
        found.append(f"memory at 0x{AREA.start + at:x}: engine {one}, emulator {other}")
    return found
