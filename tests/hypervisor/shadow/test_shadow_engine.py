"""A guest does the same on its own tables and on their shadows: the same faults, values and tables."""

import struct
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paging_cases import SLOTS
from paging_engine import CODE_PAGE, FIRST, LAST, ROOT, PagingEngine
from random_guest import MODES
from reference_walk import Reached, reference_walk
from shadow_engine import GUEST_END, ShadowEngine

from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE, FOUR_LEVEL, PAE, TWO_LEVEL
from pvemu.memory.ram import PAGE_SIZE

_FRAMES = range(FIRST, LAST + 1)
_CODE_FRAMES = range(LAST - 2, LAST + 1)
_RIGHTS = (7,) * 12 + (0x67, 0x67, 0x27, 5, 3, 1, 0)
_TABLES = slice(FIRST * PAGE_SIZE, (LAST + 1) * PAGE_SIZE)


@pytest.fixture(scope="module")
def direct() -> Iterator[PagingEngine]:
    engine = PagingEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def shadowed() -> Iterator[ShadowEngine]:
    engine = ShadowEngine()
    yield engine
    engine.close()


def _entry(random: Random, mode: PagingMode) -> int:
    value = random.choice(_FRAMES) << 12 | random.choice(_RIGHTS)
    if random.random() < 0.15:
        value = random.choice((0, 0, 0, 0x100, 0xFFFFF)) << 12 | 0x80 | random.choice((7, 0x67, 5, 3))
    if mode.form is not TWO_LEVEL and random.random() < 0.1:
        value |= random.choice((1 << 63, 1 << 63, 1 << 41, 1 << 53))
    return value


def _fill(random: Random, engine: PagingEngine, mode: PagingMode, cr3: int) -> None:
    """A tree of tables: two of each level, with code pages as its leaves."""
    assert mode.form is not None
    size, levels = mode.form.entry_size, len(mode.form.levels)
    for frame in _CODE_FRAMES:
        engine.memory[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE] = CODE_PAGE
    for number, frame in enumerate(_FRAMES):
        level = (number + 1) // 2
        if level >= levels:
            break
        below = _FRAMES[2 * level + 1 : 2 * level + 3] if level < levels - 1 else _FRAMES
        for slot in SLOTS[mode.form]:
            first = (cr3 & PAGE_SIZE - 1) // 8 if frame == ROOT else 0
            value = _entry(random, mode)
            if not value & 0x80 and random.random() < 0.9:
                value = value & PAGE_SIZE - 1 | random.choice(below) << 12
            if frame == ROOT and mode.form is PAE:
                value = value & 0xFF_FFFF_F000 | 1
            if (frame, slot) != (ROOT, 0) and (first + slot) * size < PAGE_SIZE:
                _put(engine, frame, first + slot, size, value)


def _put(engine: PagingEngine, frame: int, slot: int, size: int, value: int) -> None:
    struct.pack_into("<I" if size == 4 else "<Q", engine.memory, frame * PAGE_SIZE + slot * size, value)


def _address(random: Random, mode: PagingMode) -> int:
    assert mode.form is not None
    address = random.randrange(0, PAGE_SIZE, 2)
    for level in mode.form.levels:
        slots = [slot for slot in SLOTS[mode.form] if slot < level.entries]
        address |= random.choice(slots[1:] if level is mode.form.levels[0] else slots) << level.shift
    return address | 0xFFFF << 48 if mode.form is FOUR_LEVEL and address >> 47 else address


@given(st.randoms(use_true_random=False), st.sampled_from([mode for mode in MODES if mode.form]))
def test_a_guest_does_the_same_on_its_own_tables_and_on_shadows(
    direct: PagingEngine, shadowed: ShadowEngine, random: Random, mode: PagingMode
) -> None:
    assert mode.form is not None
    size = mode.form.entry_size
    cr3 = ROOT << 12 | (random.choice((0, 0x20, 0xFE0)) if mode.form is PAE else 0)
    for frame in range(GUEST_END):
        shadowed.shadow.unshadow(frame)
    direct.prepare(mode, cr3)
    _fill(random, direct, mode, cr3)
    shadowed.memory[: GUEST_END * PAGE_SIZE] = direct.memory[: GUEST_END * PAGE_SIZE]
    shadowed.load_root(mode, cr3)
    addresses = [_address(random, mode) for _ in range(4)]
    for _ in range(20):
        if random.random() < 0.2:
            frame, slot, value = random.choice(_FRAMES), random.choice(SLOTS[mode.form]), _entry(random, mode)
            if frame != ROOT:
                _put(direct, frame, slot, size, value)
                _put(shadowed, frame, slot, size, value)
                shadowed.shadow.guest_wrote(frame, slot * size, size)
        address = random.choice(addresses)
        access = random.choice((0, FAULT_WRITE, FAULT_FETCH)) | random.choice((0, FAULT_USER))
        if access & FAULT_FETCH and not _leads_to_code(shadowed, mode, cr3, address):
            continue
        shadowed.shadow.invalidate(address)
        assert shadowed.access(address, access) == direct.access(address, access)
        assert shadowed.memory[_TABLES] == direct.memory[_TABLES]
        shadowed.shadow.check()


def _leads_to_code(engine: ShadowEngine, mode: PagingMode, cr3: int, address: int) -> bool:
    """Anything else than our code can't be run to see what happens."""
    memory = {gfn: engine.ram.frame(gfn) for gfn in range(GUEST_END)}
    found = reference_walk(memory, mode, cr3, address, write=False, user=False, fetch=False)  # type: ignore[arg-type]
    if not isinstance(found, Reached):
        return True
    frame, offset = divmod(found.address, PAGE_SIZE)
    return frame in _CODE_FRAMES and engine.ram.frame(frame)[offset] == CODE_PAGE[0]
