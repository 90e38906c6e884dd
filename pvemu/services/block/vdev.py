"""Names of virtual disks, and the numbers that stand for them in xenstore (xen-vbd-interface(7))."""

import re
from typing import Final, NamedTuple

from pvemu.abi.errors import PvemuError


class _Family(NamedTuple):
    disks: int
    partitions: int


_FAMILIES: Final = {"xvd": _Family(1 << 20, 256), "sd": _Family(16, 16), "hd": _Family(4, 64)}
_NAME: Final = re.compile(r"(xvd|sd|hd)([a-z]{1,6})([1-9][0-9]{0,2})?")
_NUMBERED: Final = re.compile(r"d([0-9]{1,7})(?:p([0-9]{1,3}))?")
_PLAIN: Final = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,11}")
_LARGEST_PLAIN: Final = 0x7FFFFFFF
#: Whole disks by number, and which of the four ATA drives of a PC each is: hda to hdd, and xvda to xvdd.
_ATA_PLACES: Final = {3 << 8: 0, 3 << 8 | 64: 1, 22 << 8: 2, 22 << 8 | 64: 3} | {
    202 << 8 | disk << 4: disk for disk in range(4)
}


def vdev_number(name: str) -> int:
    """The number of a virtual disk: ``xvda`` is 51712, ``xvdb2``, ``d1p2``, ``hdc`` and ``sda1`` work alike.

    A number stands for itself: hexadecimal after 0x, octal after 0, else decimal.

    Raises:
        PvemuError: it is no such name.
    """
    if match := _NAME.fullmatch(name):
        family, disk, partition = match[1], _disk_of(match[2]), int(match[3] or 0)
    elif match := _NUMBERED.fullmatch(name):
        family, disk, partition = "xvd", int(match[1]), int(match[2] or 0)
    elif _PLAIN.fullmatch(name):
        return _plain_number(name)
    else:
        raise PvemuError(f"{name!r} is no virtual disk: give a name like xvda, xvda1, hda, sda or d0p1")
    limits = _FAMILIES[family]
    if disk >= limits.disks or partition >= limits.partitions:
        raise PvemuError(
            f"{name!r} is no virtual disk: {family} has {limits.disks} disks "
            f"of {limits.partitions - 1} partitions"
        )
    if family == "sd":
        return 8 << 8 | disk << 4 | partition
    if family == "hd":
        return (3, 22)[disk >> 1] << 8 | (disk & 1) << 6 | partition
    if disk < 16 and partition < 16:
        return 202 << 8 | disk << 4 | partition
    return 1 << 28 | disk << 8 | partition


def ata_place(number: int) -> int | None:
    """Which ATA drive an HVM guest finds a disk at, too, 0 to 3 (as libxl has it); None: at none."""
    return _ATA_PLACES.get(number)


def _disk_of(letters: str) -> int:
    """a to z, then aa, ab and so on, as columns of a spreadsheet are counted."""
    disk = 0
    for letter in letters:
        disk = disk * 26 + ord(letter) - ord("a") + 1
    return disk - 1


def _plain_number(text: str) -> int:
    try:
        number = int(text, 8) if text[0] == "0" and text[1:2] not in ("x", "X") else int(text, 0)
    except ValueError as no_octal:
        raise PvemuError(f"{text!r} is no virtual disk: a number that begins with 0 is octal") from no_octal
    if number > _LARGEST_PLAIN:
        raise PvemuError(f"{text!r} is no virtual disk: the largest number is {_LARGEST_PLAIN:#x}")
    return number
