"""What is granted stays where it is as long as somebody uses it: revocation, giving up frames, and death."""

import struct
from collections.abc import Iterator

import pytest
from answers import OUTSIDE
from three_domains import WINDOW_PFNS, Guest, ThreeDomains

from pvemu.abi import grant_table as abi
from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused, PvemuError
from pvemu.abi.memory import XENMEM_decrease_reservation, xen_memory_reservation
from pvemu.abi.xen import DOMID_SELF
from pvemu.hypervisor.audit import Auditor
from pvemu.memory.frames import NO_OWNER

WINDOW, SECOND_WINDOW, *_ = WINDOW_PFNS
BOTH = abi.GNTMAP_host_map | abi.GNTMAP_device_map
KINDS = {
    "host": abi.GNTMAP_host_map,
    "entry": abi.GNTMAP_host_map | abi.GNTMAP_contains_pte,
    "device": abi.GNTMAP_device_map,
    "both": BOTH,
    "both-readonly": BOTH | abi.GNTMAP_readonly,
}
REF = 9


@pytest.fixture
def machine() -> Iterator[ThreeDomains]:
    with ThreeDomains() as machine:
        yield machine
        Auditor(machine.hypervisor).audit()


def unmap_whole(guest: Guest, mapped: object, flags: int) -> int:
    """Give back all that a mapping holds; the status."""
    host = guest.virtual(WINDOW)
    if flags & abi.GNTMAP_contains_pte:
        host = guest.entry(WINDOW) * 8
    bus = mapped.dev_bus_addr if flags & abi.GNTMAP_device_map else 0  # type: ignore[attr-defined]
    return guest.unmap(mapped.handle, host if flags & abi.GNTMAP_host_map else 0, bus)  # type: ignore[attr-defined]


def give_up(guest: Guest, mfn: int) -> int:
    """XENMEM_decrease_reservation of one frame; how many were given up."""
    listed = guest.put(struct.pack("<I", mfn), offset=1024)
    raw = xen_memory_reservation.pack(4, extent_start=listed, nr_extents=1, extent_order=0, domid=DOMID_SELF)
    return guest.call("memory_op", XENMEM_decrease_reservation, guest.put(raw))


def test_what_one_domain_writes_another_sees_through_a_grant(machine: ThreeDomains) -> None:
    first, second = machine.guests[1], machine.guests[2]
    first.grant(REF, 2, first.pool[0])
    assert second.map(1, REF, WINDOW).status == abi.GNTST_okay
    second.domain.memory.copy_to_guest(second.virtual(WINDOW) + 100, b"through a grant")
    assert bytes(machine.bytes_of(first.pool[0])[100:115]) == b"through a grant"


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapping_outlives_its_revocation(machine: ThreeDomains, kind: str) -> None:
    first, second = machine.guests[1], machine.guests[2]
    flags, mfn = KINDS[kind], first.pool[0]
    first.grant(REF, 2, mfn)
    mapped = second.map(1, REF, WINDOW, flags)
    assert mapped.status == abi.GNTST_okay
    first.grant(REF, 0, first.pool[1], abi.GTF_invalid)
    assert machine.guests[0].map(1, REF, WINDOW).status == abi.GNTST_general_error
    if flags & abi.GNTMAP_host_map:
        assert second.shown(WINDOW) == mfn
    Auditor(machine.hypervisor).audit()
    assert unmap_whole(second, mapped, flags) == abi.GNTST_okay
    assert second.map(1, REF, WINDOW, flags).status == abi.GNTST_general_error


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_given_up_while_mapped_is_free_after_the_last_unmapping(
    machine: ThreeDomains, kind: str
) -> None:
    first, second = machine.guests[1], machine.guests[2]
    flags, mfn = KINDS[kind], first.pool[0]
    first.grant(REF, 2, mfn)
    mapped = second.map(1, REF, WINDOW, flags)
    machine.bytes_of(mfn)[:4] = b"data"
    assert give_up(first, mfn) == 1
    assert machine.hypervisor.frames.owner[mfn] == 1
    assert bytes(machine.bytes_of(mfn)[:4]) == b"data"
    Auditor(machine.hypervisor).audit()
    assert unmap_whole(second, mapped, flags) == abi.GNTST_okay
    assert machine.hypervisor.frames.owner[mfn] == NO_OWNER


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_domains_frames_go_when_the_last_mapping_of_them_does(
    machine: ThreeDomains, kind: str
) -> None:
    first, second = machine.guests[1], machine.guests[2]
    hypervisor, flags, mfn = machine.hypervisor, KINDS[kind], first.pool[0]
    free = hypervisor.heap.free_frames
    first.grant(REF, 2, mfn)
    mapped = second.map(1, REF, WINDOW, flags)
    machine.bytes_of(mfn)[:4] = b"data"
    machine.destroy(1)
    Auditor(hypervisor).audit()
    assert first.domain.pages == 1
    assert hypervisor.domains[1] is first.domain
    if flags & abi.GNTMAP_host_map:
        assert second.domain.memory.copy_from_guest(second.virtual(WINDOW), 4) == b"data"
    assert unmap_whole(second, mapped, flags) == abi.GNTST_okay
    assert 1 not in hypervisor.domains
    assert hypervisor.frames.owner[mfn] == NO_OWNER
    assert hypervisor.heap.free_frames == free + len(first.frames)


