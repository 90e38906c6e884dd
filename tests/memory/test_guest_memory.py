"""The one door to guest memory: what it lets through, and that nothing but GuestFault comes out of it."""

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.errno import Errno
from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.page_tables import COMPAT
from pvemu.memory.ram import PAGE_SIZE, Ram

LIMIT = 0xF5800000
L3, L2, L1 = 1, 2, 3
FRAMES = 16
#: Pages 0 to 5 of the guest: writable, read-only, absent, writable, outside RAM, writable.
BASE = 0x400000
WRITABLE, READ_ONLY, ABSENT, ALSO_WRITABLE, OUTSIDE, LAST = (BASE + page * PAGE_SIZE for page in range(6))
_MAPPED = {0: 8 << 12 | 7, 1: 9 << 12 | 5, 3: 11 << 12 | 7, 4: 99 << 12 | 7, 5: 12 << 12 | 7}


class Guest(NamedTuple):
    ram: Ram
    door: GuestMemory
    written: list[int]


def make_guest() -> Guest:
    ram, written = Ram(FRAMES * PAGE_SIZE), list[int]()
    struct.pack_into("<Q", ram.u8, L3 * PAGE_SIZE, L2 << 12 | 7)
    struct.pack_into("<Q", ram.u8, L3 * PAGE_SIZE + 24, L2 << 12 | 7)
    for slot in (2, 0x1AB, 0x1AC, 0x1FF):  # 0x1ab ends at the limit
        struct.pack_into("<Q", ram.u8, L2 * PAGE_SIZE + slot * 8, L1 << 12 | 7)
    for page, entry in _MAPPED.items():
        struct.pack_into("<Q", ram.u8, L1 * PAGE_SIZE + page * 8, entry)
    struct.pack_into("<Q", ram.u8, L1 * PAGE_SIZE + 511 * 8, 13 << 12 | 7)
    door = GuestMemory(ram, COMPAT, LIMIT, written.append)
    door.set_root(L3)
    return Guest(ram, door, written)


@pytest.mark.parametrize("address", [WRITABLE, WRITABLE + 1, READ_ONLY + 5, READ_ONLY - 3, LAST + 4090])
def test_what_was_written_to_the_frame_is_read(address: int) -> None:
    guest = make_guest()
    for mfn in (8, 9, 11, 12):
        guest.ram.frame(mfn)[:] = bytes((mfn + index) & 0xFF for index in range(PAGE_SIZE))
    frames = {WRITABLE: 8, READ_ONLY: 9, LAST: 12}
    expected = bytes(
        guest.ram.u8[frames[at & ~0xFFF] * PAGE_SIZE + (at & 0xFFF)] for at in range(address, address + 6)
    )
    assert guest.door.copy_from_guest(address, 6) == expected
    assert guest.door.read_u32(address) == int.from_bytes(expected[:4], "little")
    assert guest.door.read_u16(address) == int.from_bytes(expected[:2], "little")


@pytest.mark.parametrize("address", [WRITABLE, WRITABLE + 3, WRITABLE + 4080, READ_ONLY + 4064, LAST + 4064])
def test_a_structure_is_what_its_bytes_are(address: int) -> None:
    guest, layout = make_guest(), struct.Struct("<8I")
    guest.ram.u8[8 * PAGE_SIZE : 10 * PAGE_SIZE] = bytes(index * 7 & 0xFF for index in range(2 * PAGE_SIZE))
    raw = guest.door.copy_from_guest(address, layout.size)
    assert guest.door.unpack(address, layout) == layout.unpack(raw)


@pytest.mark.parametrize("address", [ABSENT, ABSENT - 4, OUTSIDE - 31, OUTSIDE])
def test_a_structure_that_is_not_all_readable_faults(address: int) -> None:
    with pytest.raises(GuestFault):
        make_guest().door.unpack(address, struct.Struct("<8I"))


@pytest.mark.parametrize("address", [WRITABLE, WRITABLE + 3, LAST + 4088])
def test_numbers_are_written_with_their_lowest_byte_first(address: int) -> None:
    guest = make_guest()
    guest.door.write_u64(address, 0x8877665544332211)
    assert guest.door.copy_from_guest(address, 8) == bytes.fromhex("1122334455667788")
    guest.door.write_u32(address, 0xDDCCBBAA)
    assert guest.door.copy_from_guest(address, 8) == bytes.fromhex("aabbccdd55667788")
    assert set(guest.written) == {8 if address < READ_ONLY else 12}


