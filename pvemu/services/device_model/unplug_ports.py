"""The ports by which PV drivers of an HVM guest take the emulated devices away (Xen: hvm-emulated-unplug).

A guest that has drivers for Xen's own devices finds the same disks twice, and asks for the slower ones to go.
In Xen they are part of the platform device.
"""

from collections.abc import Callable
from typing import Final

FIRST_PORT: Final = 0x10
LAST_PORT: Final = 0x13

_VERSION_PORT: Final = 0x12
_MAGIC: Final = 0x49D2
_VERSION: Final = 1
# What may be unplugged.
_DISKS: Final = 0x01
_ALL_BUT_THE_FIRST_DISK: Final = 0x04


class UnplugPorts:
    """The ports. No driver is on a black list; lines for the log, which also come here, are not kept.

    Args:
        unplug: takes disks away; given whether the first one stays.
    """

    def __init__(self, unplug: Callable[[bool], None]) -> None:
        self._unplug = unplug

    def read(self, port: int, size: int) -> int:
        """Two bytes at the first port say that this is there, one at the third one which version."""
        known = {(FIRST_PORT, 2): _MAGIC, (_VERSION_PORT, 1): _VERSION}
        return known.get((port, size), (1 << 8 * size) - 1)

    def write(self, port: int, size: int, value: int) -> None:
        """Two bytes at the first port say what to unplug; all else is a driver's introducing itself."""
        if (port, size) == (FIRST_PORT, 2) and value & (_DISKS | _ALL_BUT_THE_FIRST_DISK):
            self._unplug(not value & _DISKS)