@pytest.mark.parametrize("kind", KINDS)
def test_a_domain_that_dies_gives_back_what_it_had_mapped(machine: ThreeDomains, kind: str) -> None:
    first, second = machine.guests[1], machine.guests[2]
    flags, mfn = KINDS[kind], first.pool[0]
    first.grant(REF, 2, mfn)
    assert second.map(1, REF, WINDOW, flags).status == abi.GNTST_okay
    assert first.flags(REF) & abi.GTF_reading
    machine.destroy(2)
    Auditor(machine.hypervisor).audit()
    assert 2 not in machine.hypervisor.domains
    assert first.flags(REF) == abi.GTF_permit_access
    assert machine.hypervisor.frames.count[mfn] == 1
    assert first.pin_as_table(mfn) == 0


def test_two_domains_that_map_each_others_frames_can_die_one_after_the_other(machine: ThreeDomains) -> None:
    first, second = machine.guests[1], machine.guests[2]
    first.grant(REF, 2, first.pool[0])
    second.grant(REF, 1, second.pool[0])
    for mapper, granter in ((first, 2), (second, 1)):
        assert mapper.map(granter, REF, WINDOW, BOTH).status == abi.GNTST_okay
    machine.destroy(1)
    Auditor(machine.hypervisor).audit()
    assert 1 in machine.hypervisor.domains
    machine.destroy(2)
    assert not machine.hypervisor.domains.keys() & {1, 2}


def test_who_unmaps_what_a_vanished_domain_granted_crashes(machine: ThreeDomains) -> None:
    """Its frame went with the entry that was overwritten, so nothing kept the domain (Xen: unmap_common)."""
    first, second = machine.guests[1], machine.guests[2]
    first.grant(REF, 2, first.pool[0])
    mapped = second.map(1, REF, WINDOW)
    assert second.show(WINDOW, 0) == 0
    machine.destroy(1)
    assert 1 not in machine.hypervisor.domains
    Auditor(machine.hypervisor).audit()
    machine.make(1)
    second.unmap(mapped.handle, second.virtual(WINDOW))
    assert second.domain.has_shut_down


def test_a_dying_domain_gets_nothing_and_gives_no_copies_of_what_is_mapped(machine: ThreeDomains) -> None:
    first, second = machine.guests[1], machine.guests[2]
    first.grant(REF, 2, first.pool[0])
    first.grant(REF + 1, 2, 0, abi.GTF_accept_transfer)
    mapped = second.map(1, REF, WINDOW)
    machine.destroy(1)
    pages, given = second.domain.pages, second.pool[0]
    answer = second.single("transfer", abi.gnttab_transfer, mfn=given, domid=1, ref=REF + 1, status=77)
    assert (answer.result, answer.op.status) == (0, abi.GNTST_general_error)
    assert second.domain.pages == pages - 1
    copy = second.single(
        "copy",
        abi.gnttab_copy,
        source={"u": {"ref": REF}, "domid": 1},
        dest={"u": {"gmfn": second.pool[1]}, "domid": DOMID_SELF},
        len=8,
        flags=abi.GNTCOPY_source_gref,
    )
    assert (copy.result, copy.op.status) == (0, abi.GNTST_bad_domain)
    assert second.unmap(mapped.handle, second.virtual(WINDOW)) == abi.GNTST_okay
    assert 1 not in machine.hypervisor.domains


# --- a domain outside the machine -----------------------------------------------------------------


def test_a_service_maps_a_grant_and_gives_it_back(machine: ThreeDomains) -> None:
    guest = machine.guests[1]
    guest.grant(REF, OUTSIDE, guest.pool[0])
    handle, view = machine.outside.map_grant(1, REF, writable=True)
    view[:4] = b"data"
    assert bytes(machine.bytes_of(guest.pool[0])[:4]) == b"data"
    assert guest.flags(REF) == abi.GTF_permit_access | abi.GTF_reading | abi.GTF_writing
    assert guest.pin_as_table(guest.pool[0]) == -int(Errno.EINVAL)
    Auditor(machine.hypervisor).audit()
    machine.outside.unmap_grant(handle)
    machine.outside.unmap_grant(handle)
    assert guest.flags(REF) == abi.GTF_permit_access


