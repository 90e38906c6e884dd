"""The layout of a new PV domain: which page frames and virtual addresses each part of it gets.

The rules are those of the comment on the start of day in public xen.h, as Xen's builder of domain 0 applies
them: from VIRT_BASE up, virtual address and pfn grow together; each part begins on a page; the mapping
ends on a 4 MiB boundary with at least 512 KiB after the last part.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pvemu.memory.ram import PAGE_SIZE
from pvemu.toolstack.boot_page_tables import (
    CLEAN_PAGE,
    READ_ONLY_PAGE,
    WRITTEN_PAGE,
    PageTable,
    PageTableEntry,
    boot_entries,
    boot_table_count,
    boot_tables,
)
from pvemu.toolstack.domain_fit import (
    check_fit,
    check_hypercall_page,
    check_image,
    check_kind,
    dom0_allocation,
)
from pvemu.toolstack.image_segments import segment_contents
from pvemu.toolstack.kernel import Kernel

MAPPING_GRANULE = 4 << 20
SPARE_AFTER_STACK = 512 << 10
P2M_ENTRY_SIZE = 4
"""Bytes of one entry of a 32-bit guest's p2m list."""


@dataclass(frozen=True, slots=True)
class Area:
    """A run of whole pages with one purpose: where it is mapped, its first frame, the bytes in use."""

    virtual: int
    pfn: int
    size: int

    @property
    def pages(self) -> int:
        """Page frames taken."""
        return -(-self.size // PAGE_SIZE)

    @property
    def end(self) -> int:
        """The virtual address after the last page."""
        return self.virtual + self.pages * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Module:
    """The boot module (an initrd); `virtual` is None when the kernel asked for it by pfn, unmapped."""

    data: bytes
    pfn: int
    virtual: int | None

    @property
    def pages(self) -> int:
        """Page frames taken."""
        return -(-len(self.data) // PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class DomainLayout:
    """Everything the builder needs to know of a new domain before it has a single frame.

    `l1_flags[pfn]` are the flags of the mapping of that frame; `first_p2m_pfn` is the value of the field of
    that name in start_info. `xenstore` and `console` are None in a privileged domain; `shared_info` is None
    unless the domain is auto-translated.
    """

    kernel: Kernel
    memory_pages: int
    privileged: bool
    image: Area
    module: Module | None
    p2m: Area
    start_info: Area
    xenstore: Area | None
    console: Area | None
    shared_info: Area | None
    page_tables: Area
    stack: Area
    virt_start: int
    virt_end: int
    tables: tuple[PageTable, ...]
    l1_flags: bytes
    first_p2m_pfn: int

    @property
    def stack_pointer(self) -> int:
        """The stack pointer at entry: the end of the boot stack's page."""
        return self.stack.end

    @property
    def mod_start(self) -> int:
        """start_info's mod_start: a virtual address, or a pfn if the module is unmapped, or 0 without one."""
        if self.module is None:
            return 0
        return self.module.pfn if self.module.virtual is None else self.module.virtual

    @property
    def mod_len(self) -> int:
        """start_info's mod_len, in bytes; the tools of a domU count an unmapped module in whole pages."""
        if self.module is None:
            return 0
        whole_pages = self.module.virtual is None and not self.privileged
        return self.module.pages * PAGE_SIZE if whole_pages else len(self.module.data)

    def pseudo_physical(self, virtual: int) -> int:
        """The guest-physical byte address (pfn * 4096 + offset) that `virtual` is mapped to at boot."""
        return virtual - self.virt_start

    def contents(self) -> Iterator[tuple[int, bytes | memoryview]]:
        """What to copy into zeroed memory, in this order: (guest-physical byte address, bytes)."""
        for address, data in segment_contents(self.kernel.segments):
            yield self.pseudo_physical(address), data
        if self.module is not None:
            yield self.module.pfn * PAGE_SIZE, self.module.data

    def page_table_entries(self) -> Iterator[PageTableEntry]:
        """Every present entry of the boot page tables; targets are pfns, to be replaced by their mfns."""
        return boot_entries(self.tables, self.virt_start, self.l1_flags)


class _Places:
    """Hands out consecutive areas, from a virtual address upwards."""

    def __init__(self, start: int, first: int) -> None:
        self.start = start
        self.next = page_up(first)

    def take(self, size: int) -> Area:
        area = Area(self.next, (self.next - self.start) // PAGE_SIZE, size)
        self.next = area.end
        return area


def page_up(address: int) -> int:
    """The first page boundary at or after `address` (bytes)."""
    return -(-address // PAGE_SIZE) * PAGE_SIZE


def plan_domain(
    kernel: Kernel,
    *,
    memory_pages: int,
    privileged: bool,
    module: bytes | None = None,
    translated: bool = False,
) -> DomainLayout:
    """Lays out a domain of `memory_pages` pages (4 KiB each) that boots `kernel`.

    A privileged domain is laid out as Xen does for domain 0; another one has, besides, the pages of xenstore
    and of the console, and behind them its shared_info if it is `translated`: its frame numbers are its own.
    Raises KernelRefused if the kernel cannot run in such a domain, with Xen's reason.
    """
    check_kind(kernel, privileged)
    check_image(kernel, memory_pages, privileged)
    start = kernel.virt_base
    module_pages = page_up(len(module or b"")) // PAGE_SIZE
    mapped_module = not kernel.module_by_pfn
    image_start = kernel.virt_kstart // PAGE_SIZE * PAGE_SIZE
    image = Area(image_start, (image_start - start) // PAGE_SIZE, kernel.virt_kend - image_start)
    places = _Places(start, kernel.virt_kend)
    module_area = places.take(module_pages * PAGE_SIZE if mapped_module else 0)
    p2m = places.take(memory_pages * P2M_ENTRY_SIZE)
    start_info = places.take(PAGE_SIZE)
    xenstore = None if privileged else places.take(PAGE_SIZE)
    console = None if privileged else places.take(PAGE_SIZE)
    shared_info = places.take(PAGE_SIZE) if translated else None
    page_tables = places.take(_table_pages(start, places.next) * PAGE_SIZE)
    stack = places.take(PAGE_SIZE)

    end = mapping_end(stack.end)
    allocation = (end - start) // PAGE_SIZE - module_area.pages
    if privileged:
        allocation = dom0_allocation(allocation)
    check_fit(allocation + module_pages, memory_pages, end, privileged)
    check_hypercall_page(kernel, range(start, end), range(page_tables.virtual, page_tables.end))
    written = [p2m, start_info, xenstore, console, shared_info, stack]
    tables_flags = CLEAN_PAGE if translated else READ_ONLY_PAGE
    return DomainLayout(
        kernel=kernel,
        memory_pages=memory_pages,
        privileged=privileged,
        image=image,
        module=_module(module, module_area if mapped_module else None, allocation),
        p2m=p2m,
        start_info=start_info,
        xenstore=xenstore,
        console=console,
        shared_info=shared_info,
        page_tables=page_tables,
        stack=stack,
        virt_start=start,
        virt_end=end,
        tables=boot_tables(start, end, page_tables.pfn),
        l1_flags=_l1_flags(kernel, [area for area in written if area], page_tables, tables_flags, end),
        first_p2m_pfn=allocation + module_pages if privileged else 0,
    )


def mapping_end(stack_end: int) -> int:
    """Where the boot mapping ends when the boot stack ends at `stack_end` (virtual addresses)."""
    return -(-(stack_end + SPARE_AFTER_STACK) // MAPPING_GRANULE) * MAPPING_GRANULE


def _table_pages(start: int, tables_start: int) -> int:
    """How many tables are needed: they lie in the region that they map, so their number decides itself."""
    pages = 0
    while (needed := boot_table_count(start, mapping_end(tables_start + (pages + 1) * PAGE_SIZE))) > pages:
        pages = needed
    return pages


def _module(data: bytes | None, area: Area | None, unmapped_pfn: int) -> Module | None:
    if not data:
        return None
    return Module(data, unmapped_pfn, None) if area is None else Module(data, area.pfn, area.virtual)


def _l1_flags(
    kernel: Kernel, written: Iterable[Area], page_tables: Area, tables_flags: int, end: int
) -> bytes:
    """Flags by pfn: pages that the builder writes are dirty from the start; page tables have their own."""
    start = kernel.virt_base
    flags = bytearray([CLEAN_PAGE]) * ((end - start) // PAGE_SIZE)

    def mark(first: int, last: int, value: int) -> None:
        pages = slice((first - start) // PAGE_SIZE, -(-(last - start) // PAGE_SIZE))
        flags[pages] = bytes([value]) * (pages.stop - pages.start)

    for segment in kernel.segments:
        mark(segment.address, segment.end, WRITTEN_PAGE)
    for area in written:
        mark(area.virtual, area.end, WRITTEN_PAGE)
    mark(page_tables.virtual, page_tables.end, tables_flags)
    return bytes(flags)
