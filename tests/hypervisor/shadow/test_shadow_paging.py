"""Shadow paging, promise by promise: what is protected, emulated, out of sync, reused and given up."""

import pytest
from shadowed_guest import Allowed
from small_guest import ALL, DATA, GIB, L1, L2, L3, L4, MODE, OTHER_L1, OTHER_L2, SmallGuest, page

from pvemu.hypervisor.paging_pool import LEAST_FRAMES_A_VCPU
from pvemu.hypervisor.shadow.checker import ShadowError
from pvemu.hypervisor.shadow.dirty_log import bitmap_of
from pvemu.hypervisor.shadow.outcome import EmulateWrite, GuestFault, Mmio
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE, FOUR_LEVEL, PAE, TWO_LEVEL
from pvemu.memory.ram import PAGE_SIZE

_WRITE_BY_USER = FAULT_WRITE | FAULT_USER
_NOT_DIRTY = 0x27
_READ_ONLY = 0x65
_NOWHERE = 0x100


def _frame(guest: SmallGuest, result: object) -> int:
    assert isinstance(result, Allowed), result
    return guest.gfn_of(result.frame)


# --- writes to tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [L2, L3, L4])
def test_a_write_to_an_upper_table_in_use_is_to_be_emulated(table: int) -> None:
    guest = SmallGuest()
    assert guest.access(page(table) + 16, FAULT_WRITE) == EmulateWrite((table << 12) + 16)


def test_an_emulated_write_to_an_upper_table_is_in_force_at_once() -> None:
    guest = SmallGuest()
    guest.put(L1, 0, DATA[0])
    assert _frame(guest, guest.access(GIB, 0)) == L4
    guest.change(L3, 1, L2)
    assert _frame(guest, guest.access(GIB, 0)) == DATA[0]


def test_a_write_to_an_l1_makes_it_out_of_sync_and_costs_nothing_after() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    assert guest.faults(page(L1), FAULT_WRITE) == 1
    assert L1 in guest.shadow.out_of_sync
    assert guest.faults(page(L1), FAULT_WRITE) == 0


@pytest.mark.parametrize("how", ["invlpg", "load of CR3"])
def test_a_changed_entry_of_a_table_out_of_sync_is_in_force_after_it_was_said(how: str) -> None:
    guest = SmallGuest()
    assert _frame(guest, guest.access(page(DATA[0]), 0)) == DATA[0]
    guest.access(page(L1), FAULT_WRITE)
    guest.put(L1, DATA[0] - L4, DATA[1])
    if how == "invlpg":
        guest.shadow.invalidate(page(DATA[0]))
    else:
        guest.load_root(MODE, L4 << 12)
    assert _frame(guest, guest.access(page(DATA[0]), 0)) == DATA[1]


def test_a_load_of_cr3_protects_tables_that_were_out_of_sync() -> None:
    guest = SmallGuest()
    guest.access(page(L1), FAULT_WRITE)
    guest.load_root(MODE, L4 << 12)
    assert L1 not in guest.shadow.out_of_sync
    assert guest.faults(page(L1), FAULT_WRITE) == 1


def test_a_table_out_of_sync_that_is_used_as_an_l2_is_in_sync_again() -> None:
    guest = SmallGuest()
    guest.access(page(L1), FAULT_WRITE)
    guest.change(L3, 2, L1)
    guest.access(2 * GIB, 0)
    assert L1 not in guest.shadow.out_of_sync
    assert isinstance(guest.access(page(L1), FAULT_WRITE), EmulateWrite)


def test_only_so_many_tables_are_out_of_sync_at_a_time() -> None:
    guest = SmallGuest()
    guest.shadow.out_of_sync.limit = 1
    guest.access(GIB, 0)
    guest.access(page(L1), FAULT_WRITE)
    guest.access(page(OTHER_L1), FAULT_WRITE)
    assert list(guest.shadow.out_of_sync) == [OTHER_L1]


