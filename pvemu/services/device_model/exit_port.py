"""The exit port of QEMU's isa-debug-exit: a guest that writes a number to it ends, with that number.

The same kernel then ends by itself here and on a bare PC, where nothing else is as simple as that.
"""

from collections.abc import Callable
from typing import Final

#: Where QEMU's users put it by custom.
EXIT_PORT: Final = 0xF4
#: How many ports it has.
EXIT_PORTS: Final = 4


class ExitPort:
    """The device.

    Args:
        leave: takes the exit status, 2n + 1 for a guest that wrote n, so that 0 is never among them.
    """

    def __init__(self, leave: Callable[[int], None]) -> None:
        self._leave = leave

    def read(self, port: int, size: int) -> int:
        """There is nothing to read."""
        return 0

    def write(self, port: int, size: int, value: int) -> None:
        """End the guest."""
        self._leave(value << 1 | 1)
