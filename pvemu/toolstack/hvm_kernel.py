"""A kernel that starts without paging, as the domain builder sees it: what goes where, and the entry."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pvemu.toolstack.bsd_symtab import bsd_symbol_table
from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_kind import KernelFile
from pvemu.toolstack.image_segments import Segment, image_segments, loaded_range
from pvemu.toolstack.multiboot import MULTIBOOT, MultibootHeader, addressed_segment, check_requirements
from pvemu.toolstack.start_information import PVH, StartProtocol

_MACHINES: Final = frozenset({"EM_386", "EM_X86_64"})
_RELINK: Final = "check the link addresses and the entry"


@dataclass(frozen=True, slots=True)
class HvmKernel:
    """A kernel that passed every check which does not depend on the domain it is for.

    Attributes:
        entry: where it begins, in 32-bit mode; this and the segments' addresses are guest-physical.
        module_last: its boot module may lie beyond what it maps first (note MOD_START_PFN), and the start
            information may not.
    """

    protocol: StartProtocol
    entry: int
    segments: tuple[Segment, ...]
    module_last: bool = False

    @property
    def start(self) -> int:
        """The lowest address that is loaded."""
        return min(segment.address for segment in self.segments)

    @property
    def end(self) -> int:
        """The address after the last byte that is loaded."""
        return max(segment.end for segment in self.segments)


def load_hvm_kernel(file: KernelFile) -> HvmKernel:
    """The kernel in a file that has a PVH entry, which is used if it is there, or a Multiboot header.

    Raises:
        KernelRefused: its segments or its entry make no sense.
    """
    image, notes = file.image, file.notes
    module_last = False
    if image.machine not in _MACHINES:
        raise KernelRefused("the kernel is not for x86", "give an i386 or x86-64 ELF file")
    if notes.phys32_entry is not None:
        protocol, entry = PVH, notes.phys32_entry
        segments = tuple(_elf_segments(image, with_symbols=notes.bsd_symtab))
        module_last = bool(notes.mod_start_pfn)
    else:
        assert file.multiboot is not None
        protocol = MULTIBOOT
        entry, segments = _multiboot_image(image, file.multiboot)
    kernel = HvmKernel(protocol, entry, segments, module_last)
    if not segments or not kernel.start <= entry <= kernel.end:
        raise KernelRefused("ERROR: ELF start or entries are out of bounds", _RELINK)
    return kernel


def _elf_segments(image: ElfImage, *, with_symbols: bool) -> Iterator[Segment]:
    start, end = loaded_range(image)
    if start >= end:
        raise KernelRefused("the kernel loads nothing", "link it with a segment of type PT_LOAD")
    yield from image_segments(image, offset=0, size=end - start)
    symbols = bsd_symbol_table(image, end) if with_symbols else None
    if symbols is not None:
        yield Segment(symbols.paddr, symbols.data, len(symbols.data))


def _multiboot_image(image: ElfImage, header: MultibootHeader) -> tuple[int, tuple[Segment, ...]]:
    check_requirements(header)
    if header.addresses is not None:
        return header.addresses.entry, (addressed_segment(image, header),)
    return _physical(image, image.entry), tuple(_elf_segments(image, with_symbols=False))


def _physical(image: ElfImage, entry: int) -> int:
    """A kernel that is linked for other addresses than it is loaded at has a virtual entry in its file."""
    for program in image.program_headers:
        if program.loadable and program.vaddr <= entry < program.vaddr + program.memory_size:
            return entry - program.vaddr + program.paddr
    return entry
