"""Devices whose ports are a byte wide, as all of the ISA bus were: wider accesses fall apart into bytes."""


class BytePorts:
    """The base of such devices. A port that a device does not have reads as all ones and takes no value."""

    def read(self, port: int, size: int) -> int:
        """Read `size` bytes, the lowest from `port`, each further one from the next port."""
        return sum(self.read_byte(port + index) << 8 * index for index in range(size))

    def write(self, port: int, size: int, value: int) -> None:
        """Write `size` bytes, the lowest to `port`, each further one to the next port."""
        for index in range(size):
            self.write_byte(port + index, value >> 8 * index & 0xFF)

    def read_byte(self, port: int) -> int:
        """Read one byte."""
        return 0xFF

    def write_byte(self, port: int, value: int) -> None:
        """Write one byte."""