def test_a_store_that_cannot_be_emulated_is_the_guests_own_after_unsync() -> None:
    guest = SmallGuest()
    guest.put(L1, 0, DATA[2])
    assert _frame(guest, guest.access(GIB, 0)) == L4
    assert isinstance(guest.access(page(L3), FAULT_WRITE), EmulateWrite)
    guest.shadow.unsync(L3)
    assert _frame(guest, guest.access(page(L3), FAULT_WRITE)) == L3
    guest.put(L3, 1, L2)
    # INVLPG of any address makes a processor forget all upper entries.
    guest.shadow.invalidate(5 * GIB)
    assert _frame(guest, guest.access(GIB, 0)) == DATA[2]


def test_memory_that_changes_unnoticed_never_makes_an_access_hang() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    guest.put(L3, 0, L1)
    guest.put(L1, 0, OTHER_L1)
    guest.put(OTHER_L1, 20, DATA[4])
    assert _frame(guest, guest.access(20 * PAGE_SIZE, 0)) == DATA[4]


# --- unshadowing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writes", "size", "data"),
    [(32, 8, b"\x55" * 8), (4, 8, bytes(8)), (1, 3, b"\x55" * 3), (1, 16, b"\x55" * 16)],
    ids=["many", "zeros", "misaligned", "too long"],
)
def test_a_table_that_is_written_like_data_is_given_up(writes: int, size: int, data: bytes) -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    for number in range(writes):
        assert guest.shadow.is_table(L2)
        guest.write(L2, 2048 + 8 * number + (size == 3), data)
    assert not guest.shadow.is_table(L2)


def test_a_table_that_is_used_between_writes_is_kept() -> None:
    guest = SmallGuest()
    for number in range(200):
        guest.change(L2, 1, L1)
        guest.access((2 << 20) + page(DATA[number % 2]), 0)
        guest.shadow.invalidate(0)
        guest.change(L2, 1, L1, flags=0)
    assert guest.shadow.is_table(L2)


def test_a_root_in_use_is_never_given_up() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    assert guest.shadow.unshadow(L4) is False
    for _ in range(100):
        guest.write(L4, 2049, b"\x55\x55")
    assert isinstance(guest.access(page(L4), FAULT_WRITE), EmulateWrite)
    assert _frame(guest, guest.access(page(DATA[0]), 0)) == DATA[0]


def test_code_can_run_on_a_table_and_on_while_that_is_given_up() -> None:
    guest = SmallGuest()
    assert _frame(guest, guest.access(page(L2), FAULT_FETCH)) == L2
    guest.shadow.unshadow(L2)
    assert _frame(guest, guest.access(page(L2), FAULT_FETCH)) == L2
    guest.shadow.check()


def test_a_frame_that_goes_is_mapped_nowhere() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), FAULT_WRITE)
    guest.access(GIB + page(DATA[0]), 0)
    mfn = guest.p2m.get(DATA[0])
    guest.p2m.clear(DATA[0])
    assert mfn is not None and guest.shadow.tables.mappings.places(mfn) == ()
    assert guest.access(page(DATA[0]) + 5, 0) == Mmio((DATA[0] << 12) + 5)


def test_a_frame_that_goes_is_a_table_no_more() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    guest.p2m.clear(L1)
    assert not guest.shadow.is_table(L1)
    assert guest.access(page(DATA[0]), 0) == GuestFault(9)


def test_a_frame_that_becomes_read_only_swallows_writes() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), FAULT_WRITE)
    mfn = guest.p2m.get(DATA[0])
    assert mfn is not None
    guest.p2m.set(DATA[0], mfn, writable=False)
    assert guest.access(page(DATA[0]), FAULT_WRITE) == Mmio(DATA[0] << 12)
    assert _frame(guest, guest.access(page(DATA[0]), 0)) == DATA[0]


