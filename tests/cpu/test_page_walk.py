"""The door's walk of page tables agrees with the engine's own, for a guest's kernel in ring 1."""

import struct
from collections.abc import Iterator

import pytest
from bare_guest import CODE, BareGuest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.cpu import exits, layout
from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.page_tables import COMPAT

_L2, _L1, _TARGET = 0xA1, 0xA2, 0xA3
#: In the second GiB, so that the code's own tables stay out of it.
_ADDRESS = 0x4020_3000
_PF = exits.EXCEPTION + exits.PF
_P, _W, _U = 1, 2, 4

_FLAGS = st.integers(0, 7) | st.just(_P | _W | _U)


@pytest.fixture(scope="module")
def shared_guest(machine_options: dict[str, str]) -> Iterator[BareGuest]:
    with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
        guest.load("nop")
        guest.put(CODE, b"\x8b\x03\xcd\x82")  # mov eax, [ebx]
        guest.put(CODE + 16, b"\x89\x03\xcd\x82")  # mov [ebx], eax
        guest.cpu.forget_code()
        yield guest


def _put(guest: BareGuest, frame: int, slot: int, value: int) -> None:
    struct.pack_into("<Q", guest.ram.u8, (frame << 12) + slot * 8, value)


@given(_FLAGS, _FLAGS, _FLAGS, st.booleans(), st.integers(0, 0xFFC))
def test_the_door_lets_through_what_ring_1_may_do(
    shared_guest: BareGuest, l3: int, l2: int, l1: int, write: bool, offset: int
) -> None:
    guest = shared_guest
    own_l3 = guest.ram.u64[0x1000 >> 3] >> 12  # the table that the bare guest's L4 names
    address = _ADDRESS + (offset & ~3)
    _put(guest, own_l3, address >> 30, _L2 << 12 | l3)
    _put(guest, _L2, address >> 21 & 511, _L1 << 12 | l2)
    _put(guest, _L1, address >> 12 & 511, _TARGET << 12 | l1)
    door = GuestMemory(guest.ram, COMPAT, 0xF5800000, lambda mfn: None)
    door.set_root(own_l3)
    guest.ram.u32[(_TARGET << 10) + (offset >> 2)] = 0x12345678
    guest.enter(1, CODE + 16 if write else CODE)
    guest.cpu.window.u64[layout.RBX], guest.cpu.window.u64[layout.RAX] = address, 0x87654321
    guest.cpu.run()
    allowed = guest.seen[-1].number == 0x82
    assert allowed or guest.seen[-1].number == _PF
    try:
        if write:
            door.write_u32(address, 0x87654321)
        else:
            assert door.read_u32(address) == 0x12345678
        assert allowed
    except GuestFault:
        assert not allowed
