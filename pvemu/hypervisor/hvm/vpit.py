"""The 8254 interval timer of a PC with its three channels, and port 0x61 that gates the third.

Nothing counts here: a count is worked out from the clock when somebody looks, and a timer is set only where
channel 0 would interrupt somebody. Source: Intel's data sheet of the 82C54 (231244). Where it leaves a
choice, or a clock pulse of delay, it is Xen's: a count is loaded at once in every mode but those that wait
for their gate, and a control word by itself never interrupts.
"""

from collections.abc import Callable
from typing import Final

from pvemu.hypervisor.hvm.pit_channel import PitChannel
from pvemu.hypervisor.timers import Timer, Timers

#: Input clock in Hz.
PIT_FREQUENCY: Final = 1_193_182
FIRST_PORT: Final = 0x40
LAST_PORT: Final = 0x43
SPEAKER_PORT: Final = 0x61

_NANOSECONDS: Final = 1_000_000_000
_CONTROL: Final = 3
_SPEAKER: Final = 2
_READ_BACK: Final = 3
_READ_BACK_NO_COUNT: Final = 0x20
_READ_BACK_NO_STATUS: Final = 0x10
# Bits of port 0x61.
_GATE: Final = 0x01
_SPEAKER_DATA: Final = 0x02
_REFRESH: Final = 0x10
_OUTPUT: Final = 0x20
#: Clock pulses between two refreshes of memory, which turn a bit of port 0x61: 15 µs.
_REFRESH_TICKS: Final = 18


class Vpit:
    """All of it. Channel 0 drives an interrupt line, channel 2 the speaker.

    The line gets a pulse (low, then high) at each rising edge of the channel's output: then a request stays
    with whoever has latched it, as it does while the output is high.

    Args:
        timers, now: timers on the clock, and the clock, both in ns.
        irq: the interrupt line.
        is_heard: whether an edge would make a difference to anybody. While it would not, no timer is set;
            whoever looks at the line, or changes that, calls `catch_up` before and `rearm` afterwards.
    """

    def __init__(
        self,
        timers: Timers,
        now: Callable[[], int],
        irq: Callable[[bool], None],
        is_heard: Callable[[], bool] = lambda: True,
    ) -> None:
        self._timer = Timer(timers, self._edge)
        self._now = now
        self._irq = irq
        self._is_heard = is_heard
        self._channels = [PitChannel() for _ in range(3)]
        self._channels[_SPEAKER].set_gate(0, False)
        self._speaker_data = False
        #: Up to where edges of channel 0 were told.
        self._told = 0

    def read_byte(self, port: int) -> int:
        """Read a count or a status; the control port has nothing to read."""
        if port == SPEAKER_PORT:
            return self._read_speaker()
        if not FIRST_PORT <= port <= LAST_PORT:
            return 0xFF
        number = port - FIRST_PORT
        return 0 if number == _CONTROL else self._channels[number].read(self._ticks())

    def write_byte(self, port: int, value: int) -> None:
        """Write a control word, a byte of a count, or the gate of channel 2."""
        if port == SPEAKER_PORT:
            self._speaker_data = bool(value & _SPEAKER_DATA)
            self._channels[_SPEAKER].set_gate(self._ticks(), bool(value & _GATE))
        elif FIRST_PORT <= port <= LAST_PORT:
            self.catch_up()
            self._write(port - FIRST_PORT, value)
            self.rearm()

    def catch_up(self) -> None:
        """Tell of an edge of channel 0 that nobody was told of: however many there were, one shows."""
        ticks = self._ticks()
        if self._channels[0].rising_edges(ticks) > self._channels[0].rising_edges(self._told):
            self._irq(False)
            self._irq(True)
        self._told = ticks

    def rearm(self) -> None:
        """Set the timer for the next edge if anybody hears it."""
        edge = self._channels[0].next_rising_edge(self._told) if self._is_heard() else None
        if edge is None:
            self._timer.cancel()
        else:
            self._timer.set(-(-edge * _NANOSECONDS // PIT_FREQUENCY))

    def stop(self) -> None:
        """The domain is gone: interrupt nobody any more."""
        self._timer.cancel()

    def _edge(self) -> None:
        self.catch_up()
        self.rearm()

    def _ticks(self) -> int:
        """Pulses of the input clock since the machine was made."""
        return self._now() * PIT_FREQUENCY // _NANOSECONDS

    def _read_speaker(self) -> int:
        ticks, channel = self._ticks(), self._channels[_SPEAKER]
        value = _GATE if channel.gate else 0
        value |= _SPEAKER_DATA if self._speaker_data else 0
        value |= _REFRESH if ticks // _REFRESH_TICKS & 1 else 0
        return value | (_OUTPUT if channel.output(ticks) else 0)

    def _write(self, number: int, value: int) -> None:
        ticks = self._ticks()
        was_high = self._channels[0].output(ticks)
        if number != _CONTROL:
            self._channels[number].write(ticks, value)
        elif value >> 6 == _READ_BACK:
            self._read_back(ticks, value)
        else:
            self._channels[value >> 6].control(ticks, value)
        if was_high and not self._channels[0].output(ticks):
            self._irq(False)

    def _read_back(self, ticks: int, value: int) -> None:
        for number, channel in enumerate(self._channels):
            if value >> 1 + number & 1:
                if not value & _READ_BACK_NO_COUNT:
                    channel.latch_count(ticks)
                if not value & _READ_BACK_NO_STATUS:
                    channel.latch_status(ticks)
