"""The keyboard controller of a PC, an 8042 without a keyboard: guests reset the machine through it.

Its own commands are answered, so that nobody who waits for an answer waits for ever; bytes for the keyboard
are answered as by a controller that gets no answer itself. Sources: IBM's PS/2 technical reference; for
port 0x92, the 82371AB (PIIX4).
"""

from collections.abc import Callable
from typing import Final

DATA_PORT: Final = 0x60
COMMAND_PORT: Final = 0x64
#: System control port A: the other way to reset, and to open the 21st address line.
CONTROL_PORT: Final = 0x92

_OUTPUT_FULL: Final = 0x01
_SELF_TEST_PASSED: Final = 0x04
_COMMAND_WAS_LAST: Final = 0x08
_NOT_LOCKED: Final = 0x10
_TIMED_OUT: Final = 0x40

_RESEND: Final = 0xFE
_CONTROL_RESET: Final = 0x01
_OUTPUT_RESET_LINE: Final = 0x01
_OUTPUT_AT_START: Final = 0xCF
_CONTROL_A20: Final = 0x02
_PULSE_COMMANDS: Final = 0xF0
#: Configuration at start: interrupts and translation off, keyboard and auxiliary port disabled.
_CONFIGURATION_AT_START: Final = 0x34

_READ_CONFIGURATION: Final = 0x20
_WRITE_CONFIGURATION: Final = 0x60
_READ_OUTPUT: Final = 0xD0
_WRITE_OUTPUT: Final = 0xD1
#: Let a byte be read as if it came from the keyboard, or from the auxiliary device.
_PRETEND: Final = (0xD2, 0xD3)
_WRITE_AUXILIARY: Final = 0xD4
#: Commands with one fixed answer: self-test, test of the keyboard's line and of the auxiliary one (none).
_ANSWERS: Final = {0xAA: 0x55, 0xAB: 0x00, 0xA9: 0x01, 0xC0: 0x80, 0xE0: 0x00}
#: Commands after which the next byte of data is for the controller.
_TAKES_DATA: Final = frozenset({_WRITE_CONFIGURATION, _WRITE_OUTPUT, *_PRETEND, _WRITE_AUXILIARY})
#: What the commands that switch a line of keyboard or auxiliary port change: bits set, bits cleared.
_SWITCHES: Final = {0xAD: (0x10, 0), 0xAE: (0, 0x10), 0xA7: (0x20, 0), 0xA8: (0, 0x20)}


class KeyboardController:
    """The device.

    Args:
        reset: resets the machine.
    """

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset
        #: A byte that was not read yet.
        self._answer: int | None = None
        self._timed_out = False
        self._status = _SELF_TEST_PASSED | _NOT_LOCKED
        self._last_answer = 0
        self._configuration = _CONFIGURATION_AT_START
        self._output = _OUTPUT_AT_START
        self._control = _CONTROL_A20
        #: The command that the next byte of data belongs to.
        self._command: int | None = None

    def read_byte(self, port: int) -> int:
        """Read the status, an answer, or control port A."""
        if port == COMMAND_PORT:
            full = 0 if self._answer is None else _OUTPUT_FULL
            return self._status | full | (_TIMED_OUT if self._timed_out else 0)
        if port == CONTROL_PORT:
            return self._control
        if port != DATA_PORT:
            return 0xFF
        if self._answer is not None:
            self._last_answer, self._answer, self._timed_out = self._answer, None, False
        return self._last_answer

    def write_byte(self, port: int, value: int) -> None:
        """Write a command, its data, or control port A."""
        if port == COMMAND_PORT:
            self._status |= _COMMAND_WAS_LAST
            self._carry_out(value)
        elif port == DATA_PORT:
            self._status &= ~_COMMAND_WAS_LAST
            self._take(value)
        elif port == CONTROL_PORT:
            self._control = value & _CONTROL_A20
            if value & _CONTROL_RESET:
                self._reset()

    def _carry_out(self, command: int) -> None:
        self._command = command if command in _TAKES_DATA else None
        self._timed_out = False
        if command >= _PULSE_COMMANDS:
            # The low bits name lines of the output port, and a bit of 0 one that is pulled down.
            if not command & _OUTPUT_RESET_LINE:
                self._reset()
        elif command in _ANSWERS:
            self._answer = _ANSWERS[command]
        elif command == _READ_CONFIGURATION:
            self._answer = self._configuration
        elif command == _READ_OUTPUT:
            self._answer = self._output
        elif command in _SWITCHES:
            on, off = _SWITCHES[command]
            self._configuration = (self._configuration | on) & ~off

    def _take(self, value: int) -> None:
        command, self._command = self._command, None
        if command == _WRITE_CONFIGURATION:
            self._configuration = value
        elif command == _WRITE_OUTPUT:
            self._output = value
            if not value & _OUTPUT_RESET_LINE:
                self._reset()
        elif command in _PRETEND:
            self._answer = value
        else:
            self._answer, self._timed_out = _RESEND, True
