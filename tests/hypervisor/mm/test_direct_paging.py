"""Promises of direct paging that random requests seldom come to: long calls, full counters, Xen's frames."""

import struct
from collections.abc import Iterator

import pytest
from two_domains import Guest, TwoDomains

from pvemu.abi import xen
from pvemu.abi.errno import Errno
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.memory import XENMEM_decrease_reservation, xen_memory_reservation
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import PackedWords

TABLE_LINK = 0x67
LINEAR_LINK = 0x25
AT_ONCE = -1
ENTRIES = 512
BATCH = 128


@pytest.fixture
def machine() -> Iterator[TwoDomains]:
    with TwoDomains(pool=80) as machine:
        yield machine
        Auditor(machine.hypervisor).audit()


def operate(machine: TwoDomains, guest: Guest, *wanted: tuple[int, int], **how: int) -> int | None:
    """mmuext_op with (command, mfn) each."""
    at = machine.put(guest, b"".join(struct.pack("<3I", command, mfn, 0) for command, mfn in wanted))
    foreign = how.pop("foreign", xen.DOMID_SELF)
    return machine.call(guest, "mmuext_op", at, len(wanted), 0, foreign, **how)


def fill(machine: TwoDomains, guest: Guest, table: int, entry: int, number: int = ENTRIES) -> None:
    """Write the same entry into a frame that is no table yet."""
    for first in range(0, number, BATCH):
        indexes = range(first, min(first + BATCH, number))
        at = machine.put(
            guest, b"".join(struct.pack("<QQ", table << 12 | each << 3, entry) for each in indexes)
        )
        assert machine.call(guest, "mmu_update", at, len(indexes), 0, xen.DOMID_SELF) == 0


@pytest.mark.parametrize("number", [0, 1], ids=["dom0", "domU"])
@pytest.mark.parametrize(
    ("last", "result"), [(xen.MMUEXT_TLB_FLUSH_LOCAL, 0), (99, -Errno.ENOSYS)], ids=["good", "bad"]
)
def test_a_call_that_lets_go_of_a_table_at_its_end_has_its_own_result(
    machine: TwoDomains, number: int, last: int, result: int
) -> None:
    guest = machine.guests[number]
    l2, l1, *_ = guest.pool
    fill(machine, guest, l2, l1 << 12 | TABLE_LINK)
    assert operate(machine, guest, (xen.MMUEXT_PIN_L2_TABLE, l2)) == 0
    ending = (last, 0), (xen.MMUEXT_UNPIN_TABLE, l2)
    wanted = ending if result == 0 else tuple(reversed(ending))
    assert operate(machine, guest, *wanted, slice_cycles=AT_ONCE) == result


def test_more_linear_maps_of_a_table_than_can_be_counted_are_refused(machine: TwoDomains) -> None:
    guest = machine.guests[1]
    target, *others = guest.pool
    assert operate(machine, guest, (xen.MMUEXT_PIN_L2_TABLE, target)) == 0
    results = []
    for table in others[:65]:
        fill(machine, guest, table, target << 12 | LINEAR_LINK)
        results.append(operate(machine, guest, (xen.MMUEXT_PIN_L2_TABLE, table)))
    assert results == [0] * 64 + [-Errno.EINVAL]


@pytest.mark.parametrize("command", [xen.MMUEXT_PIN_L1_TABLE, xen.MMUEXT_UNPIN_TABLE, xen.MMUEXT_CLEAR_PAGE])
@pytest.mark.parametrize("foreign", [xen.DOMID_XEN, xen.DOMID_IO])
def test_domain_0_can_make_nothing_of_frames_that_are_no_domains(
    machine: TwoDomains, command: int, foreign: int
) -> None:
    hypervisor, guest = machine.hypervisor, machine.guests[0]
    for mfn in (5, hypervisor.m2p.first, hypervisor.gdt_frame, guest.vcpu.monitor, hypervisor.zero_frame):
        assert operate(machine, guest, (command, mfn), foreign=foreign) == -Errno.EINVAL


def test_domain_0_can_look_at_the_m2p_and_at_no_other_frame_of_the_hypervisor(machine: TwoDomains) -> None:
    hypervisor, guest = machine.hypervisor, machine.guests[0]

    def map_it(mfn: int, flags: int) -> int | None:
        words = (guest.virtual(40), mfn << 12 | flags, 0, 0, xen.DOMID_XEN)
        return machine.call(guest, "update_va_mapping_otherdomain", *words)

    assert map_it(hypervisor.m2p.first, 0x21) == 0
    assert map_it(hypervisor.m2p.first, 0x63) == -Errno.EBUSY
    for mfn in (hypervisor.gdt_frame, guest.vcpu.monitor, hypervisor.zero_frame):
        assert map_it(mfn, 0x21) == -Errno.EBUSY


