"""An ATA disk as the host computer sees it: its registers, its commands, and the data that goes by words.

Source: the standard, ATA/ATAPI-7 (T13/1532D), volume 1: the commands of the PIO protocols. A command is
carried out as soon as it is written, so that nobody ever sees the drive busy.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.services.block.image import SECTOR, Image, ImageError
from pvemu.services.device_model.ata_identify import MOST_PER_BLOCK, Geometry, identify

# Status.
_ERR: Final = 0x01
DRQ: Final = 0x08
_DSC: Final = 0x10
_DRDY: Final = 0x40
_READY: Final = _DRDY | _DSC
# Error.
_ABRT: Final = 0x04
_UNC: Final = 0x40
#: In the error register after a reset: the drive has passed its diagnostics.
_PASSED: Final = 0x01

# The registers by number; a write of the first one goes to the features.
ERROR: Final = 1
_COUNT: Final = 2
_LOW: Final = 3
_MID: Final = 4
_HIGH: Final = 5
DEVICE: Final = 6
_REGISTERS: Final = 7

_BY_LBA: Final = 0x40
_DEVICE_LOW: Final = 0x0F
#: Bits of the device register that always read as ones.
_DEVICE_ONES: Final = 0xA0

#: Subcommands of SET FEATURES for the cache, for reading ahead and for defaults: there is nothing to switch.
_HARMLESS_FEATURES: Final = frozenset({0x02, 0x82, 0xAA, 0x55, 0xCC, 0x66})
_SET_TRANSFER_MODE: Final = 0x03
#: The upper five bits of a transfer mode: PIO by default, or with flow control.
_PIO: Final = (0, 1)
_IS_ACTIVE: Final = 0xFF


class _CommandAborted(Exception):
    """The drive refuses a command, or can't finish it."""

    def __init__(self, error: int = _ABRT) -> None:
        super().__init__(error)
        self.error = error


