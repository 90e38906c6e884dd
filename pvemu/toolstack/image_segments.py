"""The pieces of memory that a kernel's file fills, as Xen's loader takes them from the program headers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.errors import KernelRefused

WORD_MASK: Final = (1 << 64) - 1
COPIES_OF_IMAGE: Final = 2
"""A file may load each byte of the image this often on average: Xen's bound on what one file can ask for."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the image: `data` at `address`, then zeros up to `memory_size` bytes.

    Addresses are virtual for a PV kernel and guest-physical for one that starts without paging.
    """

    address: int
    data: memoryview | bytes
    memory_size: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.address + self.memory_size


def loaded_range(image: ElfImage) -> tuple[int, int]:
    """The lowest and the highest physical address of what the file loads; the wrong way round if nothing."""
    loads = [header for header in image.program_headers if header.loadable]
    lowest = min((header.paddr for header in loads), default=WORD_MASK)
    return lowest, max((header.paddr + header.memory_size for header in loads), default=0)


def image_segments(image: ElfImage, *, offset: int, size: int) -> list[Segment]:
    """The segments of a file, in its order.

    Args:
        offset: to be added to the physical addresses in the file, modulo 2^64.
        size: bytes from the start of the image to its end.

    Raises:
        KernelRefused: a segment's bytes are not in the file.
    """
    segments = []
    view = memoryview(image.data)
    room = COPIES_OF_IMAGE * size
    for header in image.program_headers:
        if not header.loadable:
            continue
        room -= header.memory_size
        if room < 0:
            # Xen starts such a kernel too, without the segments that are too much.
            break
        file_end = header.offset + header.file_size
        if header.memory_size < header.file_size or file_end > len(view):
            raise KernelRefused(
                "Failed to load the kernel binary",
                f"a segment has {header.file_size:#x} bytes at {header.offset:#x} in the file for"
                f" {header.memory_size:#x} bytes of memory, the file is cut short or damaged",
            )
        start = header.paddr + offset & WORD_MASK
        segments.append(Segment(start, view[header.offset : file_end], header.memory_size))
    return segments


def segment_contents(segments: Iterable[Segment]) -> Iterator[tuple[int, bytes | memoryview]]:
    """What to copy into zeroed memory, in this order: (address, bytes)."""
    lowest, highest = WORD_MASK, 0
    for segment in segments:
        yield segment.address, segment.data
        zeros = segment.address + len(segment.data)
        # Zeros are there already, unless an earlier segment may have written something else.
        if zeros < segment.end and lowest < segment.end and zeros < highest:
            yield zeros, bytes(segment.end - zeros)
        lowest, highest = min(lowest, segment.address), max(highest, segment.end)