def test_a_list_of_frames_of_any_length_is_interrupted_when_time_is_up(machine: TwoDomains) -> None:
    hypervisor, guest = machine.hypervisor, machine.guests[1]
    l1, listed, *_ = guest.pool
    given = guest.frames[200]
    fill(machine, guest, l1, listed << 12 | 0x61)
    fill(machine, guest, listed, given << 32 | given)
    first_l2 = hypervisor.ram.u64[guest.vcpu.cr3 << 9] >> 12 & 0xFFFFF
    fill(machine, guest, first_l2, l1 << 12 | TABLE_LINK, number=8)
    number = 8 * ENTRIES * 1024
    request = xen_memory_reservation.pack(
        4, extent_start=0, nr_extents=number, extent_order=0, domid=xen.DOMID_SELF
    )
    words = PackedWords([XENMEM_decrease_reservation, machine.put(guest, request), 0, 0, 0])
    hypervisor.clock.deadline = hypervisor.clock.now + 100_000
    with pytest.raises(Continuation) as stopped:
        hypervisor.call(guest.vcpu, BY_NAME["memory_op"].number, words)
    assert 0 < stopped.value.words[0] >> 6 < 1000


def test_an_l2_that_only_a_half_looked_through_l3_uses_stays_one_while_it_is_changed(
    machine: TwoDomains,
) -> None:
    guest = machine.guests[1]
    l3, *l2s = guest.pool[:5]
    for slot, l2 in enumerate(l2s):
        at = machine.put(guest, struct.pack("<QQ", l3 << 12 | slot << 3, l2 << 12 | 1))
        assert machine.call(guest, "mmu_update", at, 1, 0, xen.DOMID_SELF) == 0
    pin = (xen.MMUEXT_PIN_L3_TABLE, l3)
    assert operate(machine, guest, pin, slice_cycles=AT_ONCE, patience=ENTRIES + 2) is None
    at = machine.put(guest, struct.pack("<QQ", l2s[0] << 12 | 416 << 3, l3 << 12 | LINEAR_LINK))
    assert machine.call(guest, "mmu_update", at, 1, 0, xen.DOMID_SELF) == -Errno.EINVAL
    Auditor(machine.hypervisor).audit()
    assert operate(machine, guest, pin) == 0


def test_an_l1_that_only_a_half_looked_through_l2_uses_stays_one_while_it_is_changed(
    machine: TwoDomains,
) -> None:
    guest = machine.guests[1]
    l2, l1, data, *_ = guest.pool
    fill(machine, guest, l1, data << 12 | 0x63, number=8)
    fill(machine, guest, l2, l1 << 12 | TABLE_LINK, number=8)
    pin = (xen.MMUEXT_PIN_L2_TABLE, l2)
    assert operate(machine, guest, pin, slice_cycles=AT_ONCE, patience=1) is None
    at = machine.put(guest, struct.pack("<QQ", l1 << 12, l2 << 12 | 0x63))
    assert machine.call(guest, "mmu_update", at, 1, 0, xen.DOMID_SELF) == -Errno.EBUSY
    Auditor(machine.hypervisor).audit()
    assert operate(machine, guest, pin) == 0


@pytest.mark.parametrize("who", [0, 1], ids=["by dom0", "by itself"])
def test_update_va_mapping_goes_to_the_table_that_maps_the_address_now(machine: TwoDomains, who: int) -> None:
    guest, changer = machine.guests[1], machine.guests[who]
    u64, address = machine.hypervisor.ram.u64, 0xC060_0000
    first, second, data, *_ = guest.pool
    l2 = u64[(guest.vcpu.cr3 << 9) + (address >> 30)] >> 12 & 0xFFFFF

    def link(table: int) -> None:
        entry = table << 12 | TABLE_LINK if table else 0
        at = machine.put(changer, struct.pack("<QQ", l2 << 12 | (address >> 21 & 511) << 3, entry))
        domid = guest.domain.domid
        foreign = xen.DOMID_SELF if changer is guest else domid + 1 << 16 | domid
        assert machine.call(changer, "mmu_update", at, 1, 0, foreign) == 0

    def map_page(flags: int) -> int | None:
        entry = data << 12 | flags
        return machine.call(guest, "update_va_mapping", address + 0x5000, entry & 0xFFFFFFFF, entry >> 32, 0)

    for flags, table in ((0x61, first), (0x63, second), (0x61, second), (0x63, first)):
        link(table)
        assert map_page(flags) == 0
        assert u64[(table << 9) + 5] == data << 12 | flags
    assert u64[(second << 9) + 5] == data << 12 | 0x61
    link(0)
    assert map_page(0x61) == -Errno.EINVAL
