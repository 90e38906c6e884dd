"""Random tables and accesses in every paging mode, with recursion, reserved bits and tables outside RAM."""

from typing import Final, NamedTuple

from hypothesis import strategies as st

from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE, FOUR_LEVEL, PAE, TWO_LEVEL
from pvemu.memory.ram import PAGE_SIZE

#: Slots of each table that entries are put in, and that addresses choose.
SLOTS: Final = {TWO_LEVEL: (0, 1, 2, 1023), PAE: (0, 1, 3, 511), FOUR_LEVEL: (0, 1, 2, 511)}

_RIGHTS = st.sampled_from([7, 7, 7, 7, 7, 3, 5, 1, 0, 6])
_MORE = st.sampled_from([0, 0, 0, 0x20, 0x60, 0x40, 0x100, 0xE00])
_LARGE = st.sampled_from([0, 0, 0, 0, 0x80])
_HIGH = st.sampled_from([0] * 20 + [1 << 63] * 3 + [1 << 40, 1 << 51, 1 << 52, 1 << 62])
_LOW_RESERVED = st.sampled_from([0] * 12 + [1 << 12, 1 << 13, 1 << 21, 1 << 20])
#: Frames without RAM: just above it, and the last one that 32 bits name.
_NOWHERE = (0x100, 0xFFFFF)
_PDPTE_RESERVED: Final = 0x1E6 | 1 << 63


class Entry(NamedTuple):
    """An entry to be put at a slot of a frame."""

    frame: int
    slot: int
    value: int


class Case(NamedTuple):
    """Tables, and one access through them."""

    mode: PagingMode
    cr3: int
    entries: list[Entry]
    address: int
    access: int


ACCESSES = st.builds(
    int.__or__, st.sampled_from([0, FAULT_WRITE, FAULT_FETCH]), st.sampled_from([0, FAULT_USER])
)


@st.composite
def modes(draw: st.DrawFn) -> PagingMode:
    """Any mode in which paging is on."""
    form = draw(st.sampled_from([TWO_LEVEL, PAE, FOUR_LEVEL]))
    two = form is TWO_LEVEL
    no_execute = draw(st.booleans()) and not two
    return PagingMode(form, draw(st.booleans()), no_execute, not two or draw(st.booleans()))


@st.composite
def entry_values(draw: st.DrawFn, mode: PagingMode, frames: range, root_level: bool = False) -> int:
    """An entry that mostly makes sense."""
    assert mode.form is not None
    large = draw(_LARGE)
    frame = draw(st.sampled_from(frames) | st.sampled_from([*frames, 0, *_NOWHERE]))
    if large and draw(st.integers(0, 7)):
        frame = 0
    value = frame << 12 | draw(_RIGHTS) | draw(_MORE) | large
    if large:
        value |= draw(_LOW_RESERVED)
    if mode.form is not TWO_LEVEL:
        value |= draw(_HIGH)
    if root_level and mode.form is PAE and draw(st.integers(0, 7)):
        value &= ~_PDPTE_RESERVED
    return value & (1 << 8 * mode.form.entry_size) - 1


@st.composite
def cases(draw: st.DrawFn, frames: range, first_root_slot: int = 0) -> Case:
    """Tables in some frames, of which the first is the root; and an access, mostly on their way."""
    mode = draw(modes())
    form = mode.form
    assert form is not None
    root = frames[0]
    cr3 = root << 12
    if form is PAE:
        cr3 |= draw(st.sampled_from([0, 0x20, 0xFE0]))
    entries = [
        Entry(draw(st.sampled_from(frames)), draw(st.sampled_from(SLOTS[form])), value)
        for value in draw(st.lists(entry_values(mode, frames), max_size=8))
    ]
    address = draw(st.integers(0, PAGE_SIZE - 2)) & ~1
    frame, first = root, (cr3 & (PAGE_SIZE - 1)) // 8
    for level in form.levels:
        at_root = level is form.levels[0]
        slots = [slot for slot in SLOTS[form] if slot < level.entries]
        slot = draw(st.sampled_from([slot for slot in slots if not at_root or slot >= first_root_slot]))
        address |= slot << level.shift
        if draw(st.integers(0, 9)):
            value = draw(entry_values(mode, frames, at_root))
            entries.append(Entry(frame, first + slot, value))
            frame = value >> 12 & 0xFFFFF
        if frame not in frames:
            frame = draw(st.sampled_from(frames[1:]))
        first = 0
    if address >> 47:
        address |= 0xFFFF << 48
    return Case(mode, cr3, entries, address, draw(ACCESSES))
