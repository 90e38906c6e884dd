"""Where a translated guest's frames are is its own to change, and never another's."""

import struct
from contextlib import suppress
from typing import Any

import pytest
from answers import LONG_SLICE
from hypothesis import given, settings
from hypothesis import strategies as st
from translated import PAGES, TABLE_GFN, Guest, Translated

from pvemu.abi.errno import Errno
from pvemu.abi.memory import (
    XENMAPIDX_grant_table_status,
    XENMAPSPACE_dev_mmio,
    XENMAPSPACE_gmfn,
    XENMAPSPACE_gmfn_foreign,
    XENMAPSPACE_gmfn_range,
    XENMAPSPACE_grant_table,
    XENMAPSPACE_shared_info,
    XENMEM_acquire_resource,
    XENMEM_add_to_physmap,
    XENMEM_add_to_physmap_batch,
    XENMEM_current_reservation,
    XENMEM_decrease_reservation,
    XENMEM_exchange,
    XENMEM_increase_reservation,
    XENMEM_machine_memory_map,
    XENMEM_machphys_mapping,
    XENMEM_maximum_gpfn,
    XENMEM_maximum_reservation,
    XENMEM_memory_map,
    XENMEM_populate_physmap,
    XENMEM_remove_from_physmap,
    xen_add_to_physmap,
    xen_add_to_physmap_batch,
    xen_memory_domain,
    xen_memory_exchange,
    xen_memory_map,
    xen_memory_reservation,
    xen_remove_from_physmap,
)
from pvemu.abi.xen import DOMID_SELF
from pvemu.hypervisor.gfn import INVALID_M2P
from pvemu.memory.guest import GuestFault

WORDS = (4, 8)
#: A guest-physical frame at which nothing is.
HOLE = 0x500


def add(guest: Guest, space: int, idx: int, gfn: int, size: int = 0, domid: int = DOMID_SELF) -> int:
    """XENMEM_add_to_physmap."""
    fields: dict[str, Any] = {"domid": domid, "size": size, "space": space, "idx": idx, "gpfn": gfn}
    return guest.command("memory_op", XENMEM_add_to_physmap, xen_add_to_physmap, **fields).result


def remove(guest: Guest, gfn: int) -> int:
    """XENMEM_remove_from_physmap."""
    return guest.command(
        "memory_op", XENMEM_remove_from_physmap, xen_remove_from_physmap, domid=DOMID_SELF, gpfn=gfn
    ).result


def extents(guest: Guest, command: int, gfns: list[int], order: int = 0) -> int:
    """A command on a list of extents: how many were done."""
    listed = guest.put(b"".join(gfn.to_bytes(guest.word, "little") for gfn in gfns), 1024)
    return guest.command(
        "memory_op",
        command,
        xen_memory_reservation,
        extent_start=listed,
        nr_extents=len(gfns),
        extent_order=order,
        domid=DOMID_SELF,
    ).result


def domain_answer(guest: Guest, command: int) -> int:
    """A command whose argument is a domain."""
    return guest.command("memory_op", command, xen_memory_domain, domid=DOMID_SELF).result


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_shared_info_takes_the_place_of_a_page_which_is_freed(paging: str, word: int) -> None:
    with Translated(paging=paging, word=word) as machine:
        guest = machine[1]
        replaced = guest.domain.p2m.get(5)
        assert replaced is not None
        assert add(guest, XENMAPSPACE_shared_info, 0, 5) == 0
        assert guest.domain.p2m.get(5) == guest.domain.shared_info_frame
        assert machine.hypervisor.frames.owner[replaced] != guest.domid
        assert domain_answer(guest, XENMEM_current_reservation) == PAGES - 1
        machine.audit()
        # It is at one place only: at a second one it leaves the first, which has no memory then.
        assert add(guest, XENMAPSPACE_shared_info, 0, HOLE) == 0
        assert guest.domain.p2m.get(5) is None
        assert guest.domain.p2m.get(HOLE) == guest.domain.shared_info_frame
        assert add(guest, XENMAPSPACE_shared_info, 1, 6) == -Errno.EINVAL