# --- marks and rights --------------------------------------------------------------------------------


def test_the_first_write_to_a_page_that_is_not_dirty_faults_and_marks_it() -> None:
    guest = SmallGuest(rights=_NOT_DIRTY)
    slot = (DATA[0] - L4) * 8
    guest.access(page(DATA[0]), 0)
    assert guest.memory[L1][slot] == _NOT_DIRTY
    assert guest.faults(page(DATA[0]), FAULT_WRITE) == 1
    assert guest.memory[L1][slot] == ALL


def test_a_mark_that_the_guest_takes_away_is_set_again_by_the_next_access() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), FAULT_WRITE)
    guest.change(L1, DATA[0] - L4, DATA[0], flags=0x07)
    guest.access(page(DATA[0]), FAULT_WRITE)
    assert guest.memory[L1][(DATA[0] - L4) * 8] == ALL


def test_without_write_protection_a_kernel_writes_what_its_users_may_only_read() -> None:
    mode = PagingMode(FOUR_LEVEL, write_protect=False, no_execute=False, large_pages=True)
    guest = SmallGuest(mode=mode, rights=_READ_ONLY)
    address = page(DATA[0])
    for _ in range(2):
        assert _frame(guest, guest.access(address, FAULT_WRITE)) == DATA[0]
        assert _frame(guest, guest.access(address, FAULT_USER)) == DATA[0]
        assert guest.access(address, _WRITE_BY_USER) == GuestFault(7)
        guest.shadow.check()


# --- CR3 and modes -----------------------------------------------------------------------------------


def test_shadows_are_there_again_when_a_guest_comes_back_to_its_tables() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    guest.load_root(MODE, OTHER_L1 << 12)
    guest.load_root(MODE, L4 << 12)
    assert guest.faults(page(DATA[0])) == 0


def test_a_change_of_mode_drops_the_shadows_of_the_old_one() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    guest.load_root(PagingMode(None), 0)
    assert not any(guest.shadow.is_table(gfn) for gfn in range(0x20, 0x2C))
    assert guest.faults(L1 << 12, FAULT_WRITE) == 1


def test_shadows_stay_while_another_processor_is_in_their_mode() -> None:
    guest = SmallGuest()
    guest.load_root(MODE, L4 << 12, vcpu=1)
    guest.load_root(PagingMode(None), 0)
    assert isinstance(guest.access(page(L2), FAULT_WRITE, vcpu=1), EmulateWrite)
    guest.stop(1)
    assert isinstance(guest.access(L4 << 12, FAULT_WRITE), EmulateWrite)


@pytest.mark.parametrize("cr3", [0, _NOWHERE << 12, 0xFFFF_F000, 0xFF_FFFF_F000, (1 << 52) - 1])
@pytest.mark.parametrize("form", [TWO_LEVEL, PAE, FOUR_LEVEL])
def test_a_garbage_cr3_is_a_fault_that_the_guest_sees(form: object, cr3: int) -> None:
    guest = SmallGuest()
    guest.load_root(PagingMode(form, True, False, True), cr3)  # type: ignore[arg-type]
    for access in (0, FAULT_WRITE, FAULT_FETCH | FAULT_USER):
        result = guest.access(0x1000, access)
        assert isinstance(result, GuestFault)
        assert result.error_code & 9 == 9
    guest.shadow.check()


def test_two_level_tables_where_no_memory_is_lead_to_where_none_is() -> None:
    guest = SmallGuest()
    guest.load_root(PagingMode(TWO_LEVEL), _NOWHERE << 12)
    assert guest.access(0x1234, 0) == Mmio(0xFFFFF234)


