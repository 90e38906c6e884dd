"""Grants of and to translated guests: entries name gfns, and a mapping is memory at one."""

import struct
from typing import Any

import pytest
from answers import OUTSIDE
from hypothesis import given, settings
from hypothesis import strategies as st
from test_physmap import HOLE, add, extents, remove
from translated import PAGES, TABLE_GFN, Guest, Translated

from pvemu.abi import grant_table as gnttab
from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused, PvemuError
from pvemu.abi.memory import (
    XENMAPIDX_grant_table_status,
    XENMAPSPACE_grant_table,
    XENMEM_decrease_reservation,
    XENMEM_populate_physmap,
)
from pvemu.abi.xen import DOMID_SELF
from pvemu.memory.guest import GuestFault

REF = 8
WORDS = (4, 8)
#: A page of the granter, and one of the other guest's into whose place a grant may come.
PAGE, WINDOW = 20, 30


def granting(word: int = 4, paging: str = "nested") -> Translated:
    """A machine on which guest 1 grants its PAGE to guest 2 and to the domain outside."""
    machine = Translated(word=word, paging=paging)
    for domid in (1, 2):
        assert add(machine[domid], XENMAPSPACE_grant_table, 0, TABLE_GFN) == 0
    machine[1].grant(REF, 2, PAGE)
    machine[1].grant(REF + 1, OUTSIDE, PAGE)
    machine[1].grant(REF + 2, OUTSIDE, HOLE)
    machine[1].write(PAGE << 12, b"granted")
    machine.domctl.adopt(OUTSIDE)
    return machine


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_a_mapped_grant_is_the_granters_memory_until_it_is_unmapped(paging: str, word: int) -> None:
    with granting(word, paging) as machine:
        one, two = machine[1], machine[2]
        mapped = two.map(WINDOW, 1, REF)
        assert (mapped.result, mapped.op.status) == (0, gnttab.GNTST_okay)
        assert two.read(WINDOW << 12, 7) == b"granted"
        two.write(WINDOW << 12, b"written")
        assert one.read(PAGE << 12, 7) == b"written"
        machine.audit()
        flags = struct.unpack("<H", one.read((TABLE_GFN << 12) + REF * 8, 2))[0]
        assert flags & (gnttab.GTF_reading | gnttab.GTF_writing) == gnttab.GTF_reading | gnttab.GTF_writing
        assert two.unmap(WINDOW, mapped.op.handle) == gnttab.GNTST_okay
        assert two.domain.p2m.get(WINDOW) is None
        assert two.unmap(WINDOW, mapped.op.handle) == gnttab.GNTST_bad_handle


def test_a_grant_for_reading_cannot_be_written() -> None:
    with granting() as machine:
        two = machine[2]
        mapped = two.map(HOLE, 1, REF, gnttab.GNTMAP_readonly)
        assert mapped.op.status == gnttab.GNTST_okay
        with pytest.raises(GuestFault):
            two.write(HOLE << 12, b"no")
        assert two.read(HOLE << 12, 7) == b"granted"
        assert two.unmap(HOLE, mapped.op.handle) == gnttab.GNTST_okay


def test_only_plain_mappings_are_for_translated_guests() -> None:
    with granting() as machine:
        two = machine[2]
        flags = (gnttab.GNTMAP_device_map, gnttab.GNTMAP_application_map, gnttab.GNTMAP_contains_pte)
        for flag in flags:
            assert two.map(HOLE, 1, REF, flag).op.status == gnttab.GNTST_general_error
        assert two.map(1 << 50, 1, REF).op.status == gnttab.GNTST_general_error
        refused = ("transfer", "unmap_and_replace", "get_status_frames")
        for name in refused:
            command = getattr(gnttab, f"GNTTABOP_{name}")
            assert two.call("grant_table_op", command, 0, 1) == -Errno.ENOSYS


def test_a_mapping_is_not_unmapped_elsewhere_and_not_given_away() -> None:
    with granting() as machine:
        two = machine[2]
        mapped = two.map(HOLE, 1, REF)
        handle = mapped.op.handle
        assert two.unmap(HOLE + 1, handle) == gnttab.GNTST_general_error
        assert two.unmap(WINDOW, handle) == gnttab.GNTST_general_error
        assert extents(two, XENMEM_decrease_reservation, [HOLE]) == 0
        assert remove(two, HOLE) == -Errno.ENOENT
        # What is mapped is not the guest's to grant.
        two.grant(REF, OUTSIDE, HOLE)
        with pytest.raises(GrantRefused) as refused:
            machine.domctl.map_grant(2, REF, writable=False)
        assert refused.value.status == gnttab.GNTST_bad_page
        assert two.unmap(HOLE, handle) == gnttab.GNTST_okay


