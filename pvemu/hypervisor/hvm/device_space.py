"""Where the devices of an HVM guest are: at I/O ports and at guest-physical addresses; all ones elsewhere."""

from bisect import bisect_right
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from pvemu.hypervisor.hvm.string_ports import StringDevice


class PortDevice(Protocol):
    """A device at some ports; sizes are 1, 2 or 4 bytes."""

    def read(self, port: int, size: int) -> int:
        """What IN gets."""

    def write(self, port: int, size: int, value: int) -> None:
        """What OUT does."""


@runtime_checkable
class ByteDevice(Protocol):
    """A device whose ports are a byte wide, as all of the ISA bus were.

    It may be asked for ports beyond its own: these read as all ones and take no value.
    """

    def read_byte(self, port: int) -> int:
        """What IN gets."""

    def write_byte(self, port: int, value: int) -> None:
        """What OUT does."""


class _Bytes:
    """A device of bytes as one of any width: wider accesses fall apart, the lowest byte goes first."""

    def __init__(self, device: ByteDevice) -> None:
        self._device = device

    def read(self, port: int, size: int) -> int:
        if size == 1:
            return self._device.read_byte(port)
        return sum(self._device.read_byte(port + index) << 8 * index for index in range(size))

    def write(self, port: int, size: int, value: int) -> None:
        for index in range(size):
            self._device.write_byte(port + index, value >> 8 * index & 0xFF)


class MemoryDevice(Protocol):
    """A device at some guest-physical addresses; sizes are 1, 2, 4 or 8 bytes."""

    def read(self, address: int, size: int) -> int:
        """What a load gets."""

    def write(self, address: int, size: int, value: int) -> None:
        """What a store does."""


_Device = TypeVar("_Device", PortDevice, MemoryDevice)


class DeviceSpace(Generic[_Device]):
    """Ranges of places, each with its device. An access belongs to the device at its first byte."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._ranges: list[tuple[int, int, _Device]] = []

    def add(self, first: int, last: int, device: _Device) -> None:
        """Put a device at the places from `first` to `last`, both included; they must be free."""
        at = bisect_right(self._firsts, first)
        assert at == 0 or self._ranges[at - 1][1] < first
        assert at == len(self._ranges) or last < self._firsts[at]
        self._firsts.insert(at, first)
        self._ranges.insert(at, (first, last, device))

    def find(self, place: int) -> _Device | None:
        """The device at a place."""
        at = bisect_right(self._firsts, place) - 1
        if at < 0 or place > self._ranges[at][1]:
            return None
        return self._ranges[at][2]

    def read(self, place: int, size: int) -> int:
        """Read `size` bytes; all ones where nothing is."""
        device = self.find(place)
        ones = (1 << 8 * size) - 1
        return ones if device is None else device.read(place, size) & ones

    def write(self, place: int, size: int, value: int) -> None:
        """Write `size` bytes; lost where nothing is."""
        device = self.find(place)
        if device is not None:
            device.write(place, size, value)


MmioSpace = DeviceSpace[MemoryDevice]


class PortSpace(DeviceSpace[PortDevice]):
    """The I/O ports of a guest.

    Attributes:
        strings: by port, the devices with which string instructions move much at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.strings: dict[int, StringDevice] = {}

    def add(self, first: int, last: int, device: PortDevice | ByteDevice) -> None:
        """Put a device at the ports from `first` to `last`, both included; they must be free."""
        super().add(first, last, _Bytes(device) if isinstance(device, ByteDevice) else device)
