"""The disk behind ports: against a bare PC's, whose answers are in disk/ata.txt, and against chaos."""

import struct
from pathlib import Path

from bench import MILLISECOND, Bench
from hypothesis import given
from hypothesis import strategies as st
from pc.transcript import SECTOR_WORDS, checksum, parse

from pvemu.services.block.image import ImageError
from pvemu.services.device_model.ata_channel import PORTS, PRIMARY, AtaChannel

SECTOR = 512
SECTORS = 16384
DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(PRIMARY.first, PRIMARY.first + PORTS)
READ, WRITE, FLUSH, IDENTIFY = 0x20, 0x30, 0xE7, 0xEC
ERR, DRQ = 0x01, 0x08


def pattern(sector: int) -> bytes:
    """What a sector of the recorded disk held, in words: its number times 257 plus 3 times the word's own."""
    return struct.pack("<256H", *((sector * 257 + 3 * word) & 0xFFFF for word in range(256)))


class MemoryImage:
    """A medium in memory; `broken` makes every access fail."""

    discards = False

    def __init__(self, data: bytes, *, writable: bool = True) -> None:
        self.data = bytearray(data)
        self.size = len(data)
        self.writable = writable
        self.broken = False
        self.flushes = 0

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        assert self.writable
        self._check(offset, len(data))
        self.data[offset : offset + len(data)] = data

    def flush(self) -> None:
        self.flushes += 1

    def discard(self, offset: int, size: int) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError("the disk is not the image's owner")

    def _check(self, offset: int, size: int) -> None:
        assert offset >= 0 and offset + size <= self.size and not (offset | size) % SECTOR
        if self.broken:
            raise ImageError("the medium is broken")


