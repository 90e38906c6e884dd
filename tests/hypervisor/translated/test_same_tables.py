"""Page tables mean the same to a guest whose processor walks them as to one for which they are shadowed."""

import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from guestkit import assemble_file
from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

_IMAGE: Final = assemble_file(Path(__file__).with_name("table_script.gk"))
_ENTRY, _WINDOW, _L2_SLOTS = struct.Struct("<Q"), 0x00400000, (2, 3)
_PAGE, _REGION = 4096, 1 << 21
_STEP, _RESULT = struct.Struct("<4I"), struct.Struct("<4I")
#: In the order of the guest's table of kinds.
_FIRST_L1, _SECOND_L1, _L2, _READ, _STORE, _ADD, _RELOAD = range(7)
_NO_EXECUTE: Final = 1 << 31
_SLOTS: Final = (0, 1, 2, 511)

_flags = st.integers(0, 63).map(
    lambda bits: bits & 7 | (bits & 8) << 2 | (bits & 16) << 2 | (_NO_EXECUTE if bits & 32 else 0)
)
_addresses = st.builds(
    lambda region, slot, offset: _WINDOW + region * _REGION + slot * _PAGE + offset,
    st.sampled_from((0, 1)),
    st.sampled_from(_SLOTS),
    st.sampled_from((0, 4, 0x801, _PAGE - 4, _PAGE - 2)),
)
_l1_changes = st.tuples(
    st.sampled_from((_FIRST_L1, _SECOND_L1)), st.sampled_from(_SLOTS), st.integers(0, 3), _flags
)
_l2_changes = st.tuples(st.just(_L2), st.sampled_from(_L2_SLOTS), st.sampled_from((0, 4, 5)), _flags)
_accesses = st.tuples(
    st.sampled_from((_READ, _STORE, _ADD)), _addresses, st.just(0), st.integers(0, (1 << 32) - 1)
)
_steps = st.one_of(
    _l1_changes, _l1_changes, _l2_changes, _accesses, _accesses, _accesses, st.just((_RELOAD, 0, 0, 0))
)


class Seen(NamedTuple):
    """All that a guest can see of a run: results, data, and its tables with frames by their own numbers."""

    results: list[tuple[int, ...]]
    data: bytes
    tables: list[list[tuple[int, int]]]


def run(steps: list[tuple[int, ...]], paging: Paging, options: Any) -> Seen:
    with Machine([GuestConfig(_IMAGE.elf, memory=8, paging=paging)], machine_memory=20, **options) as machine:
        memory, symbols = machine.domain.memory, _IMAGE.symbols
        memory.write_u32(symbols["number"], len(steps))
        memory.copy_to_guest(symbols["script"], b"".join(_STEP.pack(*step) for step in steps))
        assert machine.run(seconds=5).outcome is Outcome.POWEROFF
        Auditor(machine.hypervisor).audit()
        if machine.domain.is_translated:
            machine.domain.translation.shadow.check()
        raw = memory.copy_from_guest(symbols["results"], len(steps) * _RESULT.size)
        tables = [
            [
                _own(machine, *entry)
                for entry in _ENTRY.iter_unpack(memory.copy_from_guest(symbols[name], _PAGE))
            ]
            for name in ("low_l2", "first_l1", "second_l1")
        ]
        data = memory.copy_from_guest(symbols["data"], 3 * _PAGE)
        return Seen(list(_RESULT.iter_unpack(raw)), data, tables)


def _own(machine: Machine, entry: int) -> tuple[int, int]:
    """An entry's frame, as a number of the guest's own, and the rest of it."""
    frame = entry >> 12 & 0xFFFFFFF
    if entry and not machine.domain.is_translated:
        frame = machine.hypervisor.m2p.get(frame)
    return frame, entry & ~(0xFFFFFFF << 12)


@settings(max_examples=30)
@given(steps=st.lists(_steps, min_size=10, max_size=120))
def test_a_guest_can_not_tell_by_its_page_tables_whether_they_are_shadowed(
    steps: list[tuple[int, ...]], machine_options: Any
) -> None:
    direct, shadowed = (run(steps, paging, machine_options) for paging in (Paging.DIRECT, Paging.SHADOW))
    assert shadowed.results == direct.results
    assert shadowed.data == direct.data
    assert shadowed.tables == direct.tables
