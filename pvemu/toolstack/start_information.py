"""What a kernel that starts without paging is told: the PVH protocol's start information.

The layout is public header arch-x86/hvm/start_info.h; in which state the processor is besides, says Xen's
docs/misc/pvh.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pvemu.abi.start_info import (
    XEN_HVM_START_MAGIC_VALUE,
    hvm_memmap_table_entry,
    hvm_modlist_entry,
    hvm_start_info,
)

#: All fields have the same place for 32 and 64-bit guests.
_WORD: Final = 8
_VERSION: Final = 1
_ALIGNMENT: Final = 8


class MemoryRegion(NamedTuple):
    """A line of the memory map: guest-physical address and size in bytes, and an XEN_HVM_MEMMAP_TYPE_*."""

    address: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.address + self.size


@dataclass(frozen=True, slots=True)
class StartFacts:
    """What there is to tell; addresses are guest-physical.

    Attributes:
        address: where the information itself is going to lie.
        module: the boot module (an initrd), without what fills up its last page; None without one.
        rsdp: ACPI's root pointer.
    """

    address: int
    command_line: bytes
    module: range | None
    memory_map: tuple[MemoryRegion, ...]
    rsdp: int


class StartProtocol(NamedTuple):
    """A way to start a kernel: what EAX holds, and what lies where EBX points to."""

    name: str
    eax: int
    information: Callable[[StartFacts], bytes]


class Pieces:
    """Bytes that are put together one after the other, each on a multiple of 8."""

    def __init__(self, address: int, reserved: int) -> None:
        """Begin at an address, leaving out so many bytes for what is known last."""
        self._address = address
        self.data = bytearray(reserved)

    def add(self, piece: bytes) -> int:
        """Append a piece; its address."""
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        at = self._address + len(self.data)
        self.data += piece
        return at


def pvh_information(facts: StartFacts) -> bytes:
    """hvm_start_info of version 1, and behind it what it points to."""
    size = hvm_start_info.size(_WORD)
    pieces = Pieces(facts.address, size)
    modules = 0
    if facts.module is not None:
        modules = pieces.add(hvm_modlist_entry.pack(_WORD, paddr=facts.module.start, size=len(facts.module)))
    header = hvm_start_info.pack(
        _WORD,
        magic=XEN_HVM_START_MAGIC_VALUE,
        version=_VERSION,
        nr_modules=int(bool(modules)),
        modlist_paddr=modules,
        cmdline_paddr=pieces.add(facts.command_line + b"\0"),
        rsdp_paddr=facts.rsdp,
        memmap_paddr=pieces.add(
            b"".join(
                hvm_memmap_table_entry.pack(_WORD, addr=region.address, size=region.size, type=region.type)
                for region in facts.memory_map
            )
        ),
        memmap_entries=len(facts.memory_map),
    )
    return header + bytes(pieces.data[size:])


PVH: Final = StartProtocol("PVH", 0, pvh_information)
