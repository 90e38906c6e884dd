"""A processor with a flat guest and no hypervisor: what tests of the processor alone run."""

import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

from guestkit import Image, assemble
from pvemu.cpu import layout
from pvemu.cpu.processor import ClockKind, Processor
from pvemu.cpu.segments import Descriptor
from pvemu.cpu.state_window import WindowKind
from pvemu.memory.ram import Ram

CODE: Final = 0x10000
DATA: Final = 0x30000
STACK: Final = 0x40000
#: A present page that may not be written, and one that is not there.
READ_ONLY: Final = 0x50000
ABSENT: Final = 0x60000
#: A page that leads to where no memory is.
NOWHERE: Final = 0x70000

_SIZE: Final = 1 << 20
_L4, _L3, _L2, _L1, _GDT = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
_USER, _READ_ONLY_USER = 7, 5
_BEYOND_RAM: Final = 0x8000_0000
_SEGMENTS: Final = {
    1: (0x19, 0x21, 0x00CFBB000000FFFF, 0x00CFB3000000FFFF),
    3: (0x2B, 0x33, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF),
}
RING3_CS, RING3_DS = 0x2B, 0x33


class Exit(NamedTuple):
    """What the handler of an exit saw."""

    number: int
    eip: int
    error_code: int


def assembled(source: str) -> Image:
    """Code for address CODE, without anything around it."""
    head = f'guest "bare", virt_base=0, paddr={CODE}, hypercall_page=none\nsection .text\nstart:\n'
    return assemble(head + source)


class BareGuest:
    """One processor, 1 MiB mapped to itself, flat segments. Every exit is recorded and ends the run.

    Attributes:
        seen: the exits so far.
        cpu: the processor; a test may put handlers of its own into `cpu.exits`.
    """

    def __init__(self, *, window: WindowKind = "live", clock: ClockKind = "auto") -> None:
        self.ram = Ram(_SIZE)
        self.cpu = Processor(self.ram.host_address, self.ram.size, window=window, clock=clock)
        self.seen: list[Exit] = []
        own = self.cpu.exits[:]
        self.cpu.exits[:] = [self._recording(number) for number in range(len(own))]
        for number, handler in enumerate(own):
            if handler != self.cpu._unexpected:
                self.cpu.exits[number] = handler
        self._map()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu.close()

    @property
    def registers(self) -> dict[str, int]:
        """The general registers and EIP by name."""
        u64 = self.cpu.window.u64
        names = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
        return {name: u64[number] & 0xFFFFFFFF for number, name in enumerate(names)} | {
            "eip": u64[layout.EIP // 8] & 0xFFFFFFFF
        }

    @property
    def ring(self) -> int:
        """The ring that the guest is in."""
        return self.cpu.window.u32[layout.HFLAGS // 4] & layout.HF_CPL

    def put(self, address: int, data: bytes) -> None:
        """Write memory as another domain would."""
        self.ram.u8[address : address + len(data)] = data

    def load(self, source: str, ring: int = 1) -> Image:
        """Put code at CODE, and the processor in front of it."""
        image = assembled(source)
        self.put(CODE, image.section_bytes(".text"))
        self.cpu.forget_code()
        self.enter(ring)
        return image

    def enter(self, ring: int, eip: int = CODE) -> None:
        """Load fresh registers: flat segments of a ring, an empty stack, EFLAGS 0x202."""
        window = self.cpu.window
        code, stack, code_descriptor, stack_descriptor = _SEGMENTS[ring]
        data = Descriptor.from_int(stack_descriptor).cached(stack)
        for register in (layout.ES, layout.DS):
            self.cpu.set_segment(register, data)
        self.cpu.set_ring(Descriptor.from_int(code_descriptor).cached(code), data)
        gdt = layout.SEGMENTS + layout.GDTR * layout.SEGMENT_SIZE
        window.u64[(gdt + layout.BASE) // 8] = _GDT
        window.u32[(gdt + layout.LIMIT) // 4] = 0xFFF
        window.u64[layout.EFLAGS // 8] = 0x202
        window.u64[layout.EIP // 8], window.u64[layout.RSP] = eip, STACK
        self.cpu.set_root(_L4)

    def run(self, source: str, ring: int = 1) -> Exit:
        """Run code to its first exit."""
        self.load(source, ring)
        self.cpu.run()
        return self.seen[-1]

    def _recording(self, number: int) -> Callable[[], None]:
        def record() -> None:
            window = self.cpu.window
            eip = window.u64[layout.EIP // 8]
            self.seen.append(Exit(number, eip, window.u32[layout.ERROR_CODE // 4]))
            self.cpu.stop()

        return record

    def _map(self) -> None:
        for table, entry in ((_L4, _L3), (_L3, _L2), (_L2, _L1)):
            struct.pack_into("<Q", self.ram.u8, table, entry | _USER)
        for page in range(_SIZE >> 12):
            address = page << 12
            entry = {READ_ONLY: address | _READ_ONLY_USER, ABSENT: 0, NOWHERE: _BEYOND_RAM | _USER}
            struct.pack_into("<Q", self.ram.u8, _L1 + page * 8, entry.get(address, address | _USER))
        for code, stack, code_descriptor, stack_descriptor in _SEGMENTS.values():
            struct.pack_into("<Q", self.ram.u8, _GDT + (code & ~7), code_descriptor)
            struct.pack_into("<Q", self.ram.u8, _GDT + (stack & ~7), stack_descriptor)