@pytest.mark.parametrize("form", [TWO_LEVEL, PAE, FOUR_LEVEL])
def test_a_table_may_lead_to_itself_on_every_level(form: object) -> None:
    guest = SmallGuest()
    size = 4 if form is TWO_LEVEL else 8
    flags = 1 if form is PAE else 7
    guest.write(DATA[0], 0, (DATA[0] << 12 | flags).to_bytes(size, "little"))
    guest.write(DATA[0], 3 * size, (DATA[0] << 12 | 7).to_bytes(size, "little"))
    mode = PagingMode(form, False, False, True)  # type: ignore[arg-type]
    guest.load_root(mode, DATA[0] << 12)
    assert isinstance(guest.access(0, 0), Allowed)
    assert guest.access(8 * size, FAULT_WRITE) == EmulateWrite((DATA[0] << 12) + 8 * size)
    guest.shadow.check()


# --- frames ------------------------------------------------------------------------------------------


def _reaching_far(limit: int) -> SmallGuest:
    """A guest whose L2s have many entries, with different rights, so that six shadows of L1s are needed."""
    guest = SmallGuest(limit)
    for table in (L2, OTHER_L2):
        for slot in range(512):
            guest.put(table, slot, L1 if slot % 2 else OTHER_L1, flags=(0x67, 0x65, 0x63)[slot % 3])
    return guest


def test_with_the_fewest_frames_every_access_gets_on() -> None:
    guest = _reaching_far(4)
    for number in range(100):
        address = (number % 12 << 21) + page(DATA[0]) + (number % 2) * GIB
        assert _frame(guest, guest.access(address, 0)) == DATA[0]
        guest.shadow.check()


def test_with_the_least_frames_of_a_vcpu_thirty_pages_far_apart_are_there_at_once() -> None:
    guest = SmallGuest(LEAST_FRAMES_A_VCPU)
    addresses = [slot << 39 for slot in range(1, 31)]
    for slot in range(1, 31):
        way = [0x100 * slot + level for level in (3, 2, 1)]
        for gfn, above in zip(way, (L4, *way), strict=False):
            guest.add_frame(gfn)
            guest.put(above, slot if above == L4 else 0, gfn)
        guest.put(way[-1], 0, DATA[slot % 6])
    guest.load_root(MODE, L4 << 12)
    for number in range(200):  # others before, which nobody needs any more
        guest.access(page(DATA[0]) + number % 2 * GIB, 0)
    for address in addresses:
        guest.access(address, 0)
    assert sum(guest.faults(address) for address in addresses) == 0
    guest.shadow.check()


def test_too_small_a_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 frames"):
        SmallGuest(3)
    with pytest.raises(ValueError, match="at least 4 frames"):
        SmallGuest().shadow.resize_pool(3)


def test_shadows_take_nothing_but_their_pool() -> None:
    guest = SmallGuest()
    guest.free_frames.clear()
    for number in range(40):
        guest.access(page(DATA[number % 6]) + (number % 2) * GIB, 0)
    guest.shadow.check()


def test_a_pool_that_shrinks_gives_frames_back() -> None:
    guest = SmallGuest()
    for address in (0, GIB):
        guest.access(address, 0)
    before = len(guest.free_frames)
    guest.shadow.resize_pool(4)
    assert len(guest.shadow.tables) == 4
    assert len(guest.free_frames) == before + 36
    guest.shadow.check()


def test_a_pool_that_can_only_grow_so_far_has_what_there_was() -> None:
    guest = SmallGuest()
    free = len(guest.free_frames)
    with pytest.raises(OutOfFrames):
        guest.shadow.resize_pool(1000)
    assert len(guest.pool) == 40 + free


def test_a_frame_for_something_else_costs_a_table_its_frame_when_there_is_no_other() -> None:
    guest = _reaching_far(6)
    for number in range(12):
        guest.access(number << 21, 0)
    taken = guest.shadow.take_frame()
    assert taken not in {table.mfn for table in guest.shadow.tables}
    assert not any(guest.ram.frame(taken))
    for number in range(12):
        guest.access(number << 21, 0)
        guest.shadow.check()


# --- the dirty log -----------------------------------------------------------------------------------


