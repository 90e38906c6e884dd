"""The two 8259A interrupt controllers of a PC, the second one on line 2 of the first.

Sources: Intel's data sheet of the 8259A (231468), and of the 82371AB (PIIX4) for the edge/level registers.
"""

from collections.abc import Callable
from typing import Final

#: Command port of each controller; its data port is the next one.
PRIMARY_PORT: Final = 0x20
SECONDARY_PORT: Final = 0xA0
#: Edge/level control registers, first controller and second.
ELCR_PORT: Final = 0x4D0

#: The first controller's line that the second one drives.
CASCADE: Final = 2
#: Lines that may be made level-triggered: not timer, keyboard and cascade, not clock and coprocessor.
_MAY_BE_LEVEL: Final = (0xF8, 0xDE)
#: What a controller answers that is asked for a request when there is none left.
_SPURIOUS: Final = 7
_LOWEST_AT_START: Final = 7

# Initialization command word 1, and operation control words 2 and 3, by their bits.
_ICW1: Final = 0x10
_ICW1_SINGLE: Final = 0x02
_ICW1_ICW4: Final = 0x01
_ICW4_AUTO_EOI: Final = 0x02
_ICW4_SPECIAL_FULLY_NESTED: Final = 0x10
_OCW2_ROTATE: Final = 0x80
_OCW2_SPECIFIC: Final = 0x40
_OCW2_EOI: Final = 0x20
_OCW3: Final = 0x08
_OCW3_CHANGE_SPECIAL_MASK: Final = 0x40
_OCW3_SPECIAL_MASK: Final = 0x20
_OCW3_POLL: Final = 0x04
_OCW3_CHANGE_READ: Final = 0x02
_OCW3_READ_IN_SERVICE: Final = 0x01
_POLL_FOUND: Final = 0x80


class _Controller:
    """One 8259A. A set of lines is a number with a bit for each.

    Attributes:
        lines: those that are high; latched: those that have risen and were not yet acknowledged;
            level: those whose level counts, and not their edge.
        in_service, masked: the registers ISR and IMR; base: the vector of line 0.
        lowest: the line of the least priority; the next one has the highest.
        words: the initialization words that are still to come, by number.
    """

    def __init__(self) -> None:
        self.lines = self.latched = self.level = 0
        self.in_service = self.masked = 0
        self.base = 0
        self.lowest = _LOWEST_AT_START
        self.auto_eoi = self.rotates = False
        self.special_mask = self.special_fully_nested = False
        self.reads_in_service = self.polled = False
        self.words: list[int] = []

    @property
    def requests(self) -> int:
        """The register IRR."""
        return self.latched & ~self.level | self.lines & self.level

    def set_line(self, line: int, high: bool) -> None:
        """Drive a line. A request that falls before it is acknowledged is lost, edge or level."""
        bit = 1 << line
        if high:
            self.latched |= bit & ~self.lines
            self.lines |= bit
        else:
            self.lines &= ~bit
            self.latched &= ~bit

    def winner(self) -> int | None:
        """The line that may interrupt now; None when no one may."""
        line = self._first(self.requests & ~self.masked)
        if line is None or self.words:
            return None
        busy = self.in_service
        if self.special_fully_nested:
            # The second controller may be asking for a line that goes before the one in service.
            busy &= ~(1 << CASCADE) if line == CASCADE else -1
        if self.special_mask:
            busy &= ~self.masked
        holder = self._first(busy)
        return line if holder is None or self._rank(line) < self._rank(holder) else None

    def acknowledge(self) -> int | None:
        """Take the line that may interrupt into service, and say which it was."""
        line = self.winner()
        if line is None:
            return None
        self.latched &= ~(1 << line)
        if not self.auto_eoi:
            self.in_service |= 1 << line
        elif self.rotates:
            self.lowest = line
        return line

    def write_command(self, value: int) -> None:
        """Take what is written to the even port."""
        if value & _ICW1:
            self._begin_initialization(value)
        elif value & _OCW3:
            self._operate(value)
        else:
            self._end_of_interrupt(value)

    def write_data(self, value: int) -> None:
        """Take what is written to the odd port: the next initialization word, or the mask."""
        if not self.words:
            self.masked = value
            return
        word = self.words.pop(0)
        if word == 2:
            self.base = value & 0xF8
        elif word == 4:
            self.auto_eoi = bool(value & _ICW4_AUTO_EOI)
            self.special_fully_nested = bool(value & _ICW4_SPECIAL_FULLY_NESTED)

    def read_register(self) -> int:
        """What the even port shows."""
        return self.in_service if self.reads_in_service else self.requests

    def poll(self) -> int:
        """Answer the read that follows a poll command: it acknowledges as the processor would."""
        self.polled = False
        line = self.acknowledge()
        return 0 if line is None else _POLL_FOUND | line

    def _begin_initialization(self, value: int) -> None:
        """ICW1: forget edges, masks, what is in service, and all modes of OCW2 and OCW3."""
        self.latched = self.masked = self.in_service = 0
        self.lowest = _LOWEST_AT_START
        self.rotates = self.special_mask = self.reads_in_service = self.polled = False
        self.words = [2]
        if not value & _ICW1_SINGLE:
            self.words.append(3)
        if value & _ICW1_ICW4:
            self.words.append(4)
        else:
            self.auto_eoi = self.special_fully_nested = False

    def _operate(self, value: int) -> None:
        """OCW3."""
        if value & _OCW3_POLL:
            self.polled = True
        if value & _OCW3_CHANGE_READ:
            self.reads_in_service = bool(value & _OCW3_READ_IN_SERVICE)
        if value & _OCW3_CHANGE_SPECIAL_MASK:
            self.special_mask = bool(value & _OCW3_SPECIAL_MASK)

    def _end_of_interrupt(self, value: int) -> None:
        """OCW2: end of interrupt, and rotation of priorities."""
        rotate, specific = bool(value & _OCW2_ROTATE), bool(value & _OCW2_SPECIFIC)
        if value & _OCW2_EOI:
            # In special mask mode the end is not for a masked line: it would not have been first.
            ended = self._first(self.in_service & ~(self.masked if self.special_mask else 0))
            line = value & 7 if specific else ended
            if line is not None:
                self.in_service &= ~(1 << line)
                self.lowest = line if rotate else self.lowest
        elif not specific:
            self.rotates = rotate
        elif rotate:
            self.lowest = value & 7

    def _rank(self, line: int) -> int:
        """0 for the line of the highest priority, 7 for that of the lowest."""
        return (line - self.lowest - 1) & 7

    def _first(self, lines: int) -> int | None:
        """The one of the highest priority among some lines."""
        return min((line for line in range(8) if lines >> line & 1), key=self._rank, default=None)


