"""The machine's RAM: one block of host memory, seen by byte, by word and by page-table entry."""

import ctypes
import mmap
from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PAGE_MASK: Final = PAGE_SIZE - 1


class Ram:
    """RAM from machine address 0.

    Attributes:
        size: bytes; frames: machine frames of 4 KiB.
        u8, u16, u32, u64: views of all of it; index them by machine address divided by 1, 2, 4 and 8.
        memory: all of it again; a slice of it is a copy, as bytes, and is made faster than one of a view.
        host_address: where it is in this process, for the engine.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.frames = size >> PAGE_SHIFT
        self.memory = mmap.mmap(-1, size)
        self._anchor = ctypes.c_char.from_buffer(self.memory)
        self.host_address = ctypes.addressof(self._anchor)
        self.u8 = memoryview(self.memory)
        self.u16 = self.u8.cast("H")
        self.u32 = self.u8.cast("I")
        self.u64 = self.u8.cast("Q")

    def frame(self, mfn: int) -> memoryview:
        """The 4096 bytes of a machine frame."""
        return self.u8[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT]

    def clear(self, mfn: int) -> None:
        """Fill a machine frame with zeros."""
        self.u8[mfn << PAGE_SHIFT : (mfn + 1) << PAGE_SHIFT] = _ZEROS


_ZEROS: Final = bytes(PAGE_SIZE)