def test_what_the_guest_writes_into_shared_info_is_what_the_hypervisor_sees() -> None:
    with Translated() as machine:
        guest = machine[1]
        assert add(guest, XENMAPSPACE_shared_info, 0, HOLE) == 0
        guest.write((HOLE << 12) + 2048, b"\x80")
        assert machine.hypervisor.ram.u8[guest.domain.shared_info + 2048] == 0x80


@pytest.mark.parametrize("word", WORDS)
def test_frames_of_the_grant_table_come_when_they_are_asked_for(word: int) -> None:
    with Translated(word=word) as machine:
        guest = machine[1]
        table = guest.domain.grant_table
        assert add(guest, XENMAPSPACE_grant_table, 0, TABLE_GFN) == 0
        assert add(guest, XENMAPSPACE_grant_table, 3, HOLE) == 0
        assert len(table.frames) == 4
        assert guest.domain.p2m.get(HOLE) == table.frames[3]
        assert add(guest, XENMAPSPACE_grant_table, 64, HOLE) == -Errno.EINVAL
        # Status frames are for version 2.
        status = XENMAPIDX_grant_table_status
        assert add(guest, XENMAPSPACE_grant_table, status, HOLE + 1) == -Errno.EINVAL


def test_a_frame_of_the_guests_own_moves() -> None:
    with Translated() as machine:
        guest = machine[1]
        mfn = guest.domain.p2m.get(7)
        assert add(guest, XENMAPSPACE_gmfn, 7, HOLE) == 0
        assert guest.domain.p2m.get(HOLE) == mfn
        assert guest.domain.p2m.get(7) is None
        assert add(guest, XENMAPSPACE_gmfn, 7, HOLE) == -Errno.EINVAL
        assert add(guest, XENMAPSPACE_gmfn, HOLE, HOLE) == 0
        assert domain_answer(guest, XENMEM_current_reservation) == PAGES


@pytest.mark.parametrize("slice_cycles", [1, LONG_SLICE])
def test_a_range_moves_even_when_time_is_up_again_and_again(slice_cycles: int) -> None:
    with Translated() as machine:
        guest = machine[1]
        frames = [guest.domain.p2m.get(gfn) for gfn in range(10, 26)]
        fields = {"domid": DOMID_SELF, "size": 16, "space": XENMAPSPACE_gmfn_range, "idx": 10, "gpfn": HOLE}
        at = guest.put(xen_add_to_physmap.pack(4, **fields))
        assert guest.call("memory_op", XENMEM_add_to_physmap, at, slice_cycles=slice_cycles) == 0
        assert [guest.domain.p2m.get(HOLE + page) for page in range(16)] == frames
        assert add(guest, XENMAPSPACE_gmfn_range, 0xFFFFFFFF, HOLE, size=1) == -Errno.EINVAL


def test_what_is_for_others_is_refused_as_by_xen() -> None:
    with Translated() as machine:
        guest = machine[1]
        assert add(guest, XENMAPSPACE_gmfn_foreign, 0, HOLE) == -Errno.ENOSYS
        assert add(guest, XENMAPSPACE_dev_mmio, 0, HOLE) == -Errno.EACCES
        assert add(guest, 99, 0, HOLE) == -Errno.EINVAL
        assert add(guest, XENMAPSPACE_shared_info, 0, HOLE, domid=2) == -Errno.EPERM
        assert add(guest, XENMAPSPACE_shared_info, 0, HOLE, domid=99) == -Errno.ESRCH
        assert guest.call("memory_op", XENMEM_acquire_resource, 0) == -Errno.EACCES
        for command in (XENMEM_machine_memory_map, XENMEM_machphys_mapping, 77):
            assert guest.call("memory_op", command, guest.put(bytes(64))) == -Errno.ENOSYS
        assert guest.call("memory_op", XENMEM_add_to_physmap | 0x10000 << 6, 0) == -Errno.EDOM


def test_no_frame_can_be_put_where_no_guest_can_address_it() -> None:
    with Translated(word=8) as machine:
        guest = machine[1]
        assert add(guest, XENMAPSPACE_shared_info, 0, 1 << 28) == -Errno.ENOENT
        assert add(guest, XENMAPSPACE_shared_info, 0, 1 << 45) == -Errno.ENOENT
        assert add(guest, XENMAPSPACE_shared_info, 0, (1 << 64) - 1) == -Errno.EINVAL
        assert extents(guest, XENMEM_populate_physmap, [1 << 60]) == 0