class Vpic:
    """Both controllers as the processor and the other devices see them: 16 lines in, one out.

    Attributes:
        before_access: called before the guest or the processor does anything here, so that a device which
            works out its line only when somebody looks can bring it up to date.
        after_change: called after whatever may have changed which edges make a difference.

    Args:
        kick: called when the output rises: an interrupt may be pending for the processor.
    """

    def __init__(self, kick: Callable[[], None]) -> None:
        self._kick = kick
        self._primary, self._secondary = _Controller(), _Controller()
        # Whatever ELCR says, the second controller's output is looked at as it is.
        self._primary.level = 1 << CASCADE
        self._output = False
        self.before_access: Callable[[], None] = lambda: None
        self.after_change: Callable[[], None] = lambda: None

    def line(self, number: int) -> Callable[[bool], None]:
        """The function that drives one of the 16 lines; line 2 is the second controller's own."""
        controller, own = (self._secondary, number - 8) if number >= 8 else (self._primary, number)

        def drive(high: bool) -> None:
            controller.set_line(own, high)
            self._settle()

        return drive

    def hears(self, number: int) -> bool:
        """Whether an edge on one of the first 8 lines would be news: not masked, and not requested yet."""
        return not (self._primary.masked | self._primary.latched) >> number & 1

    def pending(self) -> bool:
        """Whether the output is high: the processor should ask for a vector."""
        return self._output

    def acknowledge(self) -> int:
        """Answer the processor's interrupt acknowledge with a vector.

        A request that has gone away meanwhile is answered with the vector of line 7 of the controller that
        asked, and nothing is in service then.
        """
        self.before_access()
        line = self._primary.acknowledge()
        controller = self._primary
        if line == CASCADE:
            line = self._secondary.acknowledge()
            controller = self._secondary
        self._settle()
        self.after_change()
        return controller.base | (_SPURIOUS if line is None else line)

    def read_byte(self, port: int) -> int:
        """Read a register."""
        self.before_access()
        if port in (ELCR_PORT, ELCR_PORT + 1):
            return self._of(port & 1).level & _MAY_BE_LEVEL[port & 1]
        if port & ~1 not in (PRIMARY_PORT, SECONDARY_PORT):
            return 0xFF
        controller = self._of(port & ~1 == SECONDARY_PORT)
        if controller.polled:
            answer = controller.poll()
            self._settle()
            self.after_change()
            return answer
        return controller.masked if port & 1 else controller.read_register()

    def write_byte(self, port: int, value: int) -> None:
        """Write a register."""
        self.before_access()
        if port in (ELCR_PORT, ELCR_PORT + 1):
            fixed = 0 if port & 1 else 1 << CASCADE
            self._of(port & 1).level = value & _MAY_BE_LEVEL[port & 1] | fixed
        elif port & ~1 in (PRIMARY_PORT, SECONDARY_PORT):
            controller = self._of(port & ~1 == SECONDARY_PORT)
            (controller.write_data if port & 1 else controller.write_command)(value)
        self._settle()
        self.after_change()

    def _of(self, second: bool | int) -> _Controller:
        return self._secondary if second else self._primary

    def _settle(self) -> None:
        """Let the second controller's output reach the first, and the first's the processor."""
        self._primary.set_line(CASCADE, self._secondary.winner() is not None)
        was_high, self._output = self._output, self._primary.winner() is not None
        if self._output and not was_high:
            self._kick()
