"""An ATA channel of a PC: the ports of up to two drives, one of which is selected, and their interrupt line.

Source: ATA/ATAPI-7 (T13/1532D), volume 2. Addresses and lines are those of every PC since the AT.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pvemu.services.block.image import Image
from pvemu.services.device_model.ata_drive import DEVICE, DRQ, ERROR, AtaDrive


class ChannelPlace(NamedTuple):
    """Where a channel is: eight ports from `first`, one more, and a line."""

    first: int
    control: int
    line: int


PRIMARY: Final = ChannelPlace(0x1F0, 0x3F6, 14)
SECONDARY: Final = ChannelPlace(0x170, 0x376, 15)
PORTS: Final = 8
DRIVES: Final = 2

_DATA: Final = 0
_STATUS: Final = 7
_SECOND_DRIVE: Final = 0x10
_EXECUTE_DIAGNOSTIC: Final = 0x90
_BUSY: Final = 0x80
# Device control.
_NO_INTERRUPTS: Final = 0x02
_RESET: Final = 0x04
_PREVIOUS: Final = 0x80


class AtaChannel:
    """One channel.

    Args:
        place: its ports.
        irq: its interrupt line.
        images: of the first and the second drive; None where there is none.
        serials: the drives' numbers.
        warn: told, in one line, when an image fails.
    """

    def __init__(
        self,
        place: ChannelPlace,
        irq: Callable[[bool], None],
        images: Sequence[Image | None],
        serials: Sequence[str],
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._place = place
        self._irq = irq
        self._drives: list[AtaDrive | None] = [
            None if image is None else AtaDrive(image, serial, self._interrupt, warn)
            for image, serial in zip(images, serials, strict=True)
        ]
        self._selected = 0
        self._control = 0

    def unplug(self, number: int) -> None:
        """Take a drive away, 0 or 1, with what it was doing."""
        self._drives[number] = None

    def read(self, port: int, size: int) -> int:
        """Read the data port, as wide as is asked for, or a register of the selected drive."""
        register = port - self._place.first
        if register == _DATA and size > 1:
            drive = self._drive
            return 0 if drive is None else drive.read_data(size)
        return sum(self._read_byte(port + index) << 8 * index for index in range(size))

    def write(self, port: int, size: int, value: int) -> None:
        """Write the data port, or a register."""
        if port == self._place.first and size > 1:
            if self._drive is not None:
                self._drive.write_data(size, value)
            return
        for index in range(size):
            self._write_byte(port + index, value >> 8 * index & 0xFF)

    def waiting(self, *, is_write: bool) -> int:
        """How many bytes of its block the selected drive still gives, or takes."""
        return 0 if self._drive is None else self._drive.waiting(is_write=is_write)

    def take(self, size: int) -> bytes:
        """So many of them at once, as if they were read word by word."""
        assert self._drive is not None
        return self._drive.take(size)

    def put(self, data: bytes) -> None:
        """The same for writing."""
        assert self._drive is not None
        self._drive.put(data)

    @property
    def _drive(self) -> AtaDrive | None:
        """The selected drive; None where there is none. The other one answers for it, with a status of 0."""
        return self._drives[self._selected]

    def _read_byte(self, port: int) -> int:
        register, drive = port - self._place.first, self._drive
        if port == self._place.control:
            return self._status()
        if not _DATA <= register <= _STATUS:
            return 0xFF
        if register == _STATUS:
            self._irq(False)
            return self._status()
        if drive is None:
            return self._read_absent(register)
        if register == _DATA:
            return drive.read_data(1)
        return drive.read(register, previous=self._shows_previous)

    def _status(self) -> int:
        if self._drive is None:
            return 0
        return _BUSY if self._control & _RESET else self._drive.status

    def _read_absent(self, register: int) -> int:
        other = self._drives[1 - self._selected]
        if other is None or register in (_DATA, ERROR):
            return 0
        return other.read(register, previous=self._shows_previous)

    @property
    def _shows_previous(self) -> bool:
        return bool(self._control & _PREVIOUS)

    def _write_byte(self, port: int, value: int) -> None:
        register = port - self._place.first
        if port == self._place.control:
            self._set_control(value)
        elif register == _DATA:
            if self._drive is not None:
                self._drive.write_data(1, value)
        elif register == _STATUS:
            self._control &= ~_PREVIOUS
            self._irq(False)
            if not self._control & _RESET:
                self._command(value)
        elif _DATA < register < _STATUS:
            self._control &= ~_PREVIOUS
            self._write_register(register, value)

    def _write_register(self, register: int, value: int) -> None:
        """Both drives hear everything that is written, but not while the selected one is at work."""
        if self._control & _RESET or (self._drive is not None and self._drive.status & DRQ):
            return
        for drive in self._drives:
            if drive is not None:
                drive.write(register, value)
        if register == DEVICE:
            self._selected = int(bool(value & _SECOND_DRIVE))

    def _command(self, number: int) -> None:
        if number == _EXECUTE_DIAGNOSTIC:
            self._reset()
            self._interrupt()
        elif self._drive is not None:
            self._drive.command(number)

    def _set_control(self, value: int) -> None:
        """A reset goes on as long as its bit is set; the drives are ready as soon as it is cleared."""
        if value & _RESET and not self._control & _RESET:
            self._irq(False)
            self._reset()
        self._control = value

    def _reset(self) -> None:
        for drive in self._drives:
            if drive is not None:
                drive.reset()
        self._selected = 0

    def _interrupt(self) -> None:
        if not self._control & _NO_INTERRUPTS:
            self._irq(True)