@pytest.mark.parametrize("word", WORDS)
def test_a_batch_has_an_error_for_each_of_its_requests(word: int) -> None:
    with Translated(word=word) as machine:
        guest = machine[1]
        layout = "<4I" if word == 4 else "<4Q"
        idxs = guest.put(struct.pack(layout, 20, 900, 21, 20), 256)
        gfns = guest.put(struct.pack(layout, HOLE, HOLE, HOLE + 1, HOLE + 2), 512)
        errs = guest.put(bytes(16), 768)
        batch = {
            "domid": DOMID_SELF,
            "space": XENMAPSPACE_gmfn,
            "size": 4,
            "idxs": idxs,
            "gpfns": gfns,
            "errs": errs,
        }
        command = XENMEM_add_to_physmap_batch
        assert guest.command("memory_op", command, xen_add_to_physmap_batch, **batch).result == 0
        assert struct.unpack("<4i", guest.read(errs, 16)) == (0, -Errno.EINVAL, 0, -Errno.EINVAL)
        batch["space"] = XENMAPSPACE_gmfn_range
        refused = guest.command("memory_op", command, xen_add_to_physmap_batch, **batch).result
        assert refused == -Errno.EOPNOTSUPP
        batch["space"] = XENMAPSPACE_gmfn_foreign
        assert guest.command("memory_op", command, xen_add_to_physmap_batch, **batch).result == 0
        assert struct.unpack("<4i", guest.read(errs, 16)) == (-Errno.EPERM,) * 4


def test_a_page_that_is_removed_stays_the_domains_but_is_nowhere() -> None:
    with Translated() as machine:
        guest = machine[1]
        mfn = guest.domain.p2m.get(9)
        assert mfn is not None
        assert remove(guest, 9) == 0
        assert remove(guest, 9) == -Errno.ENOENT
        assert guest.domain.p2m.get(9) is None
        assert machine.hypervisor.m2p.get(mfn) == INVALID_M2P
        assert machine.hypervisor.frames.owner[mfn] == guest.domid
        assert domain_answer(guest, XENMEM_current_reservation) == PAGES


@pytest.mark.parametrize("word", WORDS)
def test_a_balloon_gives_frames_back_and_gets_others(word: int) -> None:
    with Translated(word=word) as machine:
        guest = machine[1]
        free = machine.hypervisor.heap.free_frames
        assert extents(guest, XENMEM_decrease_reservation, [30, 31, 32, 31, 33]) == 3
        assert machine.hypervisor.heap.free_frames == free + 3
        assert domain_answer(guest, XENMEM_current_reservation) == PAGES - 3
        assert extents(guest, XENMEM_populate_physmap, [31, HOLE]) == 2
        guest.write(HOLE << 12, b"new")
        assert guest.read(HOLE << 12, 5) == b"new\0\0"
        assert domain_answer(guest, XENMEM_maximum_gpfn) == HOLE
        assert domain_answer(guest, XENMEM_maximum_reservation) == 2 * PAGES
        # Frames without a place are the domain's, too, and it may have so many and no more.
        assert extents(guest, XENMEM_increase_reservation, [0] * 200) == PAGES + 1


def test_an_exchange_puts_new_frames_where_the_guest_wants_them() -> None:
    with Translated() as machine:
        guest = machine[1]
        old = [guest.domain.p2m.get(gfn) for gfn in (40, 41)]
        given = guest.put(struct.pack("<2I", 40, 41), 256)
        wanted = guest.put(struct.pack("<2I", HOLE, 41), 512)
        extent = {"nr_extents": 2, "extent_order": 0, "mem_flags": 0, "domid": DOMID_SELF}
        answer = guest.command(
            "memory_op",
            XENMEM_exchange,
            xen_memory_exchange,
            **{"in": {"extent_start": given, **extent}, "out": {"extent_start": wanted, **extent}},
        )
        assert (answer.result, answer.op.nr_exchanged) == (0, 2)
        assert guest.domain.p2m.get(40) is None
        assert guest.domain.p2m.get(HOLE) not in (None, *old)
        assert guest.domain.p2m.get(41) not in (None, old[1])
        assert guest.read(wanted, 8) == struct.pack("<2I", HOLE, 41)


