"""A page of native code in this process, with the words that it works on."""

import ctypes
import mmap

from pvemu.cpu.errors import EngineError


class NativePage:
    """Memory that can be written and executed; it lasts as long as this object.

    Attributes:
        words: the page as words of 64 bits; address: of its first byte, where the code begins.

    Args:
        code: native code for x86-64; purpose: what it is for, for the message.

    Raises:
        EngineError: this host gives no such memory.
    """

    def __init__(self, code: bytes, purpose: str) -> None:
        try:
            self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError as refusal:
            raise EngineError(f"no executable page for {purpose}: {refusal.strerror}") from refusal
        self._page[: len(code)] = code
        self.words = memoryview(self._page).cast("Q")
        self._anchor = ctypes.c_char.from_buffer(self._page)
        self.address = ctypes.addressof(self._anchor)


def function_address(function: object) -> int:
    """Host address of a function that ctypes knows."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)  # type: ignore[arg-type]
