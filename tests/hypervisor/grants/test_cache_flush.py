"""Caches may be flushed for a frame that is one's own, or granted and in use, and for no other.

Rule: Xen's grant_table.c, _cache_flush and grant_map_exists.
"""

import struct
from collections.abc import Iterator

import pytest
from three_domains import WINDOW_PFNS, Guest, ThreeDomains

from pvemu.abi import grant_table as abi
from pvemu.abi.errno import Errno
from pvemu.abi.xen import DOMID_SELF
from pvemu.hypervisor.audit import Auditor

WINDOW = WINDOW_PFNS[0]
REF = 9
CLEAN, INVALIDATE = abi.GNTTAB_CACHE_CLEAN, abi.GNTTAB_CACHE_INVAL
#: Frames of a table with so many entries that they are not looked at all at once.
LONG_TABLE = 20
FAR_REF = 9000


@pytest.fixture
def machine() -> Iterator[ThreeDomains]:
    with ThreeDomains() as machine:
        yield machine
        Auditor(machine.hypervisor).audit()


def flush(guest: Guest, mfn: int, operation: int = CLEAN, *, slice_cycles: int = 10_000_000) -> int:
    """Flush the first 16 bytes of a frame; the result."""
    fields = {"a": {"dev_bus_addr": mfn << 12}, "offset": 0, "length": 16, "op": operation}
    at = guest.put(abi.gnttab_cache_flush.pack(4, **fields))
    return guest.call("grant_table_op", abi.GNTTABOP_cache_flush, at, 1, slice_cycles=slice_cycles)


def test_a_frame_of_another_is_flushed_only_while_it_is_mapped(machine: ThreeDomains) -> None:
    granter, user = machine.guests[1], machine.guests[2]
    mfn = granter.pool[0]
    assert flush(user, mfn) == -Errno.EINVAL
    granter.grant(REF, user.domid, mfn)
    assert flush(user, mfn) == -Errno.EINVAL
    mapped = user.map(granter.domid, REF, WINDOW)
    assert flush(user, mfn) == 0
    assert flush(user, mfn, INVALIDATE) == -Errno.EOPNOTSUPP
    assert flush(user, mfn, CLEAN | INVALIDATE) == 0
    assert flush(machine.guests[0], mfn) == -Errno.EINVAL
    assert flush(granter, mfn) == 0
    assert user.unmap(mapped.handle, user.virtual(WINDOW)) == 0
    assert flush(user, mfn) == -Errno.EINVAL


def test_a_frame_of_nobody_is_not_flushed(machine: ThreeDomains) -> None:
    hypervisor = machine.hypervisor
    assert flush(machine.guests[1], hypervisor.gdt_frame) == -Errno.EPERM
    free = hypervisor.heap.allocate(1)
    hypervisor.heap.free(free)
    assert flush(machine.guests[1], free) == -Errno.EPERM
    assert flush(machine.guests[1], hypervisor.frames.number) == -Errno.EINVAL


@pytest.mark.parametrize("slice_cycles", [1, 10_000_000])
def test_a_long_table_is_looked_through_to_its_end(machine: ThreeDomains, slice_cycles: int) -> None:
    granter, user = machine.guests[1], machine.guests[2]
    listed = granter.requests + 2048
    table = granter.single(
        "setup_table", abi.gnttab_setup_table, dom=DOMID_SELF, nr_frames=LONG_TABLE, frame_list=listed
    )
    assert (table.result, table.op.status) == (0, 0)
    mfn = granter.pool[0]
    assert flush(user, mfn, slice_cycles=slice_cycles) == -Errno.EINVAL
    frame, offset = divmod(FAR_REF * 8, 4096)
    entry = struct.pack("<HHI", abi.GTF_permit_access, user.domid, mfn)
    machine.bytes_of(granter.domain.grant_table.frames[frame])[offset : offset + 8] = entry
    assert user.map(granter.domid, FAR_REF, WINDOW).status == 0
    assert flush(user, mfn, slice_cycles=slice_cycles) == 0
