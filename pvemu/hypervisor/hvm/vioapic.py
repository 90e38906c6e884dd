"""The I/O APIC: 48 pins, as Xen's guests have them, each with an entry that says where its interrupt goes.

Source: Intel's data sheet of the 82093AA (290566).
"""

from collections.abc import Callable
from typing import Final

from pvemu.hypervisor.hvm.apic_bus import ApicBus, DeliveryMode, Message

#: Where its registers are, and how many bytes they take.
IOAPIC_BASE: Final = 0xFEC0_0000
IOAPIC_SIZE: Final = 0x1000
PINS: Final = 48

_SELECT: Final = 0x00
_WINDOW: Final = 0x10
_REGISTER_ID: Final = 0x00
_REGISTER_VERSION: Final = 0x01
_REGISTER_ARBITRATION: Final = 0x02
_FIRST_ENTRY: Final = 0x10
_VERSION: Final = 0x11 | PINS - 1 << 16

# An entry.
_VECTOR: Final = 0xFF
_LOGICAL: Final = 1 << 11
_REMOTE_IRR: Final = 1 << 14
_LEVEL: Final = 1 << 15
_MASKED: Final = 1 << 16
_LOW: Final = 0xFFFF_FFFF
#: What of the lower half a guest writes: all but delivery status and remote IRR, and no reserved bits.
_WRITABLE: Final = 0x1_AFFF
_WRITABLE_HIGH: Final = 0xFF00_0000
_ID_MASK: Final = 0x0F00_0000
#: What goes by way of an entry; the other modes need hardware that is not here.
_DELIVERED: Final = frozenset({DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY, DeliveryMode.NMI})


class Vioapic:
    """The I/O APIC.

    Attributes:
        before_access, after_change: as those of Vpic: for a device that works out its line only when
            somebody looks.

    Args:
        bus: where the local APICs are; it is asked to tell of ends of interrupts.
    """

    def __init__(self, bus: ApicBus) -> None:
        self._bus = bus
        bus.end_of_interrupt = self.end_of_interrupt
        self._index = 0
        self._id = 0
        self._entries = [_MASKED] * PINS
        self._lines = 0
        self.before_access: Callable[[], None] = lambda: None
        self.after_change: Callable[[], None] = lambda: None

    def line(self, pin: int) -> Callable[[bool], None]:
        """The function that drives a pin."""

        def drive(high: bool) -> None:
            rises = high and not self._lines >> pin & 1
            self._lines = self._lines | 1 << pin if high else self._lines & ~(1 << pin)
            if rises and not self._entries[pin] & (_LEVEL | _MASKED):
                self._deliver(pin)
            self._deliver_level(pin)

        return drive

    def hears(self, pin: int) -> bool:
        """Whether a pin is not masked."""
        return not self._entries[pin] & _MASKED

    def external_destination(self) -> int | None:
        """The APIC id that pin 0 passes the 8259's interrupts on to, if it does."""
        entry = self._entries[0]
        is_external = entry >> 8 & 7 == DeliveryMode.EXTERNAL and not entry & _MASKED
        return entry >> 56 if is_external else None

    def end_of_interrupt(self, vector: int) -> None:
        """A level-triggered interrupt has ended; where the line is still high, it begins again."""
        for pin, entry in enumerate(self._entries):
            if entry & _VECTOR == vector and entry & _REMOTE_IRR:
                self._entries[pin] &= ~_REMOTE_IRR
                self._deliver_level(pin)

    def read(self, address: int, size: int) -> int:
        """Read the index, or the register that it names through the window; anything else reads 0."""
        offset = address & 0xFF
        if offset == _SELECT:
            value = self._index
        elif offset == _WINDOW:
            self.before_access()
            value = self._read_register()
        else:
            value = 0
        return value & (1 << size * 8) - 1

    def write(self, address: int, size: int, value: int) -> None:
        """Write the index, or the register that it names."""
        offset = address & 0xFF
        if offset == _SELECT:
            self._index = value & 0xFF
        elif offset == _WINDOW:
            self.before_access()
            self._write_register(value & _LOW)
            self.after_change()

    def _read_register(self) -> int:
        if self._index == _REGISTER_VERSION:
            return _VERSION
        if self._index in (_REGISTER_ID, _REGISTER_ARBITRATION):
            return self._id
        pin, is_high = divmod(self._index - _FIRST_ENTRY, 2)
        if not 0 <= pin < PINS:
            return 0
        return self._entries[pin] >> 32 if is_high else self._entries[pin] & _LOW

    def _write_register(self, value: int) -> None:
        if self._index == _REGISTER_ID:
            self._id = value & _ID_MASK
        pin, is_high = divmod(self._index - _FIRST_ENTRY, 2)
        if not 0 <= pin < PINS:
            return
        entry = self._entries[pin]
        if is_high:
            self._entries[pin] = entry & _LOW | (value & _WRITABLE_HIGH) << 32
            return
        # An edge has nobody to wait for: what a level-triggered interrupt has left behind is forgotten.
        remote = entry & _REMOTE_IRR if value & _LEVEL else 0
        self._entries[pin] = entry & ~_LOW | value & _WRITABLE | remote
        self._deliver_level(pin)

    def _deliver_level(self, pin: int) -> None:
        """Send the interrupt of a level-triggered pin that is high, unless one is under way."""
        if self._lines >> pin & 1 and self._entries[pin] & (_LEVEL | _MASKED | _REMOTE_IRR) == _LEVEL:
            self._entries[pin] |= _REMOTE_IRR
            self._deliver(pin)

    def _deliver(self, pin: int) -> None:
        entry = self._entries[pin]
        mode = DeliveryMode(entry >> 8 & 7)
        if mode in _DELIVERED:
            is_level = bool(entry & _LEVEL)
            self._bus.send(
                Message(mode, entry & _VECTOR, entry >> 56, bool(entry & _LOGICAL), is_level=is_level)
            )
