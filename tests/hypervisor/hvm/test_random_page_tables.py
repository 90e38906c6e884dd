"""Random edits of page tables, and accesses: a processor finds what a plain walk of the guest's tables finds.

That is so under nested, shadow and direct paging, with every format of tables. Each fault's error code and
address, each value, every accessed and dirty bit in the end is compared with the model. Accesses are made
only after the TLB was told of what has changed (page_table_model.py says how exactly).
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_table_guest import DIRECT, HVM, LARGE_FRAMES, Code, Operation, Run, Variant
from page_table_model import CODE_OFFSET, PV_TABLES, Program, compare

from pvemu.memory.page_tables import (
    ACCESSED,
    CACHE_DISABLE,
    DIRTY,
    FOUR_LEVEL,
    GLOBAL,
    LARGE,
    NO_EXECUTE,
    PAE,
    PRESENT,
    TWO_LEVEL,
    USER,
    WRITABLE,
    PagingFormat,
)

IS_NIGHTLY: Final = settings.default is not None and settings.default.max_examples > 50
EXAMPLES: Final = 100 if IS_NIGHTLY else 6
_FRAMES: Final = 16

#: Entries of tables that are used, at every level; the last one is where walks begin to go wrong.
_SLOTS: Final = (0, 1, 2, -1)
_OFFSETS: Final = (0, 4, 0x10, CODE_OFFSET, 0xFF8, 0xFFC, 0xFFE)
#: What an entry refers to: one of the test's frames, its 4 MiB, or no memory at all.
_LARGE: Final = (_FRAMES, _FRAMES + 1)
_NOWHERE: Final = (0xC0000, 0xFFFFF, 0x123456, (1 << 28) - 1)
_ALL: Final = PRESENT | WRITABLE | USER
_RESERVED: Final = (1 << 51, 1 << 40, 1 << 52, 1 << 62)


class Entry(NamedTuple):
    """An entry to write: what it refers to (a frame of the test's by index, or more), and its flags."""

    target: int
    flags: int


class Edit(NamedTuple):
    """Write an entry of a table in one of the test's frames."""

    frame: int
    slot: int
    entry: Entry
    detail: int


class Root(NamedTuple):
    """Write the root's entry for the window."""

    entry: Entry
    detail: int


class Control(NamedTuple):
    """Switch CR0.WP, EFER.NXE, CR4.PSE and CR4.PGE."""

    write_protect: bool
    no_execute: bool
    large_pages: bool
    global_pages: bool


class Mend(NamedTuple):
    """Make the tables again with which the guest began, so that more than faults can happen."""


class Access(NamedTuple):
    """Access the window at an address that entries of these slots translate."""

    code: Code
    slots: tuple[int, ...]
    offset: int
    value: int
    flush_all: bool


Step = Edit | Root | Control | Mend | Access

_FLAGS: Final = st.one_of(
    st.sampled_from(
        (_ALL, _ALL, _ALL, PRESENT | WRITABLE, PRESENT | USER, PRESENT, 0, _ALL | ACCESSED | DIRTY)
    ),
    st.builds(
        lambda low, high: low | high,
        st.sampled_from((_ALL, _ALL | LARGE, _ALL | GLOBAL, _ALL | CACHE_DISABLE, PRESENT | LARGE, WRITABLE)),
        st.sampled_from((0, 0, NO_EXECUTE, NO_EXECUTE, *_RESERVED)),
    ),
)
_ENTRIES: Final = st.builds(Entry, st.integers(0, _FRAMES + len(_LARGE) + len(_NOWHERE) - 1), _FLAGS)
_EDITS: Final = st.builds(
    Edit,
    st.one_of(st.integers(0, 3), st.integers(0, _FRAMES - 1)),
    st.sampled_from(_SLOTS),
    _ENTRIES,
    st.sampled_from((0, 0, 1, 2, 3)),
)
_ACCESSES: Final = st.builds(
    Access,
    st.sampled_from([code for code in Code if Code.KERNEL_READ <= code <= Code.USER_FETCH]),
    st.tuples(*(st.sampled_from((0, 0, 0, 1, 2, -1)) for _ in range(3))),
    st.sampled_from(_OFFSETS),
    st.integers(0, (1 << 32) - 1),
    st.booleans(),
)
_CONTROLS: Final = st.builds(Control, st.booleans(), st.booleans(), st.booleans(), st.booleans())
_ROOTS: Final = st.builds(Root, _ENTRIES, st.integers(0, 3))


def _steps(*kinds: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.one_of(*kinds), min_size=40, max_size=150)


_MENDS: Final = st.just(Mend())
_CODE_FETCHES: Final = st.builds(
    Access,
    st.sampled_from((Code.KERNEL_FETCH, Code.USER_FETCH)),
    st.tuples(*(st.sampled_from((0, 0, 1)) for _ in range(3))),
    st.just(CODE_OFFSET),
    st.just(0),
    st.booleans(),
)
_STEPS: Final = _steps(_CODE_FETCHES, *[_EDITS] * 3, *[_ACCESSES] * 6, _CONTROLS, _ROOTS, _MENDS, _MENDS)


class Builder:
    """Makes a program of steps, for an HVM guest."""

    def __init__(self, run: Run) -> None:
        self._run, self._form = run, run.variant.form
        self.program = Program(run)
        self._root = (run.root >> 12, run.variant.root_slot)

    def begin(self) -> None:
        """Code into every frame, and the first tables: the last level is in frame 0."""
        for index, number in enumerate(self._run.frames):
            code = b"\xb8" + index.to_bytes(4, "little") + b"\xc3\0\0"
            for at in range(0, 8, self._form.entry_size):
                word = int.from_bytes(code[at : at + self._form.entry_size], "little")
                self.program.write_entry(number, (CODE_OFFSET + at) // self._form.entry_size, word)
        self.mend()

    def mend(self) -> None:
        """Tables with all rights, that map some frames."""
        tables = len(self._form.levels) - 1
        self.take(Root(Entry(tables - 1, PRESENT if self._form is PAE else _ALL), 0))
        for level in range(tables - 1, 0, -1):
            self.take(Edit(level, 0, Entry(level - 1, _ALL), 0))
        for slot in _SLOTS:
            self.take(Edit(0, slot, Entry(tables + slot % 4, _ALL), 0))

    def take(self, step: Step) -> None:
        """Append a step to the program."""
        if isinstance(step, Edit):
            slots = 4096 // self._form.entry_size
            value = self._value(step.entry)
            self.program.write_entry(self._run.frames[step.frame], step.slot % slots, value, step.detail)
        elif isinstance(step, Root):
            self.program.write_entry(*self._root, self._root_value(step.entry), step.detail)
        elif isinstance(step, Control):
            self._control(step)
        elif isinstance(step, Mend):
            self.mend()
        else:
            self.program.access(step.code, self._address(step), step.value, flush_all=step.flush_all)

    # --- inside ----------------------------------------------------------------------------------

    def _target(self, target: int) -> int:
        if target < _FRAMES:
            return self._run.frames[target]
        if target - _FRAMES < len(_LARGE):
            # For large pages of 2 MiB there are two places.
            return LARGE_FRAMES[0] + (target - _FRAMES) * 512
        return _NOWHERE[target - _FRAMES - len(_LARGE)]

    def _value(self, entry: Entry) -> int:
        value = self._target(entry.target) << 12 | entry.flags
        return value & (1 << 8 * self._form.entry_size) - 1

    def _root_value(self, entry: Entry) -> int:
        value = self._value(entry)
        # The four entries of PAE have no rights, and a processor loads them at once: they stay well-formed.
        return value & ~(WRITABLE | USER | LARGE | GLOBAL | ACCESSED | DIRTY) if self._form is PAE else value

    def _address(self, access: Access) -> int:
        address = self._run.variant.window + access.offset
        for level, slot in zip(reversed(self._form.levels[1:]), access.slots, strict=False):
            address += slot % level.entries << level.shift
        return address

    def _control(self, step: Control) -> None:
        program, form = self.program, self._form
        pae = form is not TWO_LEVEL
        program.set_control(
            0, 0x80000011 | step.write_protect << 16, program.mode._replace(write_protect=step.write_protect)
        )
        no_execute = program.mode._replace(no_execute=step.no_execute and pae)
        if form is FOUR_LEVEL:
            program.set_control(8, 1 << 8 | 1 << 10 | step.no_execute << 11, no_execute)
        else:
            program.set_control(8, step.no_execute << 11, no_execute)
        cr4 = step.large_pages << 4 | pae << 5 | step.global_pages << 7
        program.set_control(4, cr4, program.mode._replace(large_pages=step.large_pages or pae))
        program.has_global_pages = step.global_pages


class PvBuilder:
    """Makes a program of steps, for a PV guest: of entries that Xen allows it to write.

    Some frames are L1s all the time, and all others data. What an entry would be that is neither is bent
    into what it may be: a table can't be written, and only tables are referred to by the L2.
    """

    _ALLOWED: Final = PRESENT | WRITABLE | USER | ACCESSED | DIRTY | NO_EXECUTE

    def __init__(self, run: Run) -> None:
        self._run = run
        self.program = Program(run)
        l3 = self.program.memory.get(run.root >> 12)
        assert l3 is not None
        self._l2 = int.from_bytes(l3[24:32], "little") >> 12 & 0xFFFFFFF

    def begin(self) -> None:
        """Code into every data frame; tables that map them."""
        for index, number in enumerate(self._run.frames[PV_TABLES:], PV_TABLES):
            code = b"\xb8" + index.to_bytes(4, "little") + b"\xc3"
            for frame in (self._run.frame(number), self.program.memory.get(number)):
                assert frame is not None
                frame[CODE_OFFSET : CODE_OFFSET + len(code)] = code
        for index in range(PV_TABLES):
            self.program.add(Operation(Code.PROTECT, self._run.alias(index)))
        for index in range(3):
            self.take(Root(Entry(index, _ALL), 0))
            for slot in range(3):
                self.take(Edit(index, slot, Entry(PV_TABLES + slot + index, _ALL), 0))

    def take(self, step: Step) -> None:
        """Append a step to the program."""
        frames = self._run.frames
        if isinstance(step, Edit):
            flags, target = step.entry.flags & self._ALLOWED, step.entry.target % _FRAMES
            if target < PV_TABLES:
                flags &= ~WRITABLE
            value = frames[target] << 12 | flags
            self.program.write_entry(frames[step.frame % PV_TABLES], step.slot % 512, value)
        elif isinstance(step, Root):
            target = step.entry.target % PV_TABLES
            value = frames[target] << 12 | step.entry.flags & self._ALLOWED & ~DIRTY
            self.program.write_entry(self._l2, self._run.variant.root_slot + target % 3, value)
        elif isinstance(step, Access):
            address = self._run.variant.window + step.offset
            address += step.slots[0] % 512 * 0x1000 + step.slots[1] % 3 * 0x200000
            self.program.access(step.code, address, step.value, flush_all=step.flush_all)


def play(
    variant: Variant,
    make: Callable[[Run], Builder | PvBuilder],
    steps: Iterable[Step],
    machine_options: dict[str, object],
) -> None:
    """Run a guest through a program of steps, and compare."""
    with Run(variant, **machine_options) as run:
        builder = make(run)
        builder.begin()
        for step in steps:
            builder.take(step)
        run.run(builder.program.finish())
        compare(run, builder.program)


def _variants(form: PagingFormat) -> list[Variant]:
    return [variant for variant in HVM if variant.form is form]


@pytest.mark.parametrize("form", [TWO_LEVEL, PAE, FOUR_LEVEL], ids=lambda form: form.name)
def test_nested_and_shadow_paging_find_what_the_tables_say(
    form: PagingFormat, machine_options: dict[str, object]
) -> None:
    @settings(max_examples=EXAMPLES)
    @given(steps=_STEPS)
    def check(steps: list[Step]) -> None:
        for variant in _variants(form):
            play(variant, Builder, steps, machine_options)

    check()


def test_direct_paging_finds_what_the_tables_say(machine_options: dict[str, object]) -> None:
    @settings(max_examples=EXAMPLES)
    @given(steps=_steps(_EDITS, _EDITS, _ACCESSES, _ACCESSES, _ACCESSES, _CODE_FETCHES, _ROOTS))
    def check(steps: list[Step]) -> None:
        play(DIRECT, PvBuilder, steps, machine_options)

    check()
