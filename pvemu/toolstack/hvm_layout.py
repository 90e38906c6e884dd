"""The layout of a new domain with guest-physical memory: where its RAM is, and what the builder puts there.

It is that of Xen's toolstack for PVH: RAM from 0 up; towards the end of the first 4 GiB ACPI's tables, the
local APIC and the special pages. A PC has, besides, the hole below 1 MiB.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pvemu.abi.hvm_op import (
    HVM_PARAM_BUFIOREQ_PFN,
    HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_IDENT_PT,
    HVM_PARAM_IOREQ_PFN,
    HVM_PARAM_MONITOR_RING_PFN,
    HVM_PARAM_PAGING_RING_PFN,
    HVM_PARAM_SHARING_RING_PFN,
    HVM_PARAM_STORE_PFN,
)
from pvemu.abi.start_info import (
    XEN_HVM_MEMMAP_TYPE_ACPI,
    XEN_HVM_MEMMAP_TYPE_RAM,
    XEN_HVM_MEMMAP_TYPE_RESERVED,
)
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE
from pvemu.services.device_model.serial import COM1
from pvemu.toolstack.acpi_tables import AcpiTables, acpi_tables
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.hvm_kernel import HvmKernel
from pvemu.toolstack.image_segments import segment_contents
from pvemu.toolstack.start_information import MemoryRegion, StartFacts

_MIB: Final = 1 << 20
_FOUR_GIB: Final = 1 << 32
#: Where RAM ends and devices begin: a PC's as public header hvm/e820.h has it, else ACPI's tables.
_END_OF_PC_RAM: Final = 0xF0000000
_ACPI: Final = 0xFC000000
#: A PC's hole has the screen and expansion cards; the BIOS behind it is memory here, too.
_HOLE: Final = 0xA0000
_BIOS: Final = 0xE0000
#: What a PC's BIOS leaves for programs that look there: the ports of COM1, and how many KiB of memory there
#: are below the hole. Xen, for one, puts code of its own at their end.
_BIOS_DATA: Final = 0x400
_BIOS_DATA_END: Final = 0x500
_COM1_AT, _KIB_AT = 0x00, 0x13
#: Where programs look for ACPI's root pointer that nobody has told of it, and Xen puts it for them.
_BIOS_RSDP: Final = 0xFFFC0

_SPECIAL_PAGES: Final = 0xFEFF8000
#: The parameters that name the special pages, in the order of these.
_SPECIAL: Final = (
    HVM_PARAM_PAGING_RING_PFN,
    HVM_PARAM_MONITOR_RING_PFN,
    HVM_PARAM_SHARING_RING_PFN,
    HVM_PARAM_BUFIOREQ_PFN,
    HVM_PARAM_STORE_PFN,
    HVM_PARAM_IOREQ_PFN,
    HVM_PARAM_IDENT_PT,
    HVM_PARAM_CONSOLE_PFN,
)
#: A 4 MiB entry of a 32-bit page directory: present, writable, user, accessed, dirty, large.
_LARGE_PAGE: Final = 0xE7


@dataclass(frozen=True, slots=True)
class HvmLayout:
    """Everything the builder needs to know of a new domain before it has a single frame.

    Attributes:
        frames: the guest frames that get memory, by ascending number.
        memory_map: what the guest is told of its memory, by ascending address.
        parameters: HVM parameters, by number, that tell it of the special pages.
        information: the guest-physical address for EBX.
        furniture: what there is besides the kernel: guest-physical byte address, bytes.
    """

    kernel: HvmKernel
    frames: tuple[range, ...]
    memory_map: tuple[MemoryRegion, ...]
    parameters: Mapping[int, int]
    information: int
    furniture: tuple[tuple[int, bytes], ...]

    @property
    def store_frame(self) -> int:
        """The guest frame of the ring to xenstore."""
        return self.parameters[HVM_PARAM_STORE_PFN]

    @property
    def console_frame(self) -> int:
        """The guest frame of the console's rings."""
        return self.parameters[HVM_PARAM_CONSOLE_PFN]

    def contents(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """What to copy into zeroed memory, in this order: (guest-physical byte address, bytes)."""
        yield from segment_contents(self.kernel.segments)
        yield from self.furniture


def plan_hvm_domain(
    kernel: HvmKernel,
    *,
    memory_pages: int,
    vcpus: int,
    is_pc: bool,
    command_line: bytes = b"",
    module: bytes | None = None,
) -> HvmLayout:
    """Lay out a domain of `memory_pages` pages (4 KiB each) that boots `kernel`.

    Args:
        is_pc: it has a PC's devices, and a PC's hole below 1 MiB.
        module: a boot module (an initrd).

    Raises:
        KernelRefused: the kernel, or what goes with it, does not fit into the domain's memory.
    """
    tables = acpi_tables(_ACPI, vcpus=vcpus, is_pc=is_pc)
    rsdp = _BIOS_RSDP if is_pc else _ACPI + len(tables.data)
    regions = _regions(memory_pages * PAGE_SIZE, is_pc=is_pc)
    frames = [*regions, _special_region(), _acpi_region(tables)]
    usable = [region for region in regions if region.type == XEN_HVM_MEMMAP_TYPE_RAM]
    _check_image(kernel, usable, memory_pages)

    memory_map = tuple(sorted(frames))
    start = page_up(max(kernel.end, _MIB) if is_pc else kernel.end)

    def told_at(information: int, module_start: int) -> bytes:
        module_range = range(module_start, module_start + len(module)) if module else None
        return kernel.protocol.information(
            StartFacts(information, command_line, module_range, memory_map, rsdp)
        )

    if kernel.module_last:
        information = start
        module_start = page_up(information + len(told_at(information, 0)))
    else:
        module_start = start
        information = page_up(module_start + len(module or b""))
    told = told_at(information, module_start)
    end = max(information + len(told), module_start + len(module or b""))
    _check_room(start, end, usable, memory_pages)

    furniture = [
        (tables.address, tables.data),
        (rsdp, tables.rsdp),
        (_SPECIAL_PAGES + _SPECIAL.index(HVM_PARAM_IDENT_PT) * PAGE_SIZE, _identity_directory()),
        (information, told),
    ]
    if module:
        furniture.append((module_start, module))
    if is_pc and kernel.start >= _BIOS_DATA_END:
        furniture.append((_BIOS_DATA, _bios_data()))
    return HvmLayout(
        kernel=kernel,
        frames=tuple(range(region.address >> PAGE_SHIFT, region.end >> PAGE_SHIFT) for region in memory_map),
        memory_map=memory_map,
        parameters=_parameters(),
        information=information,
        furniture=tuple(furniture),
    )


def page_up(address: int) -> int:
    """The first page boundary at or after `address` (bytes)."""
    return -(-address // PAGE_SIZE) * PAGE_SIZE


def _regions(size: int, *, is_pc: bool) -> list[MemoryRegion]:
    """The guest's own memory, of which a PC loses what would lie in the hole."""
    end = min(size, _END_OF_PC_RAM if is_pc else _ACPI)
    bounds = [(0, end, XEN_HVM_MEMMAP_TYPE_RAM)]
    if is_pc:
        bounds = [
            (0, _HOLE, XEN_HVM_MEMMAP_TYPE_RAM),
            (_BIOS, _MIB, XEN_HVM_MEMMAP_TYPE_RESERVED),
            (_MIB, end, XEN_HVM_MEMMAP_TYPE_RAM),
        ]
    bounds.append((_FOUR_GIB, _FOUR_GIB + size - end, XEN_HVM_MEMMAP_TYPE_RAM))
    return [MemoryRegion(first, last - first, kind) for first, last, kind in bounds if last > first]


def _special_region() -> MemoryRegion:
    return MemoryRegion(_SPECIAL_PAGES, len(_SPECIAL) * PAGE_SIZE, XEN_HVM_MEMMAP_TYPE_RESERVED)


def _acpi_region(tables: AcpiTables) -> MemoryRegion:
    """The tables, with room behind them for the root pointer."""
    return MemoryRegion(_ACPI, page_up(len(tables.data) + len(tables.rsdp)), XEN_HVM_MEMMAP_TYPE_ACPI)


def _parameters() -> dict[int, int]:
    frames = {name: (_SPECIAL_PAGES >> PAGE_SHIFT) + number for number, name in enumerate(_SPECIAL)}
    # This one is an address.
    frames[HVM_PARAM_IDENT_PT] <<= PAGE_SHIFT
    return frames


def _bios_data() -> bytes:
    data = bytearray(_BIOS_DATA_END - _BIOS_DATA)
    struct.pack_into("<H", data, _COM1_AT, COM1[0])
    struct.pack_into("<H", data, _KIB_AT, _HOLE >> 10)
    return bytes(data)


def _identity_directory() -> bytes:
    """Maps all of the 4 GiB to themselves, for processors that can't do without paging."""
    return struct.pack("<1024I", *(number << 22 | _LARGE_PAGE for number in range(1024)))


def _check_image(kernel: HvmKernel, usable: list[MemoryRegion], memory_pages: int) -> None:
    for segment in kernel.segments:
        if segment.memory_size and _region_of(segment.address, segment.end, usable) is None:
            raise KernelRefused(
                f"the kernel is linked to {segment.address:#x} to {segment.end:#x}, "
                f"where a domain of {memory_pages >> 8} MiB has no memory",
                "give it more --memory, or link it elsewhere",
            )


def _check_room(start: int, end: int, usable: list[MemoryRegion], memory_pages: int) -> None:
    if _region_of(start, end, usable) is None:
        raise KernelRefused(
            f"kernel, module and start information end at {end:#x}, beyond the domain's memory "
            f"of {memory_pages >> 8} MiB",
            "give it more --memory",
        )


def _region_of(start: int, end: int, regions: list[MemoryRegion]) -> MemoryRegion | None:
    return next((region for region in regions if region.address <= start and end <= region.end), None)
