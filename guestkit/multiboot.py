"""The Multiboot header (specification 0.6.96, 3.1), by which GRUB and QEMU can start an HVM guest, too."""

import struct
from collections.abc import Callable, Iterable

from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.guestinfo import GuestInfo
from guestkit.program import Fragment, Section

_MAGIC = 0x1BADB002
_PAGE_ALIGN, _MEMORY_INFO, _ADDRESSES = 1 << 0, 1 << 1, 1 << 16
_HEADER = struct.Struct("<8I")


class MultibootHeader(Fragment):
    """The header; it is the first thing in the image, for loaders look at the first 8 KiB of the file only.

    It has the fields with addresses, so that a loader need not understand the file: they know ELF files of 32
    bits, and none of 64. The file then has to hold the image as it lies in memory (see ``elf.write_elf``).
    """

    is_fixed = True
    size = _HEADER.size

    def __init__(
        self, guest: GuestInfo, sections: Iterable[Section], end: Section, entry: Callable[[], int]
    ) -> None:
        """``sections`` are all of the program, ``end`` stands behind them, ``entry`` finds the entry."""
        self._guest = guest
        self._sections = sections
        self._end = end
        self._entry = entry

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return the header; Mistake when the image does not lie in the first 4 GiB."""
        filled = [section for section in self._sections if section.has_bytes]
        places = (
            self.place.here,
            min(section.address for section in filled),
            max(section.address + section.size for section in filled),
            self._end.address,
            self._entry(),
        )
        physical = [place - self._guest.physical_offset for place in places]
        if any(not 0 <= place < 1 << 32 for place in physical):
            raise Mistake("an HVM guest lies in the first 4 GiB: choose another paddr", self._guest.column)
        flags = _PAGE_ALIGN | _MEMORY_INFO | _ADDRESSES
        return _HEADER.pack(_MAGIC, flags, -(_MAGIC + flags) & 0xFFFFFFFF, *physical)
