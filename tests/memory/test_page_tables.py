"""Page-table walks against a model that is written from the manual, level by level."""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.memory.page_tables import COMPAT, FOUR_LEVEL, PAE, TWO_LEVEL, PagingFormat, entry_frame, walk
from pvemu.memory.ram import PAGE_SIZE, Ram

FRAMES = 16
P, W, U, PS, NX = 1, 2, 4, 1 << 7, 1 << 63


@dataclass
class Step:
    """A level: which address bits index it; whether its entries carry rights, and may map memory."""

    low: int
    high: int
    rights: bool
    large: bool


#: From the manual's figures (APM volume 2, figures 5-3, 5-9 and 5-17), root first.
MODELS: dict[str, tuple[PagingFormat, int, list[Step]]] = {
    "2-level": (TWO_LEVEL, 4, [Step(22, 31, True, True), Step(12, 21, True, False)]),
    "PAE": (PAE, 8, [Step(30, 31, False, False), Step(21, 29, True, True), Step(12, 20, True, False)]),
    "compat": (COMPAT, 8, [Step(30, 31, True, False), Step(21, 29, True, True), Step(12, 20, True, False)]),
    "4-level": (
        FOUR_LEVEL,
        8,
        [
            Step(39, 47, True, False),
            Step(30, 38, True, True),
            Step(21, 29, True, True),
            Step(12, 20, True, False),
        ],
    ),
}


def model_walk(
    memory: bytes, size: int, steps: list[Step], root: int, address: int
) -> tuple[int, bool, bool, bool] | None:
    """Machine address, writable, user, executable; None for a fault."""
    table, writable, user, executable = root, True, True, True
    for step in steps:
        if table >= FRAMES:
            return None
        index = (address >> step.low) & ((1 << (step.high - step.low + 1)) - 1)
        entry = int.from_bytes(memory[table * PAGE_SIZE + index * size :][:size], "little")
        if not entry & P:
            return None
        if step.rights:
            writable, user = writable and bool(entry & W), user and bool(entry & U)
            executable = executable and not entry & NX
        address_bits = entry & 0x000FFFFFFFFFF000 if size == 8 else entry & 0xFFFFF000
        if step.large and entry & PS:
            inside = (1 << step.low) - 1
            return (address_bits & ~inside) | (address & inside), writable, user, executable
        table = address_bits >> 12
    return (table << 12) | (address & 0xFFF), writable, user, executable


@st.composite
def entries(draw: st.DrawFn) -> int:
    flags = draw(st.sampled_from([P, P | W, P | U, P | W | U, P | W | U | PS, P | W | U | NX, 0, W | U]))
    return draw(st.integers(0, FRAMES + 1)) << 12 | flags


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_a_walk_is_the_models(name: str, data: st.DataObject) -> None:
    form, size, steps = MODELS[name]
    ram = Ram(FRAMES * PAGE_SIZE)
    address = data.draw(st.integers(0, (1 << (steps[0].high + 1)) - 1))
    for step in steps:
        index = (address >> step.low) & ((1 << (step.high - step.low + 1)) - 1)
        for table in range(FRAMES):
            entry = data.draw(entries())
            at = table * PAGE_SIZE + index * size
            # The levels' entries for one address may share a place; the last written counts, for both.
            ram.u8[at : at + size] = (entry & (1 << 8 * size) - 1).to_bytes(size, "little")
    root = data.draw(st.integers(0, FRAMES - 1))
    expected = model_walk(bytes(ram.u8), size, steps, root, address)
    found = walk(ram, form, root, address)
    if expected is None or found is None:
        assert found is None and expected is None
    else:
        seen = found.address, bool(found.rights & W), bool(found.rights & U), found.executable
        assert seen == expected


def test_an_address_beyond_the_ram_ends_a_walk() -> None:
    ram = Ram(2 * PAGE_SIZE)
    struct.pack_into("<Q", ram.u8, 0, (1 << 30) << 12 | 7)
    assert walk(ram, COMPAT, 0, 0) is None
    assert walk(ram, COMPAT, 99, 0) is None


@given(st.integers(0, (1 << 64) - 1))
def test_the_frame_of_an_entry_is_its_forty_address_bits(entry: int) -> None:
    assert entry_frame(entry) == (entry >> 12) & 0xFF_FFFF_FFFF
