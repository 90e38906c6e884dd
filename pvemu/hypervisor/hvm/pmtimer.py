"""ACPI's fixed hardware: the power-management timer, its interrupt, and the way to switch the machine off.

The ports are those of the public header hvm/ioreq.h for version 1 of the layout, which today's HVM guests
get. Source: ACPI specification 6.4, section 4.8.3; the sleep types are those of Xen's DSDT.
"""

from collections.abc import Callable
from typing import Final

from pvemu.abi.ioreq import (
    ACPI_PM1A_CNT_BLK_ADDRESS_V1,
    ACPI_PM1A_EVT_BLK_ADDRESS_V1,
    ACPI_PM_TMR_BLK_ADDRESS_V1,
)
from pvemu.hypervisor.timers import Timer, Timers

#: Status and enable, 2 bytes each; control, 2 bytes; the timer, 4 bytes.
EVENT_PORT: Final = ACPI_PM1A_EVT_BLK_ADDRESS_V1
CONTROL_PORT: Final = ACPI_PM1A_CNT_BLK_ADDRESS_V1
TIMER_PORT: Final = ACPI_PM_TMR_BLK_ADDRESS_V1
#: The interrupt line of ACPI events.
SCI_LINE: Final = 9
#: Counts a second.
PM_TIMER_FREQUENCY: Final = 3_579_545

_NANOSECONDS: Final = 1_000_000_000
#: Half the range of the counter: each time its highest bit changes, there is an event.
_HALF: Final = 1 << 31
_TIMER_EVENT: Final = 0x0001
_SCI_ENABLED: Final = 0x0001
_SLEEP_ENABLE: Final = 0x2000
_SLEEP_TYPE_SHIFT: Final = 10
_SLEEP_TYPE_OFF: Final = 0
#: The events of the enable register: timer, global lock, power button, sleep button, clock.
_ENABLES: Final = 0x0721


class PmTimer:
    """The registers from EVENT_PORT to TIMER_PORT + 3.

    Args:
        timers, now: timers on the clock, and the clock, both in ns.
        irq: the interrupt line.
        power_off: switches the machine off (state S5).
    """

    def __init__(
        self,
        timers: Timers,
        now: Callable[[], int],
        irq: Callable[[bool], None],
        power_off: Callable[[], None],
    ) -> None:
        self._timer = Timer(timers, self._settle)
        self._now = now
        self._irq = irq
        self._power_off = power_off
        self._status = self._enabled = 0
        self._sleep_type = 0
        #: How often the highest bit had changed when the status was brought up to date.
        self._halves = self._count() // _HALF

    def read(self, port: int, size: int) -> int:
        """Read registers; the timer as one number of 32 bits, that does not go on between its bytes."""
        first = EVENT_PORT
        self._catch_up()
        registers = (
            self._status
            | self._enabled << 16
            | (_SCI_ENABLED | self._sleep_type << _SLEEP_TYPE_SHIFT) << 8 * (CONTROL_PORT - first)
            | (self._count() & 0xFFFF_FFFF) << 8 * (TIMER_PORT - first)
        )
        return registers >> 8 * (port - first) & (1 << size * 8) - 1

    def write(self, port: int, size: int, value: int) -> None:
        """Write registers. Sleep type and the order to sleep are in one byte."""
        self._catch_up()
        for index in range(size):
            self._write_byte(port + index, value >> 8 * index & 0xFF)
        self._settle()

    def _write_byte(self, port: int, value: int) -> None:
        """Of the status it clears what is set, the timer takes none."""
        offset = port - EVENT_PORT
        if offset in (0, 1):
            self._status &= ~(value << 8 * offset)
        elif offset in (2, 3):
            keep = 0x00FF if offset == 3 else 0xFF00
            self._enabled = (self._enabled & keep | value << 8 * (offset - 2)) & _ENABLES
        elif port == CONTROL_PORT + 1:
            control = value << 8
            self._sleep_type = control >> _SLEEP_TYPE_SHIFT & 7
            if control & _SLEEP_ENABLE and self._sleep_type == _SLEEP_TYPE_OFF:
                self._power_off()

    def stop(self) -> None:
        """The domain is gone: interrupt nobody any more."""
        self._timer.cancel()

    def _count(self) -> int:
        """What the timer has counted, without its limit of 32 bits."""
        return self._now() * PM_TIMER_FREQUENCY // _NANOSECONDS

    def _catch_up(self) -> None:
        halves = self._count() // _HALF
        if halves != self._halves:
            self._halves = halves
            self._status |= _TIMER_EVENT

    def _settle(self) -> None:
        """Drive the line, and while it is low set the timer for the event that would raise it."""
        self._catch_up()
        self._irq(bool(self._status & self._enabled))
        if self._enabled & _TIMER_EVENT and not self._status & self._enabled:
            self._timer.set(-(-(self._halves + 1) * _HALF * _NANOSECONDS // PM_TIMER_FREQUENCY))
        else:
            self._timer.cancel()
