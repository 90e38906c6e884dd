"""How accesses to addresses without memory reach the devices there (Xen: hvmemul_phys_mmio_access)."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from translated import Translated

#: Two pages that are no memory.
HOLE: Final = 0x8000_0000
_PAGE: Final = 0x1000


class Recorder:
    """A device that is plain memory, and keeps what it is asked for."""

    def __init__(self) -> None:
        self.memory = bytearray(2 * _PAGE)
        self.accesses: list[tuple[int, int]] = []

    def read(self, address: int, size: int) -> int:
        self.accesses.append((address - HOLE, size))
        return int.from_bytes(self.memory[address - HOLE : address - HOLE + size], "little")

    def write(self, address: int, size: int, value: int) -> None:
        self.accesses.append((address - HOLE, size))
        self.memory[address - HOLE : address - HOLE + size] = value.to_bytes(size, "little")


@given(offset=st.integers(0, 2 * _PAGE - 16), data=st.binary(min_size=1, max_size=16))
def test_an_access_of_any_size_reaches_a_device_in_powers_of_two_within_a_page(
    offset: int, data: bytes
) -> None:
    with Translated() as machine:
        device = Recorder()
        guest = machine[1]
        guest.load()
        guest.domain.hvm.mmio.add(HOLE, HOLE + 2 * _PAGE - 1, device)
        memory = guest.vcpu.hvm.linear_memory
        memory.write(HOLE + offset, data)
        assert device.memory[offset : offset + len(data)] == data
        written, device.accesses = device.accesses, []
        assert memory.read(HOLE + offset, len(data)) == data
        assert device.accesses == written
        assert sum(size for _, size in written) == len(data)
        for place, size in written:
            assert size in (1, 2, 4, 8)
            assert place // _PAGE == (place + size - 1) // _PAGE


@pytest.mark.parametrize(
    ("offset", "size", "pieces"),
    [
        (0, 8, [(0, 8)]),
        (1, 4, [(1, 4)]),
        (0, 16, [(0, 8), (8, 8)]),
        (_PAGE - 3, 8, [(_PAGE - 3, 2), (_PAGE - 1, 1), (_PAGE, 4), (_PAGE + 4, 1)]),
    ],
)
def test_the_longest_piece_goes_first(offset: int, size: int, pieces: list[tuple[int, int]]) -> None:
    with Translated() as machine:
        device = Recorder()
        guest = machine[1]
        guest.load()
        guest.domain.hvm.mmio.add(HOLE, HOLE + 2 * _PAGE - 1, device)
        guest.vcpu.hvm.linear_memory.write(HOLE + offset, bytes(size))
        assert device.accesses == pieces