class AtaDrive:
    """One drive.

    Attributes:
        status: the status register.

    Args:
        image: the medium; not closed by the drive.
        serial: its number, up to 20 characters.
        interrupt: tells the host that there is something to look at.
        warn: told, in one line, when the image fails for the first time.
    """

    def __init__(
        self,
        image: Image,
        serial: str,
        interrupt: Callable[[], None],
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._image, self._serial = image, serial
        self._interrupt, self._warn = interrupt, warn
        self._sectors = image.size // SECTOR
        self._geometry = self._default_geometry = Geometry.of(self._sectors)
        self._per_block = 0
        self._has_failed = False
        self.reset()

    def reset(self) -> None:
        """Give up what goes on, and show the signature of a disk."""
        self.status = _READY
        self._features = 0
        self._registers = [0, _PASSED, 1, 1, 0, 0, 0]
        #: What each register was before it was last written.
        self._previous = [0] * _REGISTERS
        self._command = _Command(AtaDrive._abort)
        self._block = bytearray()
        self._at = 0
        self._is_write = False
        self._after_block: Callable[[], None] = self._rest
        self._left = 0

    # --- registers -------------------------------------------------------------------------------

    def read(self, register: int, *, previous: bool = False) -> int:
        """A register from 1 to 6; `previous`: what it was before it was last written (for LBA48)."""
        if register == DEVICE:
            return self._registers[DEVICE] | _DEVICE_ONES
        return (self._previous if previous and register != ERROR else self._registers)[register]

    def write(self, register: int, value: int) -> None:
        """Write a register from 1 to 6; while data is to be transferred, nothing is taken."""
        if self.status & DRQ:
            return
        if register == ERROR:
            self._features = value
            return
        self._previous[register], self._registers[register] = self._registers[register], value

    def command(self, number: int) -> None:
        """Carry a command out; while data is to be transferred, none is taken."""
        if self.status & DRQ:
            return
        self.status = _READY
        self._registers[ERROR] = 0
        self._command = _COMMANDS.get(number, _Command(AtaDrive._abort))
        self._go_on(lambda: self._command.carry_out(self))

    # --- data ------------------------------------------------------------------------------------

    def read_data(self, size: int) -> int:
        """Two or four bytes of what a command reads; zeros where there is none."""
        return int.from_bytes(self.take(min(size, self.waiting(is_write=False))), "little")

    def write_data(self, size: int, value: int) -> None:
        """Two or four bytes of what a command writes; lost where it takes none."""
        self.put(value.to_bytes(size, "little")[: self.waiting(is_write=True)])

    def waiting(self, *, is_write: bool) -> int:
        """How many bytes of the block there still are to read, or to write."""
        return len(self._block) - self._at if self.status & DRQ and self._is_write == is_write else 0

    def take(self, size: int) -> bytes:
        """Read so many bytes, of those that wait."""
        data = bytes(self._block[self._at : self._at + size])
        self._advance(size)
        return data

    def put(self, data: bytes) -> None:
        """Write bytes, no more than there is room for."""
        self._block[self._at : self._at + len(data)] = data
        self._advance(len(data))

    def _advance(self, size: int) -> None:
        self._at += size
        if size and self._at >= len(self._block):
            self.status = _READY
            self._go_on(self._after_block)

    def _offer(self, data: bytes, then: Callable[[], None]) -> None:
        """Let the host read a block, and tell it so."""
        self._begin_block(bytearray(data), then, is_write=False)
        self._interrupt()

    def _ask(self, size: int, then: Callable[[], None]) -> None:
        """Let the host write a block."""
        self._begin_block(bytearray(size), then, is_write=True)

    def _begin_block(self, block: bytearray, then: Callable[[], None], *, is_write: bool) -> None:
        self._block, self._at, self._after_block, self._is_write = block, 0, then, is_write
        self.status = _READY | DRQ

    def _go_on(self, step: Callable[[], None]) -> None:
        """Take a step of a command, which may end in an error."""
        try:
            step()
        except _CommandAborted as why:
            self._end_with(why.error)
        except ImageError as why:
            if not self._has_failed:  # once: a guest must not fill the log
                self._has_failed = True
                self._warn(f"{self._serial}: {why}")
            self._end_with(_ABRT if self._is_write else _UNC)

    def _end_with(self, error: int) -> None:
        self.status = _DRDY | _ERR
        self._registers[ERROR] = error
        self._interrupt()

    def _rest(self) -> None:
        """After the last block that it reads the host is not told again."""

    # --- addresses -------------------------------------------------------------------------------

    def _extent(self) -> tuple[int, int]:
        """First sector and number of sectors that the registers name."""
        count, most = self._registers[_COUNT], 0x100
        if self._command.is_extended:
            count, most = count | self._previous[_COUNT] << 8, 0x1_0000
        return self._first_sector(), count or most

    def _first_sector(self) -> int:
        registers = self._registers
        low, mid, high = registers[_LOW], registers[_MID], registers[_HIGH]
        top = registers[DEVICE] & _DEVICE_LOW
        if self._command.is_extended:
            top, *upper = (self._previous[number] for number in (_LOW, _MID, _HIGH))
            return low | mid << 8 | high << 16 | top << 24 | upper[0] << 32 | upper[1] << 40
        if registers[DEVICE] & _BY_LBA:
            return low | mid << 8 | high << 16 | top << 24
        geometry = self._geometry
        return ((mid | high << 8) * geometry.heads + top) * geometry.sectors + low - 1

    def _name_sector(self, sector: int) -> None:
        """Put a sector's address into the registers, in the way in which the host gave the last one."""
        registers = self._registers
        if self._command.is_extended:
            for number, shift in ((_LOW, 0), (_MID, 8), (_HIGH, 16)):
                registers[number] = sector >> shift & 0xFF
                self._previous[number] = sector >> shift + 24 & 0xFF
            return
        if registers[DEVICE] & _BY_LBA:
            parts = (sector & 0xFF, sector >> 8 & 0xFF, sector >> 16 & 0xFF, sector >> 24 & _DEVICE_LOW)
        else:
            track, low = divmod(sector, self._geometry.sectors)
            cylinder, head = divmod(track, self._geometry.heads)
            parts = (low + 1, cylinder & 0xFF, cylinder >> 8 & 0xFF, head)
        registers[_LOW], registers[_MID], registers[_HIGH], top = parts
        registers[DEVICE] = registers[DEVICE] & ~_DEVICE_LOW | top

    def _take_sectors(self, most: int) -> tuple[int, int]:
        """First sector and number of sectors of the next block, which are there; the registers go past it.

        Raises:
            _CommandAborted: the disk has not so many.
        """
        first = self._first_sector()
        number = min(most, self._left)
        if first < 0 or first + number > self._sectors:
            raise _CommandAborted
        self._left -= number
        self._name_sector(first + number)
        self._registers[_COUNT] = self._left & 0xFF
        if self._command.is_extended:
            self._previous[_COUNT] = self._left >> 8 & 0xFF
        return first, number

    def _block_sectors(self) -> int:
        """How many sectors go in a block of this command."""
        if not self._command.is_multiple:
            return 1
        if not self._per_block:
            raise _CommandAborted
        return self._per_block

    # --- commands --------------------------------------------------------------------------------

    def _abort(self) -> None:
        raise _CommandAborted

    def _succeed(self) -> None:
        self._interrupt()

    def _read_sectors(self) -> None:
        self._is_write = False
        _, self._left = self._extent()
        self._read_block()

    def _read_block(self) -> None:
        first, number = self._take_sectors(self._block_sectors())
        data = self._image.read(first * SECTOR, number * SECTOR)
        self._offer(data, self._read_block if self._left else self._rest)

    def _write_sectors(self) -> None:
        self._is_write = True
        first, self._left = self._extent()
        if not self._image.writable or first + min(self._left, self._block_sectors()) > self._sectors:
            raise _CommandAborted
        self._ask(min(self._left, self._block_sectors()) * SECTOR, self._write_block)

    def _write_block(self) -> None:
        first, _ = self._take_sectors(len(self._block) // SECTOR)
        self._image.write(first * SECTOR, bytes(self._block))
        if self._left:
            self._ask(min(self._left, self._block_sectors()) * SECTOR, self._write_block)
        self._interrupt()

    def _verify_sectors(self) -> None:
        _, self._left = self._extent()
        self._take_sectors(self._left)
        self._interrupt()

    def _seek(self) -> None:
        if not 0 <= self._first_sector() < self._sectors:
            raise _CommandAborted
        self._interrupt()

    def _flush(self) -> None:
        self._is_write = True
        if self._image.writable:
            self._image.flush()
        self._interrupt()

    def _identify(self) -> None:
        words = identify(self._sectors, self._default_geometry, self._geometry, self._per_block, self._serial)
        self._offer(words, self._rest)

    def _set_geometry(self) -> None:
        heads, sectors = (self._registers[DEVICE] & _DEVICE_LOW) + 1, self._registers[_COUNT]
        if not sectors:
            raise _CommandAborted
        cylinders = min(self._sectors // (heads * sectors), 0xFFFF)
        self._geometry = Geometry(cylinders, heads, sectors)
        self._interrupt()

    def _set_multiple(self) -> None:
        number = self._registers[_COUNT]
        if number > MOST_PER_BLOCK or number & (number - 1):
            raise _CommandAborted
        self._per_block = number
        self._interrupt()

    def _set_features(self) -> None:
        is_pio = self._features == _SET_TRANSFER_MODE and self._registers[_COUNT] >> 3 in _PIO
        if not is_pio and self._features not in _HARMLESS_FEATURES:
            raise _CommandAborted
        self._interrupt()

    def _check_power(self) -> None:
        self._registers[_COUNT] = _IS_ACTIVE
        self._interrupt()

    def _name_last_sector(self) -> None:
        self._name_sector(self._sectors - 1)
        self._interrupt()


class _Command(NamedTuple):
    """A command: what carries it out; whether its address has 48 bits, and its blocks several sectors."""

    carry_out: Callable[[AtaDrive], None]
    is_extended: bool = False
    is_multiple: bool = False


def _commands() -> dict[int, _Command]:
    """By number; without retries, where there is such a number, is the same."""
    one: dict[int, Callable[[AtaDrive], None]] = {
        0x10: AtaDrive._succeed,  # RECALIBRATE
        0x20: AtaDrive._read_sectors,
        0x21: AtaDrive._read_sectors,
        0x30: AtaDrive._write_sectors,
        0x31: AtaDrive._write_sectors,
        0x40: AtaDrive._verify_sectors,
        0x41: AtaDrive._verify_sectors,
        0x70: AtaDrive._seek,
        0x91: AtaDrive._set_geometry,  # INITIALIZE DEVICE PARAMETERS
        0xC6: AtaDrive._set_multiple,
        0xE0: AtaDrive._succeed,  # STANDBY IMMEDIATE
        0xE1: AtaDrive._succeed,  # IDLE IMMEDIATE
        0xE2: AtaDrive._succeed,  # STANDBY
        0xE3: AtaDrive._succeed,  # IDLE
        0xE5: AtaDrive._check_power,
        0xE6: AtaDrive._succeed,  # SLEEP
        0xE7: AtaDrive._flush,
        0xEA: AtaDrive._flush,
        0xEC: AtaDrive._identify,
        0xEF: AtaDrive._set_features,
        0xF8: AtaDrive._name_last_sector,  # READ NATIVE MAX ADDRESS
    }
    extended: dict[int, Callable[[AtaDrive], None]] = {
        0x24: AtaDrive._read_sectors,
        0x27: AtaDrive._name_last_sector,
        0x34: AtaDrive._write_sectors,
        0x42: AtaDrive._verify_sectors,
    }
    return (
        {number: _Command(handler) for number, handler in one.items()}
        | {number: _Command(handler, is_extended=True) for number, handler in extended.items()}
        | {
            0xC4: _Command(AtaDrive._read_sectors, is_multiple=True),
            0xC5: _Command(AtaDrive._write_sectors, is_multiple=True),
            0x29: _Command(AtaDrive._read_sectors, is_extended=True, is_multiple=True),
            0x39: _Command(AtaDrive._write_sectors, is_extended=True, is_multiple=True),
        }
    )


_COMMANDS: Final = _commands()
