"""The layout of a new domain: against what kernels found on real Xen, and by the rules of the ABI."""

from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pvemu.abi import elfnote
from pvemu.abi.arch_x86 import HYPERVISOR_VIRT_START_PAE
from pvemu.toolstack.boot_page_tables import PageTableEntry
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.kernel import load_kernel
from pvemu.toolstack.layout import Area, DomainLayout, plan_domain
from tests.elf_builder import PAGE_SIZE, Load
from tests.toolstack.kernel_variants import (
    HIGH_BASE,
    IMAGE_PADDR,
    LAYOUTS,
    MODULE,
    VARIANTS,
    WITH_MODULE,
    base_notes,
    image,
    kernel,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "boot-layouts32.txt"
SIF_PRIVILEGED_INITDOMAIN, SIF_MOD_START_PFN = 3, 8
MIB = 1 << 20


def golden_layouts() -> dict[str, set[str]]:
    """The lines of each section of the golden file; their order is that of the probe's walk."""
    sections: dict[str, set[str]] = {}
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("["):
            lines = sections[line.strip("[]")] = set()
        elif not line.startswith("#"):
            lines.add(line)
    return sections


def plan(
    name: str = "base", *, mib: int = 256, privileged: bool = True, module: bytes | None = None
) -> DomainLayout:
    loaded = load_kernel(VARIANTS[name](b"").build())
    return plan_domain(loaded, memory_pages=mib * MIB // PAGE_SIZE, privileged=privileged, module=module)


def mapped_pages(layout: DomainLayout) -> int:
    """Frames that the boot page tables map: pfns 0 to this, less one."""
    return (layout.virt_end - layout.virt_start) // PAGE_SIZE


def as_probed(layout: DomainLayout) -> Iterator[str]:
    """The layout in the words of the probe kernel."""
    by_pfn = layout.module is not None and layout.module.virtual is None
    fields = {
        "nr_pages": layout.memory_pages,
        "flags": SIF_PRIVILEGED_INITDOMAIN | (SIF_MOD_START_PFN if by_pfn else 0),
        "pt_base": layout.page_tables.virtual,
        "nr_pt_frames": layout.page_tables.pages,
        "mfn_list": layout.p2m.virtual,
        "mod_start": layout.mod_start,
        "mod_len": layout.mod_len,
        "first_p2m_pfn": layout.first_p2m_pfn,
        "nr_p2m_frames": 0,
        "machphys": HYPERVISOR_VIRT_START_PAE,
    }
    yield from (f"{name} {value:08x}" for name, value in fields.items())
    tables = {table.pfn: table for table in layout.tables}
    leaves = []
    for entry in layout.page_table_entries():
        table = tables[entry.table_pfn]
        address = table.virtual + entry.slot * {3: 1 << 30, 2: 1 << 21, 1: 1 << 12}[table.level]
        if table.level == 1:
            leaves.append((address, entry.flags))
        else:
            yield f"L{table.level} {address:08x} pfn {entry.target_pfn:08x} flags {entry.flags:08x}"
    for flags, run in groupby(sorted(leaves), key=lambda leaf: leaf[1]):
        addresses = [address for address, _ in run]
        yield f"L1 {addresses[0]:08x} to {addresses[-1] + PAGE_SIZE:08x} flags {flags:08x}"


@pytest.mark.parametrize("name", LAYOUTS)
def test_domain_0_is_laid_out_as_real_xen_does(name: str) -> None:
    layout = plan(name, module=MODULE if name in WITH_MODULE else None)
    assert set(as_probed(layout)) == golden_layouts()[name]


def test_the_parts_of_a_domain_0_of_256_mib_are_where_its_kernel_found_them() -> None:
    """The numbers are those of a kernel with an image from C0100000 to C010C000."""
    elf = kernel(b"")
    elf.loads[0].memory_size = 0xC000
    layout = plan_domain(load_kernel(elf.build()), memory_pages=0x10000, privileged=True)
    assert (layout.image.virtual, layout.image.end, layout.image.pfn) == (0xC0100000, 0xC010C000, 0x100)
    assert (layout.p2m.virtual, layout.p2m.size) == (0xC010C000, 0x40000)
    assert (layout.start_info.virtual, layout.start_info.pfn) == (0xC014C000, 0x14C)
    assert [(table.level, table.pfn) for table in layout.tables] == [
        *((3, 0x14D), (1, 0x14E), (2, 0x14F), (1, 0x150)),
        *((2, 0x151), (2, 0x152), (2, 0x153)),
    ]
    assert (layout.stack.virtual, layout.stack_pointer, layout.virt_end) == (
        0xC0154000,
        0xC0155000,
        0xC0400000,
    )
    assert layout.first_p2m_pfn == 0x400


def test_an_unprivileged_domain_has_its_xenstore_and_console_pages_after_start_info() -> None:
    domain_0, domain_u = plan(), plan(privileged=False)
    assert domain_0.xenstore is None and domain_0.console is None
    assert domain_u.xenstore is not None and domain_u.console is not None
    assert domain_u.start_info == domain_0.start_info
    assert domain_u.xenstore.pfn == domain_u.start_info.pfn + 1
    assert domain_u.console.pfn == domain_u.start_info.pfn + 2
    assert domain_u.page_tables.pfn == domain_u.start_info.pfn + 3
    assert domain_u.first_p2m_pfn == 0


def test_an_unmapped_module_of_an_unprivileged_domain_comes_after_all_that_is_mapped() -> None:
    layout = plan("with-module-by-pfn", privileged=False, module=MODULE)
    assert layout.module is not None and layout.module.virtual is None
    assert layout.mod_start == layout.module.pfn == mapped_pages(layout)
    assert layout.mod_len == 2 * PAGE_SIZE


def test_an_empty_module_is_no_module() -> None:
    layout = plan("with-module", module=b"")
    assert (layout.module, layout.mod_start, layout.mod_len) == (None, 0, 0)


def test_the_contents_are_those_of_the_file_at_the_frames_of_the_image() -> None:
    elf = kernel(b"code")
    elf.loads.append(Load(IMAGE_PADDR + 0x8123, b"second", memory_size=5000))
    layout = plan_domain(load_kernel(elf.build()), memory_pages=0x10000, privileged=False, module=MODULE)
    assert layout.module is not None and layout.module.virtual == HIGH_BASE + layout.module.pfn * PAGE_SIZE
    assert [(at, bytes(data)) for at, data in layout.contents()] == [
        (0x100000, image(b"code")),
        (0x108123, b"second"),
        (layout.module.pfn * PAGE_SIZE, MODULE),
    ]


def test_a_segment_that_overlaps_earlier_ones_has_the_last_word_with_its_zeros_too() -> None:
    elf = kernel(b"")
    elf.loads = [
        Load(IMAGE_PADDR, b"a" * 0x3000),
        Load(IMAGE_PADDR + 0x1000, b"b" * 0x800, memory_size=0x1000),
    ]
    layout = plan_domain(load_kernel(elf.build()), memory_pages=0x10000, privileged=True)
    memory = bytearray(0x104000)
    for at, data in layout.contents():
        memory[at : at + len(data)] = data
    written = b"a" * 0x1000 + b"b" * 0x800 + bytes(0x800) + b"a" * 0x1000
    assert memory[IMAGE_PADDR:] == written + bytes(0x1000)


@pytest.mark.parametrize(
    ("mib", "privileged", "reason"),
    [
        (3, False, "not enough memory for initial mapping (0x400 > 0x300)"),
        (3, True, "Domain 0 allocation is too small for kernel image"),
    ],
)
def test_a_domain_smaller_than_its_boot_mapping_is_refused(mib: int, privileged: bool, reason: str) -> None:
    with pytest.raises(KernelRefused, match="at least 4 MiB") as refusal:
        plan(mib=mib, privileged=privileged)
    assert refusal.value.reason == reason


def test_domain_0_needs_a_power_of_two_for_what_is_mapped_and_an_unprivileged_domain_does_not() -> None:
    """40 MiB are mapped: domain 0 is built in one block of 64 MiB."""
    elf = kernel(b"")
    elf.loads[0].memory_size = 36 * MIB
    loaded = load_kernel(elf.build())
    assert mapped_pages(plan_domain(loaded, memory_pages=40 * 256, privileged=False)) == 40 * 256
    assert mapped_pages(plan_domain(loaded, memory_pages=64 * 256, privileged=True)) == 40 * 256
    with pytest.raises(KernelRefused, match="at least 64 MiB"):
        plan_domain(loaded, memory_pages=64 * 256 - 1, privileged=True)


@given(
    base=st.integers(0, 0xF5800).map(lambda page: page * PAGE_SIZE),
    gap=st.integers(0, 3 * MIB),
    size=st.integers(1, 40 * MIB),
    memory_pages=st.integers(512, 0x40000),
    privileged=st.booleans(),
    module_size=st.integers(0, 20000),
    by_pfn=st.booleans(),
)
def test_every_layout_obeys_the_rules_of_the_start_of_day(
    base: int, gap: int, size: int, memory_pages: int, privileged: bool, module_size: int, by_pfn: bool
) -> None:
    notes = base_notes(base) | {
        elfnote.XEN_ELFNOTE_ENTRY: base + gap,
        elfnote.XEN_ELFNOTE_MOD_START_PFN: by_pfn,
    }
    del notes[elfnote.XEN_ELFNOTE_HYPERCALL_PAGE]
    assume(base + gap < 1 << 32)
    elf = kernel(b"", notes, link_base=0)
    elf.loads = [Load(gap, b"x", memory_size=size)]
    loaded = load_kernel(elf.build())
    try:
        layout = plan_domain(
            loaded, memory_pages=memory_pages, privileged=privileged, module=bytes(module_size)
        )
    except KernelRefused:
        return
    check_areas(layout)
    check_tables(layout)


def check_areas(layout: DomainLayout) -> None:
    """Public xen.h: order, no holes, 1:1 with the pfns, the end of the mapping, all within memory."""
    module = layout.module
    areas = [layout.image]
    if module is not None and module.virtual is not None:
        areas.append(Area(module.virtual, module.pfn, len(module.data)))
    areas += [layout.p2m, layout.start_info]
    areas += [area for area in (layout.xenstore, layout.console) if area]
    areas += [layout.page_tables, layout.stack]
    for before, after in pairwise(areas):
        assert before.end == after.virtual
    for area in areas:
        assert area.virtual % PAGE_SIZE == 0
        assert area.virtual == layout.virt_start + area.pfn * PAGE_SIZE
    assert layout.p2m.size == 4 * layout.memory_pages
    assert layout.virt_end % (4 * MIB) == 0
    assert 512 << 10 <= layout.virt_end - layout.stack.end < (512 << 10) + 4 * MIB
    assert layout.virt_end <= HYPERVISOR_VIRT_START_PAE
    assert mapped_pages(layout) <= layout.memory_pages
    if module is not None:
        assert module.pfn + module.pages <= layout.memory_pages
        assert module.virtual is not None or module.pfn >= mapped_pages(layout)


def check_tables(layout: DomainLayout) -> None:
    """Walking the tables from the L3 finds each mapped page once, and finds every table's frame read-only."""
    assert len(layout.tables) == layout.page_tables.pages
    assert layout.tables[0].level == 3
    frames = {table.pfn for table in layout.tables}
    assert frames == set(range(layout.page_tables.pfn, layout.page_tables.pfn + layout.page_tables.pages))
    entries: dict[int, list[PageTableEntry]] = {pfn: [] for pfn in frames}
    for entry in layout.page_table_entries():
        entries[entry.table_pfn].append(entry)
    mapped = {}
    for l3 in entries[layout.tables[0].pfn]:
        for l2 in entries[l3.target_pfn]:
            for l1 in entries[l2.target_pfn]:
                mapped[l3.slot << 30 | l2.slot << 21 | l1.slot << 12] = l1
    assert [entry.slot for entry in entries[layout.tables[0].pfn]] == [0, 1, 2, 3]
    assert sorted(mapped) == list(range(layout.virt_start, layout.virt_end, PAGE_SIZE))
    for virtual, entry in mapped.items():
        assert entry.target_pfn == (virtual - layout.virt_start) // PAGE_SIZE
        writable = bool(entry.flags & 2)
        assert writable == (entry.target_pfn not in frames)
        assert entry.flags & 0x21 == 0x21 and not entry.flags & ~0x63
