"""The timer of a local APIC: it counts down from a number, once or for ever, or waits for a time of the TSC.

Nothing counts here: the count is worked out from the clock, and a timer is set only while the interrupt is
not masked. Source: Intel SDM volume 3, section 11.5.4.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from pvemu.hypervisor.timers import Timer, Timers

#: One cycle of the bus that the timer counts, in ns: the bus of Xen's guests runs at 100 MHz.
BUS_CYCLE: Final = 10
_DIVISOR_MASK: Final = 0xB
#: Nanoseconds between two interrupts of a periodic timer at least, as in Xen (create_periodic_time), however
#: fast it counts: one that nobody hears would let time pass in steps of ten.
LEAST_PERIOD: Final = 100_000


class TimerMode(IntEnum):
    """Bits 17 and 18 of the timer's local vector."""

    ONE_SHOT = 0
    PERIODIC = 1
    TSC_DEADLINE = 2
    RESERVED = 3


_COUNTING: Final = (TimerMode.ONE_SHOT, TimerMode.PERIODIC)


class ApicTimer:
    """The timer.

    Args:
        timers, now: timers on the clock, and the clock, both in ns. The TSC is that clock, too.
        interrupt: called when the timer ends and is not masked.
    """

    def __init__(self, timers: Timers, now: Callable[[], int], interrupt: Callable[[], None]) -> None:
        self._timer = Timer(timers, self._ended)
        self._now = now
        self._interrupt = interrupt
        self.reset()

    def reset(self) -> None:
        """Back to the state after power-on: stopped, one-shot, masked, divided by two."""
        self._timer.cancel()
        self._mode, self._masked = TimerMode.ONE_SHOT, True
        self._initial = 0
        self._divide_register = 0
        #: When this count began; None when it is over and no new one does.
        self._began: int | None = None
        self._deadline = 0

    @property
    def initial_count(self) -> int:
        """The initial count register."""
        return self._initial

    @initial_count.setter
    def initial_count(self, count: int) -> None:
        """Begin to count; 0 stops. Ignored where the timer waits for a time."""
        if self._mode in _COUNTING:
            self._initial, self._began = count, self._now()
            self._arm()

    @property
    def current_count(self) -> int:
        """The current count register."""
        if self._began is None or not self._initial or self._mode not in _COUNTING:
            return 0
        passed = (self._now() - self._began) // self._cycle
        if self._mode == TimerMode.PERIODIC:
            passed %= self._initial
        return max(self._initial - passed, 0)

    @property
    def divide_register(self) -> int:
        """The divide configuration register."""
        return self._divide_register

    @divide_register.setter
    def divide_register(self, value: int) -> None:
        """Change the speed; the count goes on from where it is."""
        count = self.current_count
        self._divide_register = value & _DIVISOR_MASK
        self._go_on(count)
        self._arm()

    @property
    def deadline(self) -> int:
        """The time waited for, of the TSC; 0 when none is (MSR IA32_TSC_DEADLINE)."""
        return self._deadline

    @deadline.setter
    def deadline(self, tsc: int) -> None:
        """Wait for a time; 0 stops. Ignored in the modes that count."""
        if self._mode == TimerMode.TSC_DEADLINE:
            self._deadline = tsc
            self._arm()

    def configure(self, mode: TimerMode, *, masked: bool) -> None:
        """Take what the local vector says. A change from or to waiting for a time stops the timer."""
        if (mode == TimerMode.TSC_DEADLINE) != (self._mode == TimerMode.TSC_DEADLINE):
            self._initial = self._deadline = 0
        elif mode != self._mode:
            self._go_on(self.current_count)
        self._mode, self._masked = mode, masked
        self._arm()

    @property
    def _cycle(self) -> int:
        """Nanoseconds between two counts."""
        register = self._divide_register
        return BUS_CYCLE << ((register & 3 | register >> 1 & 4) + 1 & 7)

    def _go_on(self, count: int) -> None:
        """Have the count go on from here at the present speed; one that is over stays over."""
        self._began = self._now() - (self._initial - count) * self._cycle if count else None

    def _next_end(self) -> int | None:
        """When the timer ends next; None: never, or it has ended."""
        if self._mode == TimerMode.TSC_DEADLINE:
            return self._deadline or None
        period = self._initial * self._cycle
        if self._began is None or not period or self._mode not in _COUNTING:
            return None
        passed = self._now() - self._began
        if passed < period:
            return self._began + period
        if self._mode != TimerMode.PERIODIC:
            return None
        between = max(period, LEAST_PERIOD)
        return self._began + period + ((passed - period) // between + 1) * between

    def _arm(self) -> None:
        """Set the clock's timer. Masked, a round ends without anybody noticing; a time stays waited for."""
        end = None if self._masked else self._next_end()
        if end is None:
            self._timer.cancel()
        else:
            self._timer.set(end)

    def _ended(self) -> None:
        self._deadline = 0
        self._arm()
        self._interrupt()
