"""Debug ports: each byte that a guest writes to one is printed, and reading one says that it is there.

Bochs has one at 0xE9, which answers a read with its own number; SeaBIOS and QEMU have one at 0x402 that
answers 0xE9 as well.
"""

from collections.abc import Callable
from typing import Final

BOCHS_PORT: Final = 0xE9
FIRMWARE_PORT: Final = 0x402

_PRESENT: Final = 0xE9


class DebugPort:
    """One such port.

    Attributes:
        printed: how many bytes the guest has written.

    Args:
        port: its number; sink: takes what is written.
    """

    def __init__(self, port: int, sink: Callable[[bytes], None]) -> None:
        self._port = port
        self._sink = sink
        self.printed = 0

    def read_byte(self, port: int) -> int:
        """Say that it is there."""
        return _PRESENT if port == self._port else 0xFF

    def write_byte(self, port: int, value: int) -> None:
        """Print a byte."""
        if port == self._port:
            self.printed += 1
            self._sink(bytes((value,)))