def test_memory_that_would_take_the_place_of_a_mapped_grant_crashes_the_guest() -> None:
    with granting() as machine:
        two = machine[2]
        assert two.map(HOLE, 1, REF).op.status == gnttab.GNTST_okay
        assert extents(two, XENMEM_populate_physmap, [HOLE]) == 0
        assert two.domain.has_shut_down
        machine.audit()
        machine.destroy(2)


def test_the_granter_may_give_its_frame_back_while_it_is_mapped() -> None:
    with granting() as machine:
        one, two = machine[1], machine[2]
        mapped = two.map(HOLE, 1, REF)
        assert extents(one, XENMEM_decrease_reservation, [PAGE]) == 1
        assert two.read(HOLE << 12, 7) == b"granted"
        machine.audit()
        assert two.unmap(HOLE, mapped.op.handle) == gnttab.GNTST_okay


@pytest.mark.parametrize("first", [1, 2])
def test_domains_that_share_frames_die_in_any_order(first: int) -> None:
    with granting() as machine:
        two = machine[2]
        for gfn in (HOLE, HOLE + 1):
            assert two.map(gfn, 1, REF).op.status == gnttab.GNTST_okay
        machine.destroy(first)
        machine.audit()
        machine.destroy(3 - first)
        machine.audit()
        assert machine.hypervisor.heap.free_frames == machine.free_frames


@pytest.mark.parametrize("word", WORDS)
def test_copies_name_the_guests_own_frames(word: int) -> None:
    with granting(word) as machine:
        two = machine[2]

        def copy(source: dict[str, Any], dest: dict[str, Any], flags: int) -> int:
            answer = two.single("copy", gnttab.gnttab_copy, source=source, dest=dest, len=7, flags=flags)
            assert answer.result == 0
            return int(answer.op.status)

        own = {"u": {"gmfn": WINDOW}, "domid": DOMID_SELF, "offset": 8}
        granted = {"u": {"ref": REF}, "domid": 1, "offset": 0}
        assert copy(granted, own, gnttab.GNTCOPY_source_gref) == gnttab.GNTST_okay
        assert two.read((WINDOW << 12) + 8, 7) == b"granted"
        two.write((WINDOW << 12) + 8, b"copied!")
        assert copy(own, granted, gnttab.GNTCOPY_dest_gref) == gnttab.GNTST_okay
        assert machine[1].read(PAGE << 12, 7) == b"copied!"
        nowhere = own | {"u": {"gmfn": HOLE}}
        assert copy(nowhere, granted, gnttab.GNTCOPY_dest_gref) == gnttab.GNTST_bad_page


def test_services_use_what_a_translated_guest_grants() -> None:
    with granting() as machine:
        assert machine.domctl.copy_from_grant(1, REF + 1, 0, 7) == b"granted"
        machine.domctl.copy_to_grant(1, REF + 1, 100, b"service")
        assert machine[1].read((PAGE << 12) + 100, 7) == b"service"
        handle, page = machine.domctl.map_grant(1, REF + 1, writable=True)
        page[200:203] = b"map"
        machine.audit()
        machine.domctl.unmap_grant(handle)
        assert machine[1].read((PAGE << 12) + 200, 3) == b"map"
        with pytest.raises(GrantRefused):
            machine.domctl.copy_from_grant(1, REF + 2, 0, 7)


def test_a_page_that_a_service_has_mapped_is_not_freed_under_it() -> None:
    with granting() as machine:
        one = machine[1]
        mfn = one.domain.p2m.get(PAGE)
        assert mfn is not None
        page = machine.domctl.map_foreign(1, mfn)
        assert extents(one, XENMEM_decrease_reservation, [PAGE]) == 1
        assert machine.hypervisor.frames.owner[mfn] == 1
        page[:4] = b"mine"
        machine.audit()
        machine.destroy(1)
        machine.audit()
        machine.destroy(2)
        assert machine.hypervisor.heap.free_frames == machine.free_frames


@pytest.mark.parametrize("mfn", [0, 1 << 40])
def test_no_service_maps_what_is_not_the_domains(mfn: int) -> None:
    with Translated() as machine, pytest.raises(PvemuError):
        machine.domctl.map_foreign(1, mfn)


