"""The walk of a guest's tables against a plain one, with frames elsewhere, holes and read-only memory."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paging_cases import ACCESSES, Case, cases
from reference_walk import Memory, Reached, read_entry, reference_walk

from pvemu.memory.guest_walk import GuestPageFault, GuestTranslation, PagingMode, root_of, walk
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE, FOUR_LEVEL, PAE, TWO_LEVEL
from pvemu.memory.ram import PAGE_SIZE, Ram

#: The guest's frames with RAM, and where they are in the machine.
_GUEST = range(0x20, 0x2C)
_MACHINE = {gfn: 40 - 3 * number for number, gfn in enumerate(_GUEST)}
_CR0_PG, _CR0_WP, _PSE, _PAE, _LME, _NXE = 1 << 31, 1 << 16, 1 << 4, 1 << 5, 1 << 8, 1 << 11


def _memory_of(case: Case) -> Memory:
    memory = {gfn: bytearray(PAGE_SIZE) for gfn in _GUEST}
    assert case.mode.form is not None
    size = case.mode.form.entry_size
    for frame, slot, value in case.entries:
        struct.pack_into("<I" if size == 4 else "<Q", memory[frame], slot * size, value)
    return memory


def _ram_of(memory: Memory) -> Ram:
    ram = Ram(64 * PAGE_SIZE)
    for gfn, contents in memory.items():
        ram.frame(_MACHINE[gfn])[:] = contents
    return ram


def _walk(ram: Ram, case: Case, **options: object) -> GuestTranslation | int:
    """The translation, or the error code."""
    try:
        arguments = (ram, _MACHINE.get, case.mode, case.cr3, case.address, case.access)
        return walk(*arguments, **options)  # type: ignore[arg-type]
    except GuestPageFault as fault:
        return fault.error_code


def _expected(memory: Memory, case: Case, read_only: frozenset[int] = frozenset()) -> int:
    """Address or error code, by the plain walk; its bits are set in memory."""
    found = reference_walk(
        memory,
        case.mode,
        case.cr3,
        case.address,
        write=bool(case.access & FAULT_WRITE),
        user=bool(case.access & FAULT_USER),
        fetch=bool(case.access & FAULT_FETCH),
    )
    for place, bits in found.used:
        if place >> 12 in memory and place >> 12 not in read_only:
            memory[place >> 12][place & 0xFFF] |= bits
    return found.address if isinstance(found, Reached) else found.error_code


@given(cases(_GUEST), st.frozensets(st.sampled_from(_GUEST), max_size=6))
def test_the_walk_is_the_plain_one(case: Case, read_only: frozenset[int]) -> None:
    memory = _memory_of(case)
    ram = _ram_of(memory)
    found = _walk(ram, case, is_writable=lambda gfn: gfn not in read_only)
    assert (found if isinstance(found, int) else found.address) == _expected(memory, case, read_only)
    assert {gfn: bytes(ram.frame(_MACHINE[gfn])) for gfn in _GUEST} == memory


@given(cases(_GUEST))
def test_a_walk_that_only_looks_changes_nothing(case: Case) -> None:
    memory = _memory_of(case)
    ram = _ram_of(memory)
    before = bytes(ram.u8)
    found = _walk(ram, case, update=False)
    assert bytes(ram.u8) == before
    assert (found if isinstance(found, int) else found.address) == _expected(memory, case)


@given(cases(_GUEST))
def test_the_entries_that_a_walk_names_are_those_in_memory(case: Case) -> None:
    memory = _memory_of(case)
    ram = _ram_of(memory)
    found = _walk(ram, case)
    if isinstance(found, int):
        return
    assert case.mode.form is not None
    size = case.mode.form.entry_size
    assert [entry.level for entry in found.entries] == sorted(
        (entry.level for entry in found.entries), reverse=True
    )
    after = {gfn: bytearray(ram.frame(_MACHINE[gfn])) for gfn in _GUEST}
    for entry in found.entries:
        # One entry may serve at two levels, and be marked dirty after it was used at the upper one.
        assert (
            read_entry(after, entry.gfn * PAGE_SIZE + entry.slot * size, size) & ~0x60 == entry.value & ~0x60
        )


@given(st.integers(0, (1 << 32) - 1), ACCESSES)
def test_without_paging_an_address_is_itself(address: int, access: int) -> None:
    found = walk(Ram(PAGE_SIZE), {}.get, PagingMode(None), 0xFFFFFFFF, address, access)
    assert (found.address, found.page_size, found.entries) == (address, PAGE_SIZE, ())


@pytest.mark.parametrize(
    ("cr0", "cr4", "efer", "expected"),
    [
        (_CR0_WP, _PAE | _PSE, _NXE | _LME, PagingMode(None)),
        (_CR0_PG, 0, 0, PagingMode(TWO_LEVEL)),
        (_CR0_PG | _CR0_WP, _PSE, _NXE, PagingMode(TWO_LEVEL, True, False, True)),
        (_CR0_PG, _PAE, 0, PagingMode(PAE, False, False, True)),
        (_CR0_PG | _CR0_WP, _PAE, _NXE, PagingMode(PAE, True, True, True)),
        (_CR0_PG, _PAE, _LME | _NXE, PagingMode(FOUR_LEVEL, False, True, True)),
        (_CR0_PG | _CR0_WP, _PAE | _PSE, _LME, PagingMode(FOUR_LEVEL, True, False, True)),
    ],
)
def test_the_registers_say_the_mode(cr0: int, cr4: int, efer: int, expected: PagingMode) -> None:
    assert PagingMode.of(cr0, cr4, efer) == expected


@pytest.mark.parametrize(
    ("form", "cr3", "expected"),
    [
        (TWO_LEVEL, 0xFFFFFFFF, (0xFFFFF, 0)),
        (PAE, 0x12345FE0, (0x12345, 508)),
        (PAE, 0x1234503F, (0x12345, 4)),
        (FOUR_LEVEL, 0xFF_FFFF_F018, (0xFFFFFFF, 0)),
        (None, 0x5000, (5, 0)),
    ],
)
def test_cr3_names_the_root(form: object, cr3: int, expected: tuple[int, int]) -> None:
    assert root_of(PagingMode(form), cr3) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "address", "expected"),
    [
        (0xFFC00083, 0x3FFABC, 0xFFFFFABC),  # 4 MiB below 4 GiB
        (0x00802083, 0x1234, 0x1_0080_1234),  # bit 13 is address bit 32
        (0x001FE083, 0, 0xFF_0000_0000),  # bits 13 to 20 are address bits 32 to 39
    ],
)
def test_a_large_page_of_two_levels_has_forty_address_bits(entry: int, address: int, expected: int) -> None:
    ram = Ram(PAGE_SIZE)
    ram.u32[0] = entry
    mode = PagingMode(TWO_LEVEL, large_pages=True)
    found = walk(ram, {0: 0}.get, mode, 0, address, 0)
    assert (found.address, found.page_size) == (expected, 4 << 20)


def test_without_pse_a_large_bit_means_nothing() -> None:
    ram = Ram(2 * PAGE_SIZE)
    ram.u32[0], ram.u32[1024] = 0x1083, 0x1003
    assert walk(ram, {0: 0, 1: 1}.get, PagingMode(TWO_LEVEL), 0, 0x123, 0).address == 0x1123