def test_the_log_has_what_was_written_since_it_began() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), FAULT_WRITE)
    guest.shadow.start_log()
    log = guest.shadow.log
    assert log is not None and log.frames == set()
    guest.access(page(DATA[0]), 0)
    guest.access(page(DATA[1]), FAULT_WRITE)
    guest.write(DATA[2], 0, b"\x01")
    guest.shadow.mark_dirty(DATA[3])
    assert log.frames == {DATA[1], DATA[2], DATA[3]}


def test_a_page_is_logged_again_after_the_log_was_cleaned() -> None:
    guest = SmallGuest()
    guest.shadow.start_log()
    guest.access(page(DATA[0]), FAULT_WRITE)
    assert guest.shadow.clean_log() == {DATA[0]}
    assert guest.faults(page(DATA[0]), FAULT_WRITE) == 1
    assert guest.shadow.clean_log() == {DATA[0]}
    assert guest.shadow.clean_log() == set()


def test_a_mark_in_a_table_is_a_write_to_it() -> None:
    guest = SmallGuest(rights=7)
    guest.shadow.start_log()
    guest.access(page(DATA[0]), 0)
    assert guest.shadow.clean_log() == {L1}


def test_a_bitmap_has_the_lowest_frame_in_the_lowest_bit() -> None:
    assert bitmap_of({0x20, 0x21, 0x27, 0x28}, 0x28) == bytes(4) + b"\x83"
    assert bitmap_of({0x20, 0x21, 0x27, 0x28}, 0x29) == bytes(4) + b"\x83\x01"


def test_after_the_log_writes_cost_nothing() -> None:
    guest = SmallGuest()
    guest.shadow.start_log()
    guest.access(page(DATA[0]), 0)
    guest.shadow.stop_log()
    assert guest.shadow.clean_log() == set()
    assert guest.faults(page(DATA[0]), FAULT_WRITE) == 1


# --- the checker -------------------------------------------------------------------------------------


def test_the_checker_names_the_entries_that_differ() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    guest.put(L1, DATA[0] - L4, DATA[1])
    with pytest.raises(ShadowError, match=r"sl1e 6 of sl1 .*gl1e 6 of gfn 0x24 is 0x27067"):
        guest.shadow.check()
    guest.put(L1, DATA[0] - L4, DATA[0])
    guest.shadow.check()
    guest.put(L3, 0, L1)
    with pytest.raises(ShadowError, match=r"sl3e 0 .*gl3e 0 of gfn 0x21"):
        guest.shadow.check()


def test_the_checker_finds_a_mapping_that_nobody_knows() -> None:
    guest = SmallGuest()
    guest.access(page(DATA[0]), 0)
    mfn = guest.p2m.get(DATA[0])
    assert mfn is not None
    (place,) = guest.shadow.tables.mappings.places(mfn)
    guest.shadow.tables.mappings.remove(mfn, place)
    with pytest.raises(ShadowError, match="reverse maps"):
        guest.shadow.check()


def test_the_checker_finds_a_right_too_many() -> None:
    guest = SmallGuest(rights=_READ_ONLY)
    guest.access(page(DATA[0]), 0)
    mfn = guest.p2m.get(DATA[0])
    assert mfn is not None
    (place,) = guest.shadow.tables.mappings.places(mfn)
    guest.ram.u64[place] |= 2
    with pytest.raises(ShadowError, match=r"sl1e .*means"):
        guest.shadow.check()


def test_all_frames_come_back_in_the_end() -> None:
    guest = SmallGuest()
    for address in (0, GIB, page(L1)):
        guest.access(address, FAULT_WRITE if address == page(L1) else 0)
    guest.shadow.destroy()
    assert guest.pool.spare == len(guest.pool)
    guest.pool.release()
    assert len(guest.free_frames) == guest.shadow_frames
    assert PAGE_SIZE == 4096