@pytest.mark.parametrize("word", WORDS)
def test_setup_table_tells_where_the_guest_has_put_the_frames(word: int) -> None:
    with granting(word) as machine:
        one = machine[1]
        listed = one.put(bytes(64), 2048)
        answer = one.single(
            "setup_table", gnttab.gnttab_setup_table, dom=DOMID_SELF, nr_frames=2, frame_list=listed
        )
        assert (answer.result, answer.op.status) == (0, gnttab.GNTST_okay)
        nowhere = (1 << 8 * word) - 1
        frames = struct.unpack("<2I" if word == 4 else "<2Q", one.read(listed, 2 * word))
        assert frames == (TABLE_GFN, nowhere)
        size = one.single("query_size", gnttab.gnttab_query_size, dom=DOMID_SELF)
        assert (size.op.status, size.op.nr_frames, size.op.max_nr_frames) == (gnttab.GNTST_okay, 2, 64)


def test_status_frames_leave_the_map_before_they_are_freed() -> None:
    with Translated() as machine:
        guest = machine[1]

        def set_version(version: int) -> int:
            return guest.single("set_version", gnttab.gnttab_set_version, version=version).result

        assert set_version(2) == 0
        assert add(guest, XENMAPSPACE_grant_table, XENMAPIDX_grant_table_status, HOLE) == 0
        assert guest.domain.p2m.get(HOLE) == guest.domain.grant_table.status_frames[0]
        assert add(guest, XENMAPSPACE_grant_table, XENMAPIDX_grant_table_status | 3, HOLE + 1) == 0
        assert len(guest.domain.grant_table.status_frames) == 4
        machine.audit()
        assert set_version(1) == 0
        assert guest.domain.p2m.get(HOLE) is None
        machine.audit()


def test_a_reserved_reference_is_seeded_with_the_guests_own_number() -> None:
    with Translated() as machine:
        guest = machine[1]
        mfn = guest.domain.p2m.get(PAGE)
        assert mfn is not None
        machine.domctl.seed_grant(guest.domain, gnttab.GNTTAB_RESERVED_XENSTORE, mfn)
        assert add(guest, XENMAPSPACE_grant_table, 0, TABLE_GFN) == 0
        entry = guest.read((TABLE_GFN << 12) + gnttab.GNTTAB_RESERVED_XENSTORE * 8, 8)
        assert struct.unpack("<HHI", entry) == (gnttab.GTF_permit_access, 0, PAGE)


_GFNS = st.sampled_from([0, 4, 5, TABLE_GFN, WINDOW, PAGES - 1, HOLE, HOLE + 1])


def _grant(guest: Guest, ref: int, gfn: int, flags: int) -> None:
    guest.grant(ref, 3 - guest.domid, gfn, flags)


def _map(guest: Guest, ref: int, gfn: int, flags: int) -> None:
    guest.map(gfn, 3 - guest.domid, ref, flags)


def _map_own(guest: Guest, ref: int, gfn: int, flags: int) -> None:
    guest.grant(ref, guest.domid, gfn)
    guest.map(gfn + 1, guest.domid, ref, flags)


def _unmap(guest: Guest, handle: int, gfn: int, _flags: int) -> None:
    guest.unmap(gfn, handle)


def _balloon(guest: Guest, _ref: int, gfn: int, flags: int) -> None:
    extents(guest, XENMEM_decrease_reservation if flags else XENMEM_populate_physmap, [gfn])


_ACTIONS = st.tuples(
    st.sampled_from([_grant, _map, _map, _map_own, _unmap, _unmap, _balloon]),
    st.integers(0, 3),
    _GFNS,
    st.sampled_from([0, gnttab.GTF_permit_access, gnttab.GNTMAP_readonly]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), _ACTIONS), max_size=30))
def test_whatever_guests_do_with_grants_all_counts_stay_right(
    actions: list[tuple[int, tuple[Any, int, int, int]]],
) -> None:
    with granting() as machine:
        for domid, (action, number, gfn, flags) in actions:
            guest = machine[domid]
            try:
                action(guest, number + (0 if action is _unmap else REF), gfn, flags)
            except GuestFault:
                break  # a guest has lost the page for its requests, or its table
            if guest.domain.has_shut_down:
                break
            machine.audit()
        for domid in (2, 1):
            machine.destroy(domid)
            machine.audit()
        assert machine.hypervisor.heap.free_frames == machine.free_frames
