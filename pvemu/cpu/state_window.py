"""The state window: the engine's CPU state as memory that Python reads and writes without calls.

`LiveWindow` lies over the engine's own structure, so a change is in force at once. `ContextWindow` is
the fallback where that structure can't be found: the same bytes, copied out and in by
`uc_context_save` and `uc_context_restore`.
"""

import contextlib
import ctypes
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, Literal

from unicorn.unicorn_py3.unicorn import uclib

from pvemu.cpu import layout
from pvemu.cpu.binding import Engine
from pvemu.cpu.errors import EngineError

_MEMORY: Final = Path("/proc/self/mem")
_MAPS: Final = Path("/proc/self/maps")
_REGISTERS: Final = (
    *("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"),
    *(f"R{number}" for number in range(8, 16)),
)
#: Mappings larger than this are guest memory or code buffers, never the engine's heap.
_LARGEST_HEAP: Final = 1 << 28
#: The engine's main structure holds a pointer to the CPU within this many bytes ...
_HANDLE_BYTES: Final = 4096
#: ... and the state begins at most this far behind where that pointer points.
_CPU_BYTES: Final = 1 << 17

#: (offset of the pointer in the main structure, offset of the state behind it), once it is known.
_known_path: list[tuple[int, int]] = []


class StateWindow:
    """The CPU state as three views of the same bytes: by byte, by 32-bit and by 64-bit index.

    Attributes:
        live: whether a write is in force at once; else `fetch` and `store` move the bytes.
        u8, u32, u64: views; index them by a byte offset of layout.py divided by 1, 4 and 8.
    """

    live: bool

    def __init__(self, memory: memoryview) -> None:
        self.u8 = memory
        self.u32 = memory.cast("I")
        self.u64 = memory.cast("Q")

    def fetch(self) -> None:
        """Make the views show what the engine holds."""

    def store(self) -> None:
        """Make the engine hold what the views show."""

    def release(self) -> None:
        """Drop the views: the memory below them is about to go."""
        for view in (self.u64, self.u32, self.u8):
            view.release()


class LiveWindow(StateWindow):
    """A window over the engine's own structure.

    Raises:
        EngineError: the structure can't be found in this process's memory.
    """

    live = True

    def __init__(self, engine: Engine) -> None:
        engine.state_address = _locate(engine)
        self._memory = (ctypes.c_ubyte * layout.STATE_SIZE).from_address(engine.state_address)
        super().__init__(memoryview(self._memory).cast("B"))


class ContextWindow(StateWindow):
    """A window over a saved context of the engine, moved by two calls of the library.

    Raises:
        EngineError: the context does not hold the registers.
    """

    live = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with contextlib.suppress(EngineError):  # the window does without; only the abort guard needs it
            engine.state_address = _locate(engine)
        self._context = ctypes.c_void_p()
        if uclib.uc_context_alloc(engine.handle, ctypes.byref(self._context)):
            raise EngineError("Unicorn could not allocate a context; run `pvemu doctor`")
        size = int(uclib.uc_context_size(engine.handle))
        with _sentinels(engine) as pattern:
            uclib.uc_context_save(engine.handle, self._context)
            address = self._context.value or 0
            at = ctypes.string_at(address, size).find(pattern)
        if at < 0 or at + layout.STATE_SIZE > size:
            raise EngineError("a Unicorn context does not hold the CPU state; run `pvemu doctor`")
        self._memory = (ctypes.c_ubyte * layout.STATE_SIZE).from_address(address + at)
        super().__init__(memoryview(self._memory).cast("B"))

    def fetch(self) -> None:
        """Copy the engine's state into the views."""
        uclib.uc_context_save(self._engine.handle, self._context)

    def store(self) -> None:
        """Copy the views into the engine's state."""
        uclib.uc_context_restore(self._engine.handle, self._context)

    def release(self) -> None:
        """Drop the views and free the context."""
        super().release()
        uclib.uc_context_free(self._context)


#: What a user may choose between.
WindowKind = Literal["live", "context"]
WINDOWS: Final[dict[WindowKind, Callable[[Engine], StateWindow]]] = {
    "live": LiveWindow,
    "context": ContextWindow,
}


class _sentinels:
    """Sixteen random values in the general registers; leaves them zero."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> bytes:
        # Not part of a run: the values only have to be unlike anything else in memory.
        values = [random.SystemRandom().getrandbits(63) for _ in _REGISTERS]
        for name, value in zip(_REGISTERS, values, strict=True):
            self._engine.write_register(name, value)
        return struct.pack("<16Q", *values)

    def __exit__(self, *_: object) -> None:
        for name in _REGISTERS:
            self._engine.write_register(name, 0)


def _locate(engine: Engine) -> int:
    """Host address of the state: by the path that an earlier engine showed, else by a search."""
    with _sentinels(engine) as pattern, _MEMORY.open("rb", buffering=0) as memory:
        for pointer_offset, state_offset in _known_path:
            address = _read_word(memory, (engine.handle.value or 0) + pointer_offset) + state_offset
            if _read(memory, address, len(pattern)) == pattern:
                return address
        found = [address for address in _search(memory, pattern) if _is_live(engine, address)]
    if len(found) != 1:
        raise EngineError(
            f"the CPU state was found {len(found)} times in memory instead of once; "
            "use the fallback with --state-window context, and run `pvemu doctor`"
        )
    _remember_path(engine, found[0])
    return found[0]


def _search(memory: BinaryIO, pattern: bytes) -> list[int]:
    """Every address of this process's writable memory that holds the pattern."""
    found = []
    with _MAPS.open() as maps:
        ranges = [line.split()[:2] for line in maps]
    for span, rights in ranges:
        low, high = (int(word, 16) for word in span.split("-"))
        if not rights.startswith("rw") or high - low > _LARGEST_HEAP:
            continue
        blob = _read(memory, low, high - low)
        at = blob.find(pattern)
        while at >= 0:
            found.append(low + at)
            at = blob.find(pattern, at + 1)
    return found


def _is_live(engine: Engine, address: int) -> bool:
    """Whether the bytes at an address follow the engine's RAX (copies of the pattern do not)."""
    engine.write_register("RAX", 0x1234)
    return ctypes.c_uint64.from_address(address).value == 0x1234


def _remember_path(engine: Engine, address: int) -> None:
    with _MEMORY.open("rb", buffering=0) as memory:
        words = struct.unpack(
            f"<{_HANDLE_BYTES // 8}Q", _read(memory, engine.handle.value or 0, _HANDLE_BYTES)
        )
    for index, word in enumerate(words):
        if 0 <= address - word < _CPU_BYTES:
            _known_path.append((index * 8, address - word))


def _read(memory: BinaryIO, address: int, size: int) -> bytes:
    try:
        memory.seek(address)
        return memory.read(size)
    except (OSError, ValueError, OverflowError):
        return b""


def _read_word(memory: BinaryIO, address: int) -> int:
    return int.from_bytes(_read(memory, address, 8), "little")
