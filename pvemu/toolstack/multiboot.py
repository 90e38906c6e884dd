"""The Multiboot protocol, version 0.6.96: how a bare PC's boot loader starts a kernel, and how we do."""

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from pvemu.abi.start_info import XEN_HVM_MEMMAP_TYPE_RAM
from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.image_segments import Segment
from pvemu.toolstack.start_information import Pieces, StartFacts, StartProtocol

#: Bytes at the beginning of the file in which the header lies (section 3.1).
_SEARCHED: Final = 8192
_MAGIC: Final = 0x1BADB002
_MAGIC_OF_LOADER: Final = 0x2BADB002
_WORD_MASK: Final = 0xFFFFFFFF
#: What the kernel asks for, by bits of the header's flags (section 3.1.2): page alignment, a memory map, and
#: a screen in some mode. There is none, and it is told of none; GRUB boots it blind, too.
_UNDERSTOOD: Final = 0b111
_REQUIREMENTS: Final = 0xFFFF
_HAS_ADDRESSES: Final = 1 << 16

#: Of the information, the fields that are said to be there (section 3.3).
_MEMORY, _COMMAND_LINE, _MODULES, _MEMORY_MAP, _LOADER_NAME = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9
_LOADER: Final = b"pvemu\0"
_KIB: Final = 1024
_MIB: Final = 1 << 20
_INFORMATION: Final = struct.Struct("<22I")
_MODULE: Final = struct.Struct("<4I")
#: The size field does not count itself.
_MAP_ENTRY: Final = struct.Struct("<IQQI")
_LARGEST_ADDRESS: Final = _WORD_MASK


class Addresses(NamedTuple):
    """Where the file is to be loaded (section 3.1.3), by physical address; 0 for the file's end."""

    header: int
    load: int
    load_end: int
    bss_end: int
    entry: int


@dataclass(frozen=True, slots=True)
class MultibootHeader:
    """A header: its offset in the file, its flags, and its addresses if it has them."""

    offset: int
    flags: int
    addresses: Addresses | None


def find_multiboot_header(image: ElfImage) -> MultibootHeader | None:
    """The header of a file; None if it has none."""
    searched = image.data[:_SEARCHED]
    magic = struct.pack("<I", _MAGIC)
    at = searched.find(magic)
    while at >= 0:
        flags, checksum = image.number(at + 4, 4), image.number(at + 8, 4)
        if at % 4 == 0 and (_MAGIC + flags + checksum) & _WORD_MASK == 0 and at + 12 <= len(searched):
            return _read_header(image, at, flags)
        at = searched.find(magic, at + 1)
    return None


def _read_header(image: ElfImage, at: int, flags: int) -> MultibootHeader:
    if not flags & _HAS_ADDRESSES:
        return MultibootHeader(at, flags, None)
    return MultibootHeader(
        at, flags, Addresses(*(image.number(at + offset, 4) for offset in range(12, 32, 4)))
    )


def check_requirements(header: MultibootHeader) -> None:
    """Raises KernelRefused if the kernel requires what this loader can't give."""
    unknown = header.flags & _REQUIREMENTS & ~_UNDERSTOOD
    if unknown:
        raise KernelRefused(
            f"Multiboot: the kernel requires features {unknown:#x} of its loader",
            "build it without them; only page alignment and the memory map can be had",
        )


def addressed_segment(image: ElfImage, header: MultibootHeader) -> Segment:
    """What the addresses of a header say is to be loaded: one piece of the file, and zeros behind it.

    Raises:
        KernelRefused: the addresses contradict each other or the file.
    """
    assert header.addresses is not None
    places = header.addresses
    start = header.offset - (places.header - places.load)
    size = len(image.data) - start if places.load_end == 0 else places.load_end - places.load
    memory_size = max(places.bss_end - places.load, size)
    if places.load > places.header or start < 0 or size < 0 or start + size > len(image.data):
        raise KernelRefused(
            "Multiboot: the addresses in the header don't fit the file",
            f"header {places.header:#x}, load {places.load:#x} to {places.load_end:#x}: link it again",
        )
    return Segment(places.load, memoryview(image.data)[start : start + size], memory_size)


def multiboot_information(facts: StartFacts) -> bytes:
    """The information (section 3.3), and behind it what it points to."""
    pieces = Pieces(facts.address, _INFORMATION.size)
    flags = _MEMORY | _COMMAND_LINE | _MEMORY_MAP | _LOADER_NAME
    modules = 0
    if facts.module is not None:
        flags |= _MODULES
        name = pieces.add(b"\0")
        modules = pieces.add(_MODULE.pack(facts.module.start, facts.module.stop, name, 0))
    entries = b"".join(
        _MAP_ENTRY.pack(_MAP_ENTRY.size - 4, region.address, region.size, region.type)
        for region in facts.memory_map
    )
    fields = [0] * 22
    fields[0] = flags
    fields[1], fields[2] = _lower_and_upper_kib(facts)
    fields[4] = pieces.add(facts.command_line + b"\0")
    fields[5], fields[6] = int(bool(modules)), modules
    fields[11], fields[12] = len(entries), pieces.add(entries)
    fields[16] = pieces.add(_LOADER)
    return _INFORMATION.pack(*fields) + bytes(pieces.data[_INFORMATION.size :])


def _lower_and_upper_kib(facts: StartFacts) -> tuple[int, int]:
    """KiB of RAM from 0 up to the first hole, at most 640, and from 1 MiB up to the first hole."""
    ram = [region for region in facts.memory_map if region.type == XEN_HVM_MEMMAP_TYPE_RAM]

    def up_to_hole(start: int) -> int:
        region = next((region for region in ram if region.address <= start < region.end), None)
        return 0 if region is None else min(region.end, _LARGEST_ADDRESS) - start

    return min(up_to_hole(0) // _KIB, 640), up_to_hole(_MIB) // _KIB


MULTIBOOT: Final = StartProtocol("Multiboot", _MAGIC_OF_LOADER, multiboot_information)