@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_a_guest_that_scatters_its_memory_uses_up_its_own_pool_and_nothing_else(paging: str) -> None:
    with Translated(paging=paging) as machine:
        guest, other = machine[1], machine[2]
        free = machine.hypervisor.heap.free_frames
        gfn, results = PAGES - 1, []
        for place in range(1, 400):
            results.append(add(guest, XENMAPSPACE_gmfn, gfn, place << 9))
            if results[-1]:
                break
            gfn = place << 9
        # Each place wants a table of its own, but for shadows there are none: they follow the guest's tables.
        expected = -Errno.ENOMEM if paging == "nested" else 0
        assert len(results) > 200
        assert results[-1] == expected
        assert machine.hypervisor.heap.free_frames == free
        assert guest.domain.shutdown_reason is None
        assert extents(guest, XENMEM_populate_physmap, [PAGES - 1]) == 1
        assert extents(guest, XENMEM_populate_physmap, [500 << 9]) == (0 if paging == "nested" else 1)
        assert add(other, XENMAPSPACE_gmfn, PAGES - 1, 500 << 9) == 0


@pytest.mark.parametrize("word", WORDS)
def test_the_guest_is_told_its_map_of_memory_as_far_as_there_is_room(word: int) -> None:
    with Translated(word=word) as machine:
        guest = machine[1]
        buffer = guest.put(bytes(64), 1024)
        answer = guest.command("memory_op", XENMEM_memory_map, xen_memory_map, nr_entries=3, buffer=buffer)
        assert (answer.result, answer.op.nr_entries) == (0, 1)
        assert guest.read(buffer, 24) == struct.pack("<QQI4x", 0, PAGES << 12, 1)
        answer = guest.command("memory_op", XENMEM_memory_map, xen_memory_map, nr_entries=0, buffer=buffer)
        assert (answer.result, answer.op.nr_entries) == (0, 0)


@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_a_destroyed_domain_gives_every_frame_back(paging: str) -> None:
    with Translated(paging=paging) as machine:
        for domid in (1, 2):
            guest = machine[domid]
            assert add(guest, XENMAPSPACE_shared_info, 0, 5) == 0
            assert add(guest, XENMAPSPACE_grant_table, 2, 6) == 0
            assert remove(guest, 9) == 0
            assert extents(guest, XENMEM_populate_physmap, [HOLE]) == 1
        for domid in (1, 2):
            machine.destroy(domid)
            machine.audit()
        assert machine.hypervisor.heap.free_frames == machine.free_frames
        assert machine.hypervisor.free_xen_frames == machine.free_xen_frames
        assert not machine.hypervisor.domains


_GFNS = st.sampled_from([0, 3, 4, 5, 6, TABLE_GFN, PAGES - 1, PAGES, HOLE, HOLE + 1, 1 << 28])
_SPACES = st.sampled_from(
    [XENMAPSPACE_shared_info, XENMAPSPACE_grant_table, XENMAPSPACE_gmfn, XENMAPSPACE_gmfn_range]
)
_ACTIONS = st.one_of(
    st.tuples(st.just(add), _SPACES, st.integers(0, 6), _GFNS, st.integers(0, 3)),
    st.tuples(st.just(remove), _GFNS),
    st.tuples(
        st.just(extents),
        st.sampled_from([XENMEM_decrease_reservation, XENMEM_populate_physmap, XENMEM_increase_reservation]),
        st.lists(_GFNS, max_size=3),
        st.sampled_from([0, 0, 1]),
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), _ACTIONS), max_size=25),
    st.sampled_from([None, 0, 1, 2, 3]),
)
def test_whatever_guests_do_to_their_maps_all_counts_stay_right(
    actions: list[tuple[int, tuple[Any, ...]]], room_for_tables: int | None
) -> None:
    with Translated() as machine:
        for domid in (1, 2) if room_for_tables is not None else ():
            pool = machine[domid].domain.paging_pool
            pool.resize(len(pool) - pool.spare + room_for_tables)
        for domid, (action, *arguments) in actions:
            with suppress(GuestFault):  # the guest may have taken the page for its requests away
                action(machine[domid], *arguments)
            machine.audit()
        for domid in (1, 2):
            machine.destroy(domid)
        assert machine.hypervisor.heap.free_frames == machine.free_frames
