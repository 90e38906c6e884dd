"""A scratch engine with a few pages of memory, on which the facts about the engine are tried out."""

import ctypes
import mmap
import struct
from pathlib import Path
from typing import Final

from pvemu.cpu import binding, layout
from pvemu.cpu.binding import Engine
from pvemu.cpu.segments import Descriptor
from pvemu.cpu.state_window import WINDOWS, StateWindow, WindowKind

_MEMORY: Final = 1 << 20
_L4, _L3, _L2, _L1, _GDT, _VMCB = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000
_PRESENT_WRITABLE_USER: Final = 7

CODE: Final = 0x10000
STACK: Final = 0x20000
#: A linear address without a translation.
UNMAPPED: Final = 0x7FFF0000

#: Ring -> (code selector, stack selector, code descriptor, stack descriptor): flat 4 GiB segments.
_FLAT: Final = {
    0: (0x08, 0x10, 0x00CF9B000000FFFF, 0x00CF93000000FFFF),
    1: (0x19, 0x21, 0x00CFBB000000FFFF, 0x00CFB3000000FFFF),
    3: (0x2B, 0x33, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF),
}


class Exit:
    """What was seen at an exit."""

    def __init__(self, number: int, window: StateWindow, vmcb: memoryview) -> None:
        self.number = number
        self.eip = window.u64[layout.EIP // 8]
        self.error_code = window.u32[layout.ERROR_CODE // 4]
        self.was_int = window.u32[layout.EXCEPTION_IS_INT // 4]
        self.fault_address = vmcb[layout.VMCB_EXIT_INFO_2 // 8]

    def __repr__(self) -> str:
        return f"exit 0x{self.number:x}, EIP 0x{self.eip:x}, error code 0x{self.error_code:x}"


class Laboratory:
    """Long mode, identity-mapped first MiB, flat segments; `run` executes code up to its first exit.

    Args:
        window: the kind of window through which the state is set and seen.

    Raises:
        EngineError: the engine has no such window.
    """

    def __init__(self, window: WindowKind = "live") -> None:
        self.kind = window
        self.engine = Engine()
        self.window = WINDOWS[window](self.engine)
        self.memory = mmap.mmap(-1, _MEMORY)
        self._anchor = ctypes.c_char.from_buffer(self.memory)
        self.engine.map(_MEMORY, ctypes.addressof(self._anchor))
        self._vmcb = memoryview(self.memory)[_VMCB : _VMCB + 0x1000].cast("Q")
        self._build_tables()
        self.exit: Exit | None = None
        self._interrupt_waits = False
        self.engine.hook(binding.HOOK_INTERRUPT, binding.INTERRUPT_CALLBACK(self._on_exit))

    def close(self) -> None:
        """Give the engine back."""
        self.window.release()
        self._vmcb.release()
        self.engine.close()

    def run(
        self, ring: int, code: bytes, *, intercept: int = 0, count: int = 0, interrupt_waits: bool = False
    ) -> Exit | None:
        """Run code in a ring until its first exit, which is returned; None when there was none.

        Args:
            interrupt_waits: a virtual interrupt is pending, and IF is clear at first (only where the engine's
                structure was found).
        """
        self._interrupt_waits = interrupt_waits
        self.run_status(ring, code, intercept=intercept, count=count)
        return self.exit

    def run_status(self, ring: int, code: bytes, *, intercept: int = 0, count: int = 0) -> int:
        """Run code in a ring until its first exit, kept in `exit`, or another end; the library's status."""
        self.memory[CODE : CODE + len(code)] = code
        self.engine.flush_code()
        self._enter(ring, intercept)
        if self._interrupt_waits:
            self.window.u64[layout.EFLAGS // 8] = 2
            self.window.store()
            self._request_interrupt(layout.INTERRUPT_VIRQ)
        self.exit = None
        status = self.engine.start(CODE, count)
        self.window.fetch()
        return status

    def handle_words(self) -> tuple[int, ...]:
        """The first words of the engine's main structure, where its instruction counter is."""
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.seek(self.engine.handle.value or 0)
            return struct.unpack("<512Q", memory.read(4096))

    def _request_interrupt(self, request: int) -> None:
        state = self.engine.state_address
        if state is not None:
            ctypes.c_uint32.from_address(state + layout.INTERRUPT_REQUEST).value = request

    def _on_exit(self, _engine: int, number: int) -> None:
        self.window.fetch()
        self._request_interrupt(0)
        self.exit = Exit(number, self.window, self._vmcb)
        self.words_at_exit = self.handle_words()
        self.window.u32[layout.EXCEPTION_IS_INT // 4] = 0
        self.window.store()
        self.engine.stop()

    def _put(self, address: int, value: int) -> None:
        struct.pack_into("<Q", self.memory, address, value)

    def _build_tables(self) -> None:
        self._put(_L4, _L3 | _PRESENT_WRITABLE_USER)
        self._put(_L3, _L2 | _PRESENT_WRITABLE_USER)
        self._put(_L2, _L1 | _PRESENT_WRITABLE_USER)
        for page in range(_MEMORY >> 12):
            self._put(_L1 + page * 8, page << 12 | _PRESENT_WRITABLE_USER)
        for code, stack, code_descriptor, stack_descriptor in _FLAT.values():
            self._put(_GDT + (code & ~7), code_descriptor)
            self._put(_GDT + (stack & ~7), stack_descriptor)

    def _enter(self, ring: int, intercept: int) -> None:
        engine, u8, u32, u64 = self.engine, self.window.u8, self.window.u32, self.window.u64
        engine.write_register("CR4", 0x6E0)
        engine.write_register("CR0", 0x80050033)
        self.window.fetch()
        code, stack, code_descriptor, stack_descriptor = _FLAT[ring]
        for register in (layout.ES, layout.SS, layout.DS):
            at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
            u8[at : at + 24] = Descriptor.from_int(stack_descriptor).cached(stack)
        at = layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE
        u8[at : at + 24] = Descriptor.from_int(code_descriptor).cached(code)
        gdt = (layout.SEGMENTS + layout.GDTR * layout.SEGMENT_SIZE) // 8
        u64[gdt + 1], u32[gdt * 2 + 4] = _GDT, 0xFFF
        u64[layout.EFER // 8] = 0x1D01
        u64[layout.CR // 8 + 3] = _L4
        off = layout.HF_CPL | layout.HF_CS64 | layout.HF_ADDSEG | layout.HF_TS
        on = layout.HF_GUEST | layout.HF_SVME | layout.HF_LMA | layout.HF_PE | layout.HF_CS32 | layout.HF_SS32
        u32[layout.HFLAGS // 4] = u32[layout.HFLAGS // 4] & ~off | on | ring
        u64[layout.RSP] = STACK
        u64[layout.VM_VMCB // 8] = _VMCB
        u64[layout.INTERCEPT // 8] = intercept
        u32[layout.INTERCEPT_EXCEPTIONS // 4] = 0xFFFFFFFF
        u32[layout.OLD_EXCEPTION // 4] = 0xFFFFFFFF
        u32[layout.EXCEPTION_IS_INT // 4] = 0
        u64[layout.EFLAGS // 8] = 0x202
        self.window.store()
        engine.flush_tlb()
