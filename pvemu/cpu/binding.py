"""The raw C functions of the Unicorn library, called through ctypes without the binding's wrappers.

The binding's own calls cost microseconds (they box arguments, take locks and keep dictionaries); a
plain ctypes call with prepared arguments costs a fraction of one. Only what the processor needs is here.
"""

import ctypes
import functools
from typing import Any, Final

import unicorn
import unicorn.unicorn_const as const
import unicorn.x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from pvemu.cpu import abort_guard, division_guard
from pvemu.cpu.errors import EngineError
from pvemu.cpu.native_page import function_address

#: The one build of the engine whose inner layout is known (see layout.py).
KNOWN_VERSION: Final = "2.1.4"

#: Callback types of the hooks that are used. Arguments at the end that nobody needs are left out: converting
#: one costs as much as reading a register.
EXIT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_uint32)
INTERRUPT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32)
PORT_IN_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int)
PORT_OUT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32)
INSTRUCTION_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class TranslationBlock(ctypes.Structure):
    """`uc_tb`: what the engine tells of a block of guest code it has just translated."""

    _fields_ = [("pc", ctypes.c_uint64), ("icount", ctypes.c_uint16), ("size", ctypes.c_uint16)]


TRANSLATED_CALLBACK = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.POINTER(TranslationBlock),
    ctypes.POINTER(TranslationBlock),
    ctypes.c_void_p,
)

#: The run keeps Python's lock: taking it again in every callback would cost 0.1 µs an exit. Other threads get
#: their turn when a handler runs, and between two slices of guests.
_START = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t
)

_TLB_FLUSH = ctypes.c_int((const.UC_CTL_IO_WRITE << 30) | const.UC_CTL_TLB_FLUSH)
_TB_FLUSH = ctypes.c_int((const.UC_CTL_IO_WRITE << 30) | const.UC_CTL_TB_FLUSH)
_WHOLE_SPACE = (ctypes.c_uint64(1), ctypes.c_uint64(0))


def library_version() -> str:
    """The version of the engine that is installed, as `2.1.4`."""
    return str(unicorn.__version__)


