"""The walk of a guest's tables does what the engine's own unit does: same faults, codes, bits and bytes."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import assume, event, given
from paging_cases import Case, cases
from paging_engine import CODE_PAGE, FIRST, LAST, RAM_SIZE, ROOT, WRITTEN, PagingEngine, Seen

from pvemu.memory.guest_walk import GuestPageFault, walk
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_WRITE
from pvemu.memory.ram import PAGE_SIZE, Ram

_CODE_FRAMES = range(LAST - 2, LAST + 1)


@pytest.fixture(scope="module")
def judge() -> Iterator[PagingEngine]:
    engine = PagingEngine()
    yield engine
    engine.close()


def _by_walk(ram: Ram, case: Case) -> Seen:
    """What the walk says of the access, which is then made in the copy of memory."""

    def lookup(gfn: int) -> int | None:
        return gfn if gfn < ram.frames else None

    try:
        found = walk(ram, lookup, case.mode, case.cr3, case.address, case.access)
    except GuestPageFault as fault:
        assert fault.address == case.address
        return Seen(fault.error_code, 0)
    inside = found.address < ram.size
    if case.access & FAULT_WRITE:
        if inside:
            ram.u8[found.address] = WRITTEN
        return Seen(None, WRITTEN)
    if case.access & FAULT_FETCH:
        # Anything else than our code can't be run to see what happens.
        assume(found.address >> 12 in _CODE_FRAMES and ram.u8[found.address] == CODE_PAGE[0])
        return Seen(None, WRITTEN)
    return Seen(None, ram.u8[found.address] if inside else 0xFF)


@given(cases(range(FIRST, LAST + 1), first_root_slot=1))
def test_the_walk_is_the_engines(judge: PagingEngine, case: Case) -> None:
    judge.prepare(case.mode, case.cr3)
    assert case.mode.form is not None
    size, layout = (4, "<I") if case.mode.form.entry_size == 4 else (8, "<Q")
    for frame in _CODE_FRAMES:
        judge.memory[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE] = CODE_PAGE
    for frame, slot, value in case.entries:
        if (frame, slot * size) != (ROOT, case.cr3 & (PAGE_SIZE - 1)):
            struct.pack_into(layout, judge.memory, frame * PAGE_SIZE + slot * size, value)
    ram = Ram(RAM_SIZE)
    ram.u8[:] = judge.memory[:]
    expected = _by_walk(ram, case)
    seen = judge.access(case.address, case.access)
    event(f"{case.mode.form.name}: {expected.error_code}")
    assert seen == expected
    tables = slice(FIRST * PAGE_SIZE, (LAST + 1) * PAGE_SIZE)
    assert bytes(ram.u8[tables]) == judge.memory[tables]
