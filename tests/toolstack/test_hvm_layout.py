"""The layout of domains with guest-physical memory: what is where, and what the guest is told of it."""

import struct
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi import hvm_op
from pvemu.abi.elfnote import XEN_ELFNOTE_MOD_START_PFN
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_kind import read_kernel
from pvemu.toolstack.hvm_kernel import HvmKernel, load_hvm_kernel
from pvemu.toolstack.hvm_layout import HvmLayout, plan_hvm_domain
from tests.elf_builder import PAGE_SIZE, Elf, Load, note
from tests.toolstack.hvm_kernels import BASE, CODE, elf, file, header, pvh_kernel, pvh_note

MIB = 1 << 20
RAM, RESERVED, ACPI = 1, 2, 3
SPECIAL, ACPI_TABLES = 0xFEFF8000, 0xFC000000


class Region(NamedTuple):
    start: int
    size: int
    type: int


class Told(NamedTuple):
    """What the guest reads from where EBX points to."""

    command_line: bytes
    modules: list[bytes]
    memory_map: list[Region]


class Memory:
    """Guest-physical memory in which the layout has put everything; reading outside of it is a mistake."""

    def __init__(self, layout: HvmLayout) -> None:
        self._frames = {frame: bytearray(PAGE_SIZE) for run in layout.frames for frame in run}
        for address, data in layout.contents():
            for offset, byte in enumerate(bytes(data)):
                frame, place = divmod(address + offset, PAGE_SIZE)
                self._frames[frame][place] = byte

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._frames[at // PAGE_SIZE][at % PAGE_SIZE] for at in range(address, address + size))

    def string(self, address: int) -> bytes:
        text = b""
        while (byte := self.read(address + len(text), 1)) != b"\0":
            text += byte
        return text


def plan(
    kernel: HvmKernel | None = None,
    *,
    mib: int = 16,
    vcpus: int = 1,
    is_pc: bool = False,
    line: bytes = b"",
    module: bytes | None = None,
) -> HvmLayout:
    return plan_hvm_domain(
        kernel or pvh_kernel(),
        memory_pages=mib * 256,
        vcpus=vcpus,
        is_pc=is_pc,
        command_line=line,
        module=module,
    )


def told_by_pvh(layout: HvmLayout) -> Told:
    memory = Memory(layout)
    magic, version, flags, modules, modlist, line, rsdp, memmap, entries, reserved = struct.unpack(
        "<4I4Q2I", memory.read(layout.information, 56)
    )
    assert (magic, version, flags, reserved) == (0x336EC578, 1, 0, 0)
    assert memory.read(rsdp, 8) == b"RSD PTR "
    contents = []
    for number in range(modules):
        start, size, _, _ = struct.unpack("<4Q", memory.read(modlist + 32 * number, 32))
        assert start % PAGE_SIZE == 0
        contents.append(memory.read(start, size))
    regions = [
        Region(*struct.unpack("<QQI4x", memory.read(memmap + 24 * number, 24))) for number in range(entries)
    ]
    return Told(memory.string(line), contents, regions)


def told_by_multiboot(layout: HvmLayout) -> Told:
    memory = Memory(layout)
    fields = struct.unpack("<22I", memory.read(layout.information, 88))
    flags, lower, upper = fields[:3]
    assert flags & ~(1 << 3) == 1 << 0 | 1 << 2 | 1 << 6 | 1 << 9
    assert (lower, upper) == (
        640,
        sum(region.size for region in layout.memory_map if region[::2] == (MIB, 1)) // 1024,
    )
    contents = []
    for number in range(fields[5] if flags & 1 << 3 else 0):
        start, end, _, _ = struct.unpack("<4I", memory.read(fields[6] + 16 * number, 16))
        contents.append(memory.read(start, end - start))
    regions, at = [], fields[12]
    while at < fields[12] + fields[11]:
        size, *region = struct.unpack("<IQQI", memory.read(at, 24))
        regions.append(Region(*region))
        at += size + 4
    assert memory.string(fields[16])
    return Told(memory.string(fields[4]), contents, regions)


def multiboot_kernel() -> HvmKernel:
    return load_hvm_kernel(file(elf(code=header() + CODE)))


def test_a_pvh_guest_has_memory_from_0_up_as_xens_toolstack_makes_it() -> None:
    layout = plan(mib=16)
    assert [region for region in told_by_pvh(layout).memory_map if region.type != ACPI] == [
        (0, 16 * MIB, RAM),
        (SPECIAL, 8 * PAGE_SIZE, RESERVED),
    ]


def test_a_pc_has_a_hole_below_one_mebibyte_with_a_bios_at_its_end() -> None:
    layout = plan(mib=16, is_pc=True)
    assert [region for region in told_by_pvh(layout).memory_map if region.type != ACPI] == [
        (0, 0xA0000, RAM),
        (0xE0000, 0x20000, RESERVED),
        (MIB, 15 * MIB, RAM),
        (SPECIAL, 8 * PAGE_SIZE, RESERVED),
    ]


def test_acpi_s_root_pointer_is_where_programs_look_that_nobody_has_told() -> None:
    memory = Memory(plan(is_pc=True))
    places = [at for at in range(0xE0000, MIB, 16) if memory.read(at, 8) == b"RSD PTR "]
    assert len(places) == 1


@pytest.mark.parametrize(("is_pc", "base"), [(True, MIB), (True, 0x500), (True, 0x400), (False, MIB)])
def test_a_pc_s_bios_has_left_word_of_low_memory_where_no_kernel_lies(is_pc: bool, base: int) -> None:
    """By it Xen, as a guest, finds room below 640 KiB."""
    layout = plan(pvh_kernel(Load(base, CODE), entry=base), is_pc=is_pc)
    words = struct.unpack("<HH", Memory(layout).read(0x400, 2) + Memory(layout).read(0x413, 2))
    if base >= 0x500:
        assert words == ((0x3F8, 640) if is_pc else (0, 0))
    assert Memory(layout).read(base, len(CODE)) == CODE


@pytest.mark.parametrize(("is_pc", "end"), [(False, 0xFC000000), (True, 0xF0000000)])
def test_memory_that_devices_have_taken_lies_above_four_gib(is_pc: bool, end: int) -> None:
    layout = plan(mib=4080, is_pc=is_pc)
    assert layout.memory_map[-1] == (1 << 32, 4080 * MIB - end, RAM)
    assert max(region.end for region in layout.memory_map[:-1] if region.type == RAM) == end
    assert sum(region.size for region in layout.memory_map if region.type == RAM) == 4080 * MIB - (
        0x60000 if is_pc else 0
    )


def test_the_special_pages_are_named_by_parameters() -> None:
    layout = plan()
    frames = {
        hvm_op.HVM_PARAM_PAGING_RING_PFN: 0xFEFF8,
        hvm_op.HVM_PARAM_MONITOR_RING_PFN: 0xFEFF9,
        hvm_op.HVM_PARAM_SHARING_RING_PFN: 0xFEFFA,
        hvm_op.HVM_PARAM_BUFIOREQ_PFN: 0xFEFFB,
        hvm_op.HVM_PARAM_STORE_PFN: 0xFEFFC,
        hvm_op.HVM_PARAM_IOREQ_PFN: 0xFEFFD,
        hvm_op.HVM_PARAM_IDENT_PT: 0xFEFFE000,
        hvm_op.HVM_PARAM_CONSOLE_PFN: 0xFEFFF,
    }
    assert layout.parameters == frames
    assert (layout.store_frame, layout.console_frame) == (0xFEFFC, 0xFEFFF)


def test_the_identity_page_directory_maps_four_gib() -> None:
    entries = struct.unpack("<1024I", Memory(plan()).read(0xFEFFE000, PAGE_SIZE))
    assert [entry >> 22 for entry in entries] == list(range(1024))
    assert {entry & 0x3FFFFF for entry in entries} == {0xE7}


@pytest.mark.parametrize("module", [None, b"an initrd" * 1000])
@pytest.mark.parametrize("is_pc", [False, True])
def test_a_pvh_kernel_is_told_its_command_line_and_its_module(is_pc: bool, module: bytes | None) -> None:
    told = told_by_pvh(plan(is_pc=is_pc, line=b"root=/dev/xvda quiet", module=module))
    assert told.command_line == b"root=/dev/xvda quiet"
    assert told.modules == ([] if module is None else [module])


@pytest.mark.parametrize("module", [None, b"an initrd" * 1000])
def test_a_multiboot_kernel_is_told_the_same(module: bytes | None) -> None:
    layout = plan(multiboot_kernel(), is_pc=True, line=b"one two", module=module)
    told = told_by_multiboot(layout)
    assert told == Told(
        b"one two", [] if module is None else [module], [Region(*each) for each in layout.memory_map]
    )


def test_the_kernel_lies_where_its_file_says_and_zeros_are_zero() -> None:
    loads = (
        Load(0x300000, b"B" * 100, memory_size=5000),
        Load(0x200000, b"A" * 5000),
        Load(0x201000, b"C" * 10, memory_size=100),
    )
    memory = Memory(plan(pvh_kernel(*loads, entry=0x200000)))
    assert memory.read(0x300000, 5000) == b"B" * 100 + bytes(4900)
    assert memory.read(0x200000, 5000) == b"A" * 4096 + b"C" * 10 + bytes(90) + b"A" * 804


@pytest.mark.parametrize(
    ("load", "mib", "is_pc"),
    [
        (Load(15 * MIB, CODE, memory_size=2 * MIB), 16, False),
        (Load(16 * MIB, CODE), 16, False),
        (Load(0x9F000, CODE, memory_size=0x2000), 16, True),
        (Load(0xE0000, CODE), 16, True),
        (Load(ACPI_TABLES, CODE), 16, False),
        (Load(SPECIAL, CODE), 16, False),
        (Load(MIB, CODE), 1, True),
    ],
    ids=["runs over", "lies beyond", "hole", "BIOS", "ACPI", "special pages", "tiny"],
)
def test_a_kernel_that_lies_where_there_is_no_memory_is_refused(load: Load, mib: int, is_pc: bool) -> None:
    with pytest.raises(KernelRefused, match="--memory"):
        plan(pvh_kernel(load, entry=load.paddr), mib=mib, is_pc=is_pc)


@pytest.mark.parametrize("is_pc", [False, True])
@pytest.mark.parametrize(
    ("notes", "module_is_last"),
    [(b"", False), (note(XEN_ELFNOTE_MOD_START_PFN, 1), True), (note(XEN_ELFNOTE_MOD_START_PFN, 0), False)],
    ids=["no note", "1", "0"],
)
def test_a_kernel_that_can_do_without_a_mapping_of_its_module_finds_the_start_information_before_it(
    notes: bytes, module_is_last: bool, is_pc: bool
) -> None:
    """Linux maps little more than itself before it reads the information."""
    built = Elf(0, [Load(BASE, CODE)], notes=pvh_note(BASE) + notes).build()
    layout = plan(load_hvm_kernel(read_kernel(built)), is_pc=is_pc, module=b"an initrd" * 1000)
    module = next(address for address, data in layout.furniture if data == b"an initrd" * 1000)
    assert (layout.information < module) is module_is_last
    assert min(layout.information, module) == BASE + PAGE_SIZE
    assert told_by_pvh(layout).modules == [b"an initrd" * 1000]


def test_a_module_that_does_not_fit_is_refused() -> None:
    with pytest.raises(KernelRefused, match="--memory"):
        plan(mib=4, module=bytes(3 * MIB))


@given(
    mib=st.integers(2, 4095),
    start=st.integers(0, 2 * MIB),
    size=st.integers(1, 3 * MIB),
    line=st.binary(max_size=2000).filter(lambda text: b"\0" not in text),
    module=st.integers(0, 3 * MIB),
    vcpus=st.integers(1, 32),
    is_pc=st.booleans(),
    module_last=st.booleans(),
)
def test_nothing_overlaps_and_all_of_it_has_memory(
    mib: int, start: int, size: int, line: bytes, module: int, vcpus: int, is_pc: bool, module_last: bool
) -> None:
    load = Load(start, CODE, memory_size=max(size, len(CODE)))
    notes = pvh_note(start) + note(XEN_ELFNOTE_MOD_START_PFN, int(module_last))
    kernel = load_hvm_kernel(read_kernel(Elf(0, [load], notes=notes).build()))
    try:
        layout = plan(kernel, mib=mib, vcpus=vcpus, is_pc=is_pc, line=line, module=bytes(module))
    except KernelRefused:
        return
    memory_map = layout.memory_map
    assert all(one.end <= other.address for one, other in pairwise(memory_map))
    assert layout.frames == tuple(
        range(region.address // PAGE_SIZE, region.end // PAGE_SIZE) for region in memory_map
    )
    taken = [(kernel.start, kernel.end)]
    taken += [(address, address + len(data)) for address, data in layout.furniture]
    for first, last in taken:
        assert any(region.address <= first and last <= region.end for region in memory_map)
    taken.sort()
    assert all(one[1] <= other[0] for one, other in pairwise(taken))