class Disk:
    """A channel with one drive, or two, on a bench."""

    def __init__(self, *images: MemoryImage) -> None:
        self.bench = Bench()
        self.warnings: list[str] = []
        self.interrupts = 0
        self.line = False
        drives = [*images, None][:2]
        self.channel = AtaChannel(PRIMARY, self._drive, drives, ["one", "two"], self.warnings.append)
        self.bench.ports.add(PRIMARY.first, PRIMARY.first + PORTS - 1, self.channel)
        self.bench.ports.add(PRIMARY.control, PRIMARY.control, self.channel)
        self._irq = self.bench.platform.isa_irq(PRIMARY.line)

    def _drive(self, high: bool) -> None:
        self.interrupts += high and not self.line
        self.line = high
        self._irq(high)

    def out(self, port: int, value: int, size: int = 1) -> None:
        self.bench.ports.write(port, size, value)

    def in_(self, port: int, size: int = 1) -> int:
        return self.bench.ports.read(port, size)

    def command(self, number: int, sector: int = 0, count: int = 1, device: int = 0xE0) -> int:
        for port, value in ((COUNT, count), (LOW, sector), (MID, sector >> 8), (HIGH, sector >> 16)):
            self.out(port, value & 0xFF)
        self.out(DEVICE, device | sector >> 24)
        self.out(STATUS, number)
        return self.in_(STATUS)

    def read_block(self, size: int = SECTOR) -> bytes:
        return b"".join(self.in_(DATA, 2).to_bytes(2, "little") for _ in range(size // 2))

    def write_block(self, data: bytes) -> None:
        for (word,) in struct.iter_unpack("<H", data):
            self.out(DATA, word, 2)


def test_reads_give_what_a_bare_pcs_disk_gave() -> None:
    disk = Disk(MemoryImage(b"".join(map(pattern, range(SECTORS)))))
    path = Path(__file__).parent / "disk/ata.txt"
    wrong = []
    for access in parse(path):
        if access.word == "wait":
            disk.bench.clock.pass_(40 * MILLISECOND)
        elif access.word == "fill":
            words = ((access.value + index) & 0xFFFF for index in range(SECTOR_WORDS))
            disk.write_block(struct.pack(f"<{SECTOR_WORDS}H", *words))
        elif not access.reads:
            disk.out(access.place, access.value, access.size)
        else:
            sector = access.word == "sector"
            got = checksum(disk.read_block()) if sector else disk.in_(access.place, access.size)
            if got & access.mask != access.expected:
                wrong.append(f"{path.name}:{access.line}: expected {access.expected:#x}, got {got:#x}")
    assert wrong == []


def test_what_is_written_is_in_the_image_when_the_block_is_full_and_not_before() -> None:
    image = MemoryImage(bytes(8 * SECTOR))
    disk = Disk(image)
    assert disk.command(WRITE, sector=3, count=1) & DRQ
    disk.write_block(pattern(1)[:-2])
    assert not any(image.data)
    disk.write_block(pattern(1)[-2:])
    assert image.data[3 * SECTOR : 4 * SECTOR] == pattern(1)
    assert not disk.in_(STATUS) & (DRQ | ERR)


def test_double_words_and_words_are_one_stream() -> None:
    disk = Disk(MemoryImage(pattern(5)))
    disk.command(READ)
    whole = disk.in_(DATA, 2) | disk.in_(DATA, 4) << 16 | disk.in_(DATA, 2) << 48
    assert whole.to_bytes(8, "little") == pattern(5)[:8]


def test_each_drive_has_its_own_medium_and_only_the_selected_one_works() -> None:
    first, second = MemoryImage(pattern(1)), MemoryImage(pattern(2))
    disk = Disk(first, second)
    assert disk.command(READ, device=0xE0) & DRQ
    assert disk.read_block() == pattern(1)
    assert disk.command(READ, device=0xF0) & DRQ
    assert disk.read_block() == pattern(2)
    disk.command(FLUSH, device=0xF0)
    assert (first.flushes, second.flushes) == (0, 1)


def test_a_drive_that_was_unplugged_in_the_middle_of_a_transfer_is_gone() -> None:
    image = MemoryImage(bytes(4 * SECTOR))
    disk = Disk(image)
    disk.command(WRITE, count=2)
    disk.channel.unplug(0)
    disk.write_block(pattern(1) * 2)
    assert disk.in_(STATUS) == 0
    assert not any(image.data)


def test_a_broken_medium_is_an_error_to_the_guest_each_time_and_one_line_to_the_owner() -> None:
    image = MemoryImage(bytes(4 * SECTOR))
    disk = Disk(image)
    image.broken = True
    assert disk.command(READ) & (ERR | DRQ) == ERR
    assert disk.in_(ERROR) == 0x40
    assert disk.command(WRITE) & DRQ
    disk.write_block(pattern(1))
    assert disk.in_(STATUS) & (ERR | DRQ) == ERR
    assert disk.warnings == ["one: the medium is broken"]
    image.broken = False
    assert not disk.command(READ) & ERR


def test_a_medium_that_must_not_be_written_is_not() -> None:
    disk = Disk(MemoryImage(pattern(1), writable=False))
    assert disk.command(WRITE) & (ERR | DRQ) == ERR
    assert not disk.command(FLUSH) & ERR


@given(st.integers(1, 5_000_000))
def test_a_disk_says_how_large_it_is(sectors: int) -> None:
    image = MemoryImage(b"")
    image.size = sectors * SECTOR
    disk = Disk(image)
    disk.command(IDENTIFY)
    words = struct.unpack("<256H", disk.read_block())
    assert words[60] | words[61] << 16 == sectors
    assert words[100] | words[101] << 16 | words[102] << 32 | words[103] << 48 == sectors
    assert disk.command(READ, sector=sectors - 1) & DRQ
    disk.out(PRIMARY.control, 0x04)
    disk.out(PRIMARY.control, 0x00)
    assert disk.command(READ, sector=sectors) & (ERR | DRQ) == ERR


_PORTS = st.sampled_from([*range(PRIMARY.first, PRIMARY.first + PORTS), PRIMARY.control])
_COMMANDS = st.sampled_from([0x20, 0x24, 0x29, 0x30, 0x34, 0x39, 0x40, 0x42, 0xC4, 0xC5, 0xC6, 0x91, 0x90])
_STEPS = st.one_of(
    st.tuples(st.just(STATUS), st.just(1), _COMMANDS),
    st.tuples(_PORTS, st.sampled_from([1, 2, 4]), st.one_of(st.none(), st.integers(0, 0xFFFF_FFFF))),
    st.tuples(st.just(DATA), st.just(0), st.none()),
)


@given(st.lists(_STEPS, max_size=80), st.integers(1, 40), st.booleans())
def test_whatever_a_guest_does_it_reads_numbers_and_the_image_sees_whole_sectors_of_its_own(
    steps: list[tuple[int, int, int | None]], sectors: int, has_second: bool
) -> None:
    images = [MemoryImage(bytes(sectors * SECTOR)) for _ in range(1 + has_second)]
    disk = Disk(*images)
    for port, size, value in steps:
        if not size:  # the rest of a block, whichever way it goes
            for _ in range(SECTOR // 2):
                disk.out(DATA, 0x5A5A, 2)
                disk.in_(DATA, 2)
        elif value is None:
            assert 0 <= disk.in_(port, size) < 1 << 8 * size
        else:
            disk.out(port, value & (1 << 8 * size) - 1, size)
    disk.out(PRIMARY.control, 0x04)
    disk.out(PRIMARY.control, 0x00)
    assert disk.in_(STATUS) == 0x50
