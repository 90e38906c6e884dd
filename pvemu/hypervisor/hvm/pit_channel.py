"""One channel of the 8254: six modes of counting down, and the latches through which a byte gets in or out.

Time is in pulses of the input clock ("ticks"). Source: Intel's data sheet of the 82C54 (231244).
"""

from collections.abc import Callable
from typing import Final

# How a count is read and written.
_LATCH: Final = 0
_LOW: Final = 1
_HIGH: Final = 2
_LOW_THEN_HIGH: Final = 3

_INTERRUPT_ON_TERMINAL_COUNT: Final = 0
_RETRIGGERABLE: Final = (1, 5)
_PERIODIC: Final = (2, 3)
_STROBES: Final = (4, 5)
_STATUS_OUTPUT: Final = 0x80
_STATUS_NULL_COUNT: Final = 0x40


def _square_wave_count(passed: int, count: int) -> int:
    """Mode 3 counts by twos, through twice in a period; an odd count begins one lower."""
    high = (count + 1) // 2
    phase = passed % count
    return count - count % 2 - 2 * (phase if phase < high else phase - high)


#: Whether the output is high so many ticks after a count was loaded, by mode.
_OUTPUT: Final[tuple[Callable[[int, int], bool], ...]] = (
    lambda passed, count: passed >= count,
    lambda passed, count: passed >= count,
    lambda passed, count: passed % count != count - 1,
    lambda passed, count: passed % count < (count + 1) // 2,
    lambda passed, count: passed != count,
    lambda passed, count: passed != count,
)
#: What the counter holds then, by mode; below zero it goes on at the highest number.
_COUNTER: Final[tuple[Callable[[int, int], int], ...]] = (
    lambda passed, count: count - passed,
    lambda passed, count: count - passed,
    lambda passed, count: count - passed % count,
    _square_wave_count,
    lambda passed, count: count - passed,
    lambda passed, count: count - passed,
)


def _from_bcd(value: int) -> int:
    return sum((value >> 4 * digit & 0xF) * 10**digit for digit in range(4))


