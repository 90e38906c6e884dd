"""The clock of a PC: an MC146818 with its time, alarm, three interrupts, and the memory beside them.

Nothing ticks here. Time and flags are worked out from the machine's clock when somebody looks, and one timer
is set, for the next moment at which the interrupt line would rise. Sources: Motorola's data sheet of the
MC146818; the century byte, which it has not, is the PC's.
"""

from collections.abc import Callable, Mapping
from typing import Final

from pvemu.hypervisor.hvm.calendar import date_of, days_of, weekday_of
from pvemu.hypervisor.timers import Timer, Timers

INDEX_PORT: Final = 0x70
DATA_PORT: Final = 0x71

_SIZE: Final = 128
_SECOND: Final = 1_000_000_000
_SECONDS_PER_DAY: Final = 86_400
# Registers.
_SECONDS, _SECONDS_ALARM, _MINUTES, _MINUTES_ALARM, _HOURS, _HOURS_ALARM = range(6)
_WEEKDAY, _DAY, _MONTH, _YEAR, _A, _B, _C, _D = range(6, 14)
_CENTURY: Final = 0x32
_TIME: Final = frozenset({_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR, _CENTURY})
# Register A.
_UPDATE_IN_PROGRESS: Final = 0x80
_DIVIDER: Final = 0x70
_DIVIDER_HELD: Final = 0x60
_RATE: Final = 0x0F
_A_AT_START: Final = 0x26
# Register B; the three enable bits stand where register C has their flags.
_SET: Final = 0x80
_PERIODIC: Final = 0x40
_ALARM: Final = 0x20
_UPDATE_ENDED: Final = 0x10
_BINARY: Final = 0x04
_24_HOURS: Final = 0x02
_INTERRUPTS: Final = _PERIODIC | _ALARM | _UPDATE_ENDED
_INTERRUPT_REQUEST: Final = 0x80
_RAM_VALID: Final = 0x80
_PM: Final = 0x80
#: An alarm byte whose two highest bits are set fits any time.
_ANY: Final = 0xC0
#: The update is announced so long before it happens, in ns.
_UPDATE_NOTICE: Final = 244_000
_CRYSTAL: Final = 32_768