def test_a_service_can_not_write_what_it_maps_to_read(machine: ThreeDomains) -> None:
    guest = machine.guests[1]
    guest.grant(REF, OUTSIDE, guest.pool[0], abi.GTF_permit_access | abi.GTF_readonly)
    with pytest.raises(GrantRefused) as refused:
        machine.outside.map_grant(1, REF, writable=True)
    assert refused.value.status == abi.GNTST_general_error
    handle, view = machine.outside.map_grant(1, REF, writable=False)
    assert view.readonly
    assert guest.flags(REF) == abi.GTF_permit_access | abi.GTF_readonly | abi.GTF_reading
    machine.outside.unmap_grant(handle)


def test_a_service_copies_from_and_to_a_grant(machine: ThreeDomains) -> None:
    guest = machine.guests[1]
    guest.grant(REF, OUTSIDE, guest.pool[0])
    machine.outside.copy_to_grant(1, REF, 4090, b"ending")
    assert machine.outside.copy_from_grant(1, REF, 4088, 8) == b"\0\0ending"
    assert guest.flags(REF) == abi.GTF_permit_access


@pytest.mark.parametrize(
    ("domid", "ref", "offset", "size", "status"),
    [
        (1, REF, 4090, 7, abi.GNTST_bad_copy_arg),
        (1, REF, -1, 7, abi.GNTST_bad_copy_arg),
        (1, REF + 1, 0, 1, abi.GNTST_general_error),
        (1, 512, 0, 1, abi.GNTST_bad_gntref),
        (5, REF, 0, 1, abi.GNTST_bad_domain),
    ],
)
def test_a_service_is_told_why_a_grant_can_not_be_used(
    machine: ThreeDomains, domid: int, ref: int, offset: int, size: int, status: int
) -> None:
    machine.guests[1].grant(REF, OUTSIDE, machine.guests[1].pool[0])
    with pytest.raises(GrantRefused) as reading:
        machine.outside.copy_from_grant(domid, ref, offset, size)
    with pytest.raises(GrantRefused) as writing:
        machine.outside.copy_to_grant(domid, ref, offset, bytes(size))
    assert reading.value.status == writing.value.status == status


def test_a_service_can_not_write_into_a_page_table(machine: ThreeDomains) -> None:
    guest = machine.guests[1]
    guest.grant(REF, OUTSIDE, guest.root_table)
    with pytest.raises(GrantRefused) as refused:
        machine.outside.copy_to_grant(1, REF, 0, b"\1")
    assert refused.value.status == abi.GNTST_general_error
    with pytest.raises(GrantRefused):
        machine.outside.map_grant(1, REF, writable=True)
    assert len(machine.outside.copy_from_grant(1, REF, 0, 8)) == 8


def test_what_a_service_holds_outlives_the_guest(machine: ThreeDomains) -> None:
    guest = machine.guests[1]
    guest.grant(REF, OUTSIDE, guest.pool[0])
    handle, view = machine.outside.map_grant(1, REF, writable=True)
    machine.destroy(1)
    view[:4] = b"late"
    assert bytes(machine.bytes_of(guest.pool[0])[:4]) == b"late"
    Auditor(machine.hypervisor).audit()
    machine.outside.unmap_grant(handle)
    assert 1 not in machine.hypervisor.domains


def test_tools_grant_reserved_entries_to_domain_0_before_the_guest_asks_for_its_table(
    machine: ThreeDomains,
) -> None:
    guest, dom0 = machine.guests[1], machine.guests[0]
    machine.domctl.seed_grant(guest.domain, abi.GNTTAB_RESERVED_CONSOLE, guest.pool[0])
    machine.domctl.seed_grant(guest.domain, abi.GNTTAB_RESERVED_XENSTORE, guest.pool[1])
    assert dom0.map(1, abi.GNTTAB_RESERVED_XENSTORE, WINDOW).status == abi.GNTST_okay
    assert dom0.shown(WINDOW) == guest.pool[1]
    assert machine.guests[2].map(1, abi.GNTTAB_RESERVED_CONSOLE, WINDOW).status == abi.GNTST_general_error
    with pytest.raises(PvemuError):
        machine.domctl.seed_grant(guest.domain, 8, guest.pool[0])
    with pytest.raises(PvemuError):
        machine.domctl.seed_grant(guest.domain, 0, dom0.pool[0])