def _to_bcd(value: int) -> int:
    return sum(value // 10**digit % 10 << 4 * digit for digit in range(4))


class PitChannel:
    """A channel. Until a count is written it does not count.

    Attributes:
        gate: whether its gate is high.
    """

    def __init__(self) -> None:
        self.gate = True
        self._mode = _INTERRUPT_ON_TERMINAL_COUNT
        self._access = _LOW_THEN_HIGH
        self._bcd = False
        self._count = 0
        self._null_count = True
        #: The tick at which the count was loaded, or would have been without pauses; None before.
        self._loaded: int | None = None
        #: Ticks that had passed when the gate stopped the count.
        self._paused: int | None = None
        self._low_byte: int | None = None
        self._high_is_next = False
        self._latched_status: int | None = None
        #: Bytes of a latched count that were not read yet.
        self._latched: list[int] = []

    def control(self, ticks: int, value: int) -> None:
        """Take a control word: latch the count, or choose access, mode and digits, and wait for a count."""
        access = value >> 4 & 3
        if access == _LATCH:
            self.latch_count(ticks)
            return
        self._access = access
        mode = value >> 1 & 7
        self._mode = mode & 3 if mode > 5 else mode
        self._bcd = bool(value & 1)
        self._null_count = True
        self._loaded = self._paused = None
        self._low_byte, self._high_is_next = None, False
        self._latched, self._latched_status = [], None

    def write(self, ticks: int, value: int) -> None:
        """Take a byte of a count; the last byte of it loads it."""
        if self._access == _LOW_THEN_HIGH and self._low_byte is None:
            self._low_byte = value
            return
        word = value << 8 if self._access == _HIGH else value
        if self._low_byte is not None:
            word, self._low_byte = self._low_byte | value << 8, None
        self._count = _from_bcd(word) or 10_000 if self._bcd else word or 0x1_0000
        self._null_count = self._mode in _RETRIGGERABLE
        if self._mode not in _RETRIGGERABLE:
            self._load(ticks)

    def read(self, ticks: int) -> int:
        """Give a byte: of the latched status, of the latched count, else of the count as it is."""
        if self._latched_status is not None:
            status, self._latched_status = self._latched_status, None
            return status
        if self._latched:
            return self._latched.pop(0)
        low, high = self._count_bytes(ticks)
        if self._access != _LOW_THEN_HIGH:
            return high if self._access == _HIGH else low
        self._high_is_next = not self._high_is_next
        return low if self._high_is_next else high

    def latch_count(self, ticks: int) -> None:
        """Keep the count until it is read; one that is kept already stays."""
        if not self._latched:
            low, high = self._count_bytes(ticks)
            self._latched = {_LOW: [low], _HIGH: [high]}.get(self._access, [low, high])

    def latch_status(self, ticks: int) -> None:
        """Keep the status until it is read; one that is kept already stays."""
        if self._latched_status is None:
            self._latched_status = (
                (_STATUS_OUTPUT if self.output(ticks) else 0)
                | (_STATUS_NULL_COUNT if self._null_count else 0)
                | self._access << 4
                | self._mode << 1
                | self._bcd
            )

    def set_gate(self, ticks: int, high: bool) -> None:
        """Drive the gate: it starts modes 1 and 5, starts 2 and 3 anew, and lets 0 and 4 go on."""
        if high == self.gate:
            return
        passed = self._passed(ticks)
        self.gate = high
        if self._mode in _RETRIGGERABLE:
            if high and self._count:
                self._null_count = False
                self._load(ticks)
        elif passed is not None:
            if not high:
                self._paused = passed
            elif self._mode in _PERIODIC:
                self._load(ticks)
            else:
                self._loaded, self._paused = ticks - passed, None

    def output(self, ticks: int) -> bool:
        """Whether the output is high."""
        passed = self._passed(ticks)
        if passed is None:
            return self._mode != _INTERRUPT_ON_TERMINAL_COUNT
        if self._mode in _PERIODIC and not self.gate:
            return True
        return _OUTPUT[self._mode](passed, self._count)

    def rising_edges(self, ticks: int) -> int:
        """How often the output has risen since the count was loaded."""
        passed = self._passed(ticks)
        if passed is None or self._is_constant:
            return 0
        if self._mode in _PERIODIC:
            return max(passed, 0) // self._count
        return int(passed >= self._first_edge)

    def next_rising_edge(self, ticks: int) -> int | None:
        """The tick of the first rising edge after a tick; None: there will be none."""
        if self._loaded is None or self._paused is not None or self._is_constant:
            return None
        passed = ticks - self._loaded
        if self._mode in _PERIODIC:
            return self._loaded + (max(passed, 0) // self._count + 1) * self._count
        return self._loaded + self._first_edge if passed < self._first_edge else None

    @property
    def _first_edge(self) -> int:
        """Ticks to the rising edge of a mode that has one: a strobe is low for one tick before."""
        return self._count + (self._mode in _STROBES)

    @property
    def _is_constant(self) -> bool:
        """Whether the mode is periodic and the count 1, which the data sheet forbids: the output stays."""
        return self._mode in _PERIODIC and self._count == 1

    def _load(self, ticks: int) -> None:
        self._loaded = ticks
        self._paused = None if self.gate or self._mode in _RETRIGGERABLE else 0

    def _passed(self, ticks: int) -> int | None:
        """Ticks that were counted since the count was loaded; None: it waits for a count or for its gate."""
        if self._paused is not None:
            return self._paused
        return None if self._loaded is None else ticks - self._loaded

    def _count_bytes(self, ticks: int) -> tuple[int, int]:
        """The low and the high byte of what the counter holds, in its digits."""
        passed = self._passed(ticks)
        counter = self._count if passed is None else _COUNTER[self._mode](passed, self._count)
        word = _to_bcd(counter % 10_000) if self._bcd else counter & 0xFFFF
        return word & 0xFF, word >> 8