class Vrtc:
    """The clock and its memory of 128 bytes.

    Args:
        timers, now: timers on the machine's clock, and that clock, both in ns.
        wallclock: the Unix time at the machine's start, in seconds.
        irq: the interrupt line.
        memory: what stands in some bytes of the memory at the start, by index.
    """

    def __init__(
        self,
        timers: Timers,
        now: Callable[[], int],
        wallclock: Callable[[], int],
        irq: Callable[[bool], None],
        memory: Mapping[int, int] | None = None,
    ) -> None:
        self._timer = Timer(timers, self._settle)
        self._now = now
        self._wallclock = wallclock
        self._irq = irq
        self._index = 0
        self._bytes = bytearray(_SIZE)
        for index, value in (memory or {}).items():
            self._bytes[index] = value
        self._bytes[_A], self._bytes[_B], self._bytes[_D] = _A_AT_START, _24_HOURS, _RAM_VALID
        #: What the guest has set its clock ahead of the wallclock, in ns.
        self._ahead = 0
        #: The clock's time when its divider was stopped; None while it runs.
        self._held: int | None = None
        #: Up to where flags were raised, on the machine's clock.
        self._seen = now()

    def read_byte(self, port: int) -> int:
        """Read the chosen byte; the index can't be read."""
        if port != DATA_PORT:
            return 0xFF
        index = self._index
        if index == _C:
            return self._read_flags()
        if index == _A:
            return self._bytes[_A] | (_UPDATE_IN_PROGRESS if self._is_updating() else 0)
        if index in _TIME and not self._is_set:
            self._show(self._time())
        return self._bytes[index]

    def write_byte(self, port: int, value: int) -> None:
        """Choose a byte, or write the chosen one."""
        if port == INDEX_PORT:
            self._index = value & _SIZE - 1
        elif port == DATA_PORT and self._index not in (_C, _D):
            self._raise_flags()
            self._write(self._index, value)
            self._settle()

    def stop(self) -> None:
        """The domain is gone: interrupt nobody any more."""
        self._timer.cancel()

    @property
    def _is_set(self) -> bool:
        """Whether the guest is setting the time: no update changes its bytes."""
        return bool(self._bytes[_B] & _SET)

    def _at(self, now: int) -> int:
        """The time that the clock shows, in ns since 1970, when the machine's clock shows `now`."""
        return self._wallclock() * _SECOND + now + self._ahead if self._held is None else self._held

    def _time(self) -> int:
        return self._at(self._now())

    def _is_updating(self) -> bool:
        if self._is_set or self._held is not None:
            return False
        return self._time() % _SECOND >= _SECOND - _UPDATE_NOTICE

    def _write(self, index: int, value: int) -> None:
        if index == _A:
            self._bytes[_A] = value & ~_UPDATE_IN_PROGRESS
            self._hold((value & _DIVIDER) >= _DIVIDER_HELD)
        elif index == _B:
            self._write_modes(value)
        elif index in _TIME and not self._is_set:
            self._show(self._time())
            self._bytes[index] = value
            self._adopt()
        else:
            self._bytes[index] = value

    def _write_modes(self, value: int) -> None:
        """Register B. To begin setting the time switches the interrupt at the end of updates off."""
        if value & _SET:
            value &= ~_UPDATE_ENDED
            if not self._is_set:
                self._show(self._time())
        elif self._is_set:
            # The bytes are in the form that was in force while they were written.
            self._adopt()
        self._bytes[_B] = value

    def _hold(self, held: bool) -> None:
        """Stop the divider, or let it go: the first update comes half a second later."""
        if held and self._held is None:
            self._held = self._time()
        elif not held and self._held is not None:
            time = self._held // _SECOND * _SECOND + _SECOND // 2
            self._held = None
            self._ahead += time - self._time()

    # --- the time as bytes -------------------------------------------------------------------------

    def _encode(self, number: int) -> int:
        return number if self._bytes[_B] & _BINARY else number // 10 << 4 | number % 10

    def _decode(self, value: int) -> int:
        return value if self._bytes[_B] & _BINARY else (value >> 4) * 10 + (value & 0xF)

    def _decode_hour(self, value: int) -> int:
        if self._bytes[_B] & _24_HOURS:
            return self._decode(value)
        return self._decode(value & ~_PM) % 12 + (12 if value & _PM else 0)

    def _show(self, time: int) -> None:
        """Write a time into its bytes."""
        days, second = divmod(time // _SECOND, _SECONDS_PER_DAY)
        year, month, day = date_of(days)
        hour = second // 3600
        numbers = {
            _SECONDS: second % 60,
            _MINUTES: second // 60 % 60,
            _WEEKDAY: weekday_of(days) + 1,
            _DAY: day,
            _MONTH: month,
            _YEAR: year % 100,
            _CENTURY: year // 100 % 100,
        }
        for index, number in numbers.items():
            self._bytes[index] = self._encode(number)
        if self._bytes[_B] & _24_HOURS:
            self._bytes[_HOURS] = self._encode(hour)
        else:
            self._bytes[_HOURS] = self._encode((hour - 1) % 12 + 1) | (_PM if hour >= 12 else 0)

    def _adopt(self) -> None:
        """Set the clock to what its bytes say; the fraction of the second goes on as it was."""
        data = self._bytes
        year = self._decode(data[_CENTURY]) * 100 + self._decode(data[_YEAR])
        days = days_of(year, self._decode(data[_MONTH]), self._decode(data[_DAY]))
        minutes = self._decode_hour(data[_HOURS]) * 60 + self._decode(data[_MINUTES])
        seconds = days * _SECONDS_PER_DAY + minutes * 60 + self._decode(data[_SECONDS])
        shown = self._time()
        self._ahead += (seconds - shown // _SECOND) * _SECOND
        if self._held is not None:
            self._held = seconds * _SECOND + shown % _SECOND

    # --- flags and the interrupt -------------------------------------------------------------------

    def _read_flags(self) -> int:
        """Register C: reading it takes the flags back, and the interrupt with them."""
        self._raise_flags()
        flags = self._bytes[_C]
        request = _INTERRUPT_REQUEST if flags & self._bytes[_B] & _INTERRUPTS else 0
        self._bytes[_C] = 0
        self._settle()
        return flags | request

    def _raise_flags(self) -> None:
        """Raise the flags of all that has happened since the last time."""
        now = self._now()
        for flag in (_PERIODIC, _ALARM, _UPDATE_ENDED):
            due = self._next(flag, self._seen)
            if due is not None and due <= now:
                self._bytes[_C] |= flag
        self._seen = now

    def _settle(self) -> None:
        """Drive the line, and while it is low set the timer for when it would rise."""
        self._raise_flags()
        enabled = self._bytes[_B] & _INTERRUPTS
        self._irq(bool(self._bytes[_C] & enabled))
        self._timer.cancel()
        if not self._bytes[_C] & enabled:
            sources = (flag for flag in (_PERIODIC, _ALARM, _UPDATE_ENDED) if enabled & flag)
            moments = [due for flag in sources if (due := self._next(flag, self._seen)) is not None]
            if moments:
                self._timer.set(min(moments))

    def _next(self, flag: int, now: int) -> int | None:
        """When a flag is raised next, after `now`, on the machine's clock; None: not as things are."""
        if self._held is not None:
            return None
        time = self._at(now)
        if flag == _PERIODIC:
            return self._next_tick(now, time)
        if self._is_set:
            return None
        second = time // _SECOND + 1
        if flag == _ALARM:
            alarm = self._next_alarm(second)
            if alarm is None:
                return None
            second = alarm
        return now + second * _SECOND - time

    def _next_tick(self, now: int, time: int) -> int | None:
        """The next end of a period, which is a power of two of the crystal's."""
        rate = self._bytes[_A] & _RATE
        if not rate:
            return None
        # The two highest rates are those of 7 stages further down.
        pulses = 1 << (rate + 7 if rate <= 2 else rate) - 1
        tick = time * _CRYSTAL // (_SECOND * pulses) + 1
        return now - time - (-tick * pulses * _SECOND // _CRYSTAL)

    def _next_alarm(self, second: int) -> int | None:
        """The first second, from one on, that the alarm bytes fit; None: no time fits them."""
        alarm = self._bytes
        hours, minutes, seconds = (
            range(limit) if value & _ANY == _ANY else (decode(value),)
            for limit, value, decode in (
                (24, alarm[_HOURS_ALARM], self._decode_hour),
                (60, alarm[_MINUTES_ALARM], self._decode),
                (60, alarm[_SECONDS_ALARM], self._decode),
            )
        )
        if hours[0] > 23 or minutes[0] > 59 or seconds[0] > 59:
            return None
        days, now = divmod(second, _SECONDS_PER_DAY)
        midnight = days * _SECONDS_PER_DAY
        for hour in hours:
            if hour >= now // 3600:
                for minute in minutes:
                    start = hour * 3600 + minute * 60
                    fitting = (start + each for each in seconds if start + each >= now)
                    if (first := next(fitting, None)) is not None:
                        return midnight + first
        return midnight + _SECONDS_PER_DAY + hours[0] * 3600 + minutes[0] * 60 + seconds[0]