class Engine:
    """One engine of the library: opened in 64-bit mode, which runs every mode of the processor.

    Attributes:
        state_address: host address of its CPU state, once it is known; only then can the engine be kept from
            ending the process over code that it can't translate.

    Raises:
        EngineError: the library refuses to open, to map memory or to install a hook.
    """

    def __init__(self) -> None:
        self._engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._engine.ctl_set_cpu_model(x86.UC_CPU_X86_EPYC)
        # Without exit addresses the `until` argument of emu_start would be translated as code.
        self._engine.ctl_exits_enabled(True)
        self._engine.ctl_set_exits([])
        self.handle: ctypes.c_void_p = self._engine._uch
        self.state_address: int | None = None
        self._guard = _abort_guard()
        division = _division_guard()
        if division is not None:
            division.install()
        self._keep: list[object] = []
        self._start = _START(function_address(uclib.uc_emu_start))
        self._stop = uclib.uc_emu_stop
        self._control = uclib.uc_ctl

    def close(self) -> None:
        """Give the engine's memory back. Nothing else may be called afterwards."""
        self._keep.clear()
        del self._engine

    def map(self, size: int, host_address: int, *, at: int = 0) -> None:
        """Make `size` bytes of host memory the physical memory from address `at`."""
        self._engine.mem_map_ptr(at, size, unicorn.UC_PROT_ALL, host_address)

    def map_nothing(self, start: int, end: int) -> None:
        """Make an empty bus of the addresses from `start` up to `end`: they read as ones, writes are lost."""
        self._engine.mmio_map(start, end - start, _read_nothing, None, _write_nothing, None)

    def write_register(self, name: str, value: object) -> None:
        """Set a register by the binding's name (slow: several microseconds)."""
        self._engine.reg_write(getattr(x86, f"UC_X86_REG_{name}"), value)

    def read_register(self, name: str) -> Any:
        """Read a register by the binding's name (slow: about two microseconds)."""
        return self._engine.reg_read(getattr(x86, f"UC_X86_REG_{name}"))

    def write_msr(self, number: int, value: int) -> None:
        """Set a model-specific register of the emulated processor."""
        self._engine.msr_write(number, value)

    @property
    def divides_safely(self) -> bool:
        """Whether a division that the host can't do is the guest's #DE, and not the end of the process."""
        return _division_guard() is not None

    @property
    def guarded(self) -> bool:
        """Whether code that the engine can't translate is an exit, and not the end of the process."""
        return self._guard is not None and self.state_address is not None

    def start(self, address: int, count: int = 0) -> int:
        """Run from a linear address until stopped (or for `count` instructions); the library's status."""
        guard, state = self._guard, self.state_address
        entry = None if guard is None or state is None else guard.enter(state)
        try:
            return int(self._start(self.handle, address, 0, 0, count))
        finally:
            if guard is not None and entry is not None:
                guard.leave(*entry)

    def stop(self) -> None:
        """Make the run end before the next block of guest code."""
        self._stop(self.handle)

    def flush_tlb(self) -> None:
        """Forget every cached address translation (about 1 microsecond)."""
        self._control(self.handle, _TLB_FLUSH)

    def flush_code(self) -> None:
        """Forget every translated block of guest code (about 16 microseconds)."""
        self._control(self.handle, _TB_FLUSH)

    def hook(self, kind: int, callback: Any, data: Any = None, *extra: int) -> None:
        """Install a callback, kept alive with the engine, for all addresses."""
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self.handle,
            ctypes.byref(handle),
            kind,
            ctypes.cast(callback, ctypes.c_void_p),
            data,
            *_WHOLE_SPACE,
            *(ctypes.c_int(value) for value in extra),
        )
        if status:
            raise EngineError(f"Unicorn refused a hook (status {status}); run `pvemu doctor`")
        self._keep.append((callback, data))

    def stop_function(self) -> int:
        """Host address of the library's stop function, for native code to call."""
        return function_address(uclib.uc_emu_stop)


def _read_nothing(_engine: object, _offset: int, size: int, _data: object) -> int:
    return (1 << 8 * size) - 1


def _write_nothing(_engine: object, _offset: int, _size: int, _value: int, _data: object) -> None:
    pass


@functools.cache
def _abort_guard() -> abort_guard.AbortGuard | None:
    """The process's guard; None on a host where it can't be had."""
    try:
        return abort_guard.AbortGuard(uclib)
    except EngineError:
        return None


@functools.cache
def _division_guard() -> division_guard.DivisionGuard | None:
    """The process's guard; None on a host where it can't be had."""
    try:
        return division_guard.DivisionGuard(uclib)
    except EngineError:
        return None


def describe_status(status: int) -> str:
    """The library's words for a status code."""
    return str(unicorn.UcError(status))


#: The status with which a run ends when code was to be fetched where nothing is.
NO_CODE: Final = int(unicorn.UC_ERR_FETCH_PROT)
#: The status with which a run ends at `int 6`, which the library takes for an invalid instruction.
INVALID_INSTRUCTION: Final = int(unicorn.UC_ERR_INSN_INVALID)

HOOK_INTERRUPT: Final = int(unicorn.UC_HOOK_INTR)
HOOK_BLOCK: Final = int(unicorn.UC_HOOK_BLOCK)
HOOK_INSTRUCTION: Final = int(unicorn.UC_HOOK_INSN)
HOOK_TRANSLATED: Final = int(unicorn.UC_HOOK_EDGE_GENERATED)
INSTRUCTION_IN: Final = int(x86.UC_X86_INS_IN)
INSTRUCTION_OUT: Final = int(x86.UC_X86_INS_OUT)
INSTRUCTION_SYSCALL: Final = int(x86.UC_X86_INS_SYSCALL)
INSTRUCTION_SYSENTER: Final = int(x86.UC_X86_INS_SYSENTER)