# --- who may ask about whom -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asker", "status", "errno"), [(0, 0, 0), (2, abi.GNTST_permission_denied, Errno.EPERM)]
)
def test_only_domain_0_learns_about_the_tables_of_others(
    machine: ThreeDomains, asker: int, status: int, errno: int
) -> None:
    guest = machine.guests[asker]
    query = guest.single("query_size", abi.gnttab_query_size, dom=1, status=77)
    listed = guest.requests + 2048
    setup = guest.single(
        "setup_table", abi.gnttab_setup_table, dom=1, nr_frames=2, frame_list=listed, status=77
    )
    frames = guest.single(
        "get_status_frames", abi.gnttab_get_status_frames, dom=1, nr_frames=0, frame_list=listed, status=77
    )
    assert [each.op.status for each in (query, setup, frames)] == [status] * 3
    assert len(machine.guests[1].domain.grant_table.frames) == (2 if status == 0 else 1)
    version = guest.single("get_version", abi.gnttab_get_version, dom=1)
    assert version.result == -errno


def test_a_frame_transferred_to_another_domain_is_his_with_what_it_holds(machine: ThreeDomains) -> None:
    first, second = machine.guests[1], machine.guests[2]
    mfn, pages = first.pool[0], (first.domain.pages, second.domain.pages)
    machine.bytes_of(mfn)[:4] = b"gift"
    second.grant(REF, 1, 0x1234, abi.GTF_accept_transfer)
    answer = first.single("transfer", abi.gnttab_transfer, mfn=mfn, domid=2, ref=REF, status=77)
    assert (answer.result, answer.op.status) == (0, abi.GNTST_okay)
    assert (first.domain.pages, second.domain.pages) == (pages[0] - 1, pages[1] + 1)
    assert machine.hypervisor.m2p.get(mfn) == 0x1234
    assert second.show(WINDOW, mfn << 12 | 0x63) == 0
    assert second.domain.memory.copy_from_guest(second.virtual(WINDOW), 4) == b"gift"
    assert first.show(WINDOW, mfn << 12 | 0x63) == -int(Errno.EBUSY)


def test_a_domain_at_its_limit_gets_no_frame_and_the_giver_loses_it(machine: ThreeDomains) -> None:
    first, second = machine.guests[1], machine.guests[2]
    mfn = first.pool[0]
    second.grant(REF, 1, 0, abi.GTF_accept_transfer)
    second.domain.max_pages = second.domain.pages
    answer = first.single("transfer", abi.gnttab_transfer, mfn=mfn, domid=2, ref=REF, status=77)
    assert (answer.result, answer.op.status) == (0, abi.GNTST_general_error)
    assert second.flags(REF) == abi.GTF_accept_transfer
    assert machine.hypervisor.frames.owner[mfn] == NO_OWNER


def test_a_transitive_grant_hands_on_what_a_third_domain_granted(machine: ThreeDomains) -> None:
    dom0, first, second = (machine.guests[domid] for domid in (0, 1, 2))
    machine.bytes_of(first.pool[0])[:8] = b"original"
    first.grant(REF, 2, first.pool[0], abi.GTF_permit_access | abi.GTF_readonly)
    assert second.single("set_version", abi.gnttab_set_version, version=2).result == 0
    raw = abi.grant_entry_v2.pack(
        4, transitive={"hdr": {"flags": abi.GTF_transitive, "domid": 0}, "trans_domid": 1, "gref": REF}
    )
    second.domain.memory.copy_to_guest(second.virtual(56) + REF * 16, raw)
    results = []
    for flags, source, dest in (
        (abi.GNTCOPY_source_gref, ({"ref": REF}, 2), ({"gmfn": dom0.pool[0]}, DOMID_SELF)),
        (abi.GNTCOPY_dest_gref, ({"gmfn": dom0.pool[1]}, DOMID_SELF), ({"ref": REF}, 2)),
    ):
        answer = dom0.single(
            "copy",
            abi.gnttab_copy,
            source={"u": source[0], "domid": source[1]},
            dest={"u": dest[0], "domid": dest[1]},
            len=8,
            flags=flags,
            status=77,
        )
        results.append(answer.op.status)
    assert results == [abi.GNTST_okay, abi.GNTST_general_error]
    assert bytes(machine.bytes_of(dom0.pool[0])[:8]) == b"original"
    assert first.flags(REF) == abi.GTF_permit_access | abi.GTF_readonly
    assert dom0.map(2, REF, WINDOW).status == abi.GNTST_general_error