@pytest.mark.parametrize("address", [READ_ONLY, READ_ONLY + 1, READ_ONLY - 1, ABSENT, OUTSIDE, LIMIT])
def test_numbers_are_not_written_where_a_byte_may_not_be(address: int) -> None:
    for write in (make_guest().door.write_u32, make_guest().door.write_u64):
        with pytest.raises(GuestFault):
            write(address, 1)


REFUSED_READS = [
    (ABSENT, 1),
    (ABSENT - 1, 2),
    (OUTSIDE, 4),
    (OUTSIDE - 2, 4),
    (0, 1),
]


@pytest.mark.parametrize(
    ("address", "size"), [*REFUSED_READS, (0xFFFFFFFF, 2), (0xFFFFFFFC, 8), (1 << 32, 4), (-4, 4)]
)
def test_a_read_that_leaves_the_guests_memory_faults(address: int, size: int) -> None:
    with pytest.raises(GuestFault) as fault:
        make_guest().door.copy_from_guest(address, size)
    assert fault.value.result == -int(Errno.EFAULT)


@pytest.mark.parametrize(
    ("address", "size"),
    [*REFUSED_READS, (READ_ONLY, 1), (READ_ONLY - 1, 2), (LIMIT - 2, 4), (LIMIT, 1)],
)
def test_a_write_that_leaves_the_writable_memory_faults(address: int, size: int) -> None:
    with pytest.raises(GuestFault):
        make_guest().door.copy_to_guest(address, b"\x01" * size)


def test_what_the_tables_show_above_the_limit_may_be_read() -> None:
    guest = make_guest()
    assert guest.door.copy_from_guest(LIMIT, 1) == bytes(guest.ram.u8[13 * PAGE_SIZE : 13 * PAGE_SIZE + 1])
    assert len(guest.door.copy_from_guest(LIMIT - 2, 4)) == 4


def test_the_last_bytes_below_the_limit_are_the_guests() -> None:
    guest = make_guest()
    guest.door.copy_to_guest(LIMIT - 4, b"last")
    assert bytes(guest.ram.u8[13 * PAGE_SIZE + 4092 : 14 * PAGE_SIZE]) == b"last"


@given(st.integers(-8, (1 << 33)), st.sampled_from([0, 1, 4, 4096, 1 << 20, 1 << 31, 1 << 32, 1 << 40]))
def test_a_huge_or_wrapping_range_faults_quickly(address: int, size: int) -> None:
    door = make_guest().door
    with suppress(GuestFault):
        assert len(door.copy_from_guest(address, size)) == size


def test_nothing_is_read_or_written_for_a_size_of_zero() -> None:
    guest = make_guest()
    for address in (WRITABLE, READ_ONLY, 0xDEAD_0000, 0xFFFF_FFFF):
        assert guest.door.copy_from_guest(address, 0) == b""
        guest.door.copy_to_guest(address, b"")


def test_a_write_over_a_page_boundary_lands_in_both_frames() -> None:
    guest = make_guest()
    guest.door.set_root(L3)
    struct.pack_into("<Q", guest.ram.u8, L1 * PAGE_SIZE + 8, 9 << 12 | 7)
    guest.door.flush()
    guest.door.copy_to_guest(READ_ONLY - 2, b"abcd")
    assert (bytes(guest.ram.frame(8)[-2:]), bytes(guest.ram.frame(9)[:2])) == (b"ab", b"cd")


def test_every_written_frame_is_told_before() -> None:
    guest = make_guest()
    guest.door.write_u32(WRITABLE, 1)
    guest.door.write_u32(WRITABLE + 1, 1)
    guest.door.copy_to_guest(ALSO_WRITABLE, b"x")
    assert guest.written == [8, 8, 11]


@pytest.mark.parametrize(
    "use", [lambda door: door.read_u32(WRITABLE), lambda door: door.write_u32(WRITABLE, 5)]
)
def test_a_flushed_translation_is_never_used_again(use: Callable[[GuestMemory], object]) -> None:
    guest = make_guest()
    use(guest.door)
    struct.pack_into("<Q", guest.ram.u8, L1 * PAGE_SIZE, 0)
    guest.door.flush()
    with pytest.raises(GuestFault):
        use(guest.door)
    guest.door.set_root(None)
    with pytest.raises(GuestFault):
        guest.door.read_u32(ALSO_WRITABLE)


def test_a_page_that_was_read_is_not_writable_by_that() -> None:
    guest = make_guest()
    guest.door.read_u32(READ_ONLY)
    with pytest.raises(GuestFault):
        guest.door.write_u32(READ_ONLY, 1)


@given(st.integers(0, 0xFFFFFFFF))
def test_the_frame_behind_an_address_is_asked_for_without_faults(address: int) -> None:
    found = make_guest().door.frame_of(address)
    assert found is None or found < FRAMES
