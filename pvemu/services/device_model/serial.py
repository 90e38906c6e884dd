"""The serial port of a PC: a 16550A UART whose other end takes every byte at once.

Source: National's data sheet of the PC16550D. The line has no speed: a byte that is written is gone when the
write is over, and what is typed waits outside until the receiver has room, so that nothing is overrun.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

#: First ports and interrupt lines of COM1 and COM2; a UART has 8 ports.
COM1: Final = (0x3F8, 4)
COM2: Final = (0x2F8, 3)
PORTS: Final = 8

_FIFO_SIZE: Final = 16
#: Keys that may wait for a guest that does not read them; more are lost, as at any keyboard.
_LONGEST_QUEUE: Final = 1 << 20

# Interrupt enable.
_IER_RECEIVED: Final = 0x01
_IER_TRANSMITTER_EMPTY: Final = 0x02
_IER_LINE_STATUS: Final = 0x04
_IER_MODEM_STATUS: Final = 0x08
_IER_MASK: Final = 0x0F
# Interrupt identification, in falling priority.
_IIR_LINE_STATUS: Final = 0x06
_IIR_RECEIVED: Final = 0x04
_IIR_TIMEOUT: Final = 0x0C
_IIR_TRANSMITTER_EMPTY: Final = 0x02
_IIR_MODEM_STATUS: Final = 0x00
_IIR_NONE: Final = 0x01
_IIR_FIFOS: Final = 0xC0
# FIFO control.
_FCR_ENABLE: Final = 0x01
_FCR_CLEAR_RECEIVER: Final = 0x02
#: Received bytes that interrupt, by the two highest bits.
_TRIGGER_LEVELS: Final = (1, 4, 8, 14)
_LCR_DIVISOR_LATCH: Final = 0x80
# Modem control.
_MCR_DTR: Final = 0x01
_MCR_RTS: Final = 0x02
_MCR_OUT1: Final = 0x04
_MCR_OUT2: Final = 0x08
_MCR_LOOP_BACK: Final = 0x10
_MCR_MASK: Final = 0x1F
# Line status.
_LSR_DATA_READY: Final = 0x01
_LSR_OVERRUN: Final = 0x02
_LSR_ERRORS: Final = 0x1E
_LSR_TRANSMITTER_EMPTY: Final = 0x60
# Modem status: lines, and whether each has changed since the last read.
_MSR_CTS: Final = 0x10
_MSR_DSR: Final = 0x20
_MSR_RI: Final = 0x40
_MSR_DCD: Final = 0x80
_MSR_LINES: Final = 0xF0
_MSR_CHANGES: Final = 0x0F
#: Which line of the modem each of our own lines becomes in loop-back.
_LOOPED: Final = ((_MCR_DTR, _MSR_DSR), (_MCR_RTS, _MSR_CTS), (_MCR_OUT1, _MSR_RI), (_MCR_OUT2, _MSR_DCD))
#: Whoever is on the other end is there and ready.
_CONNECTED: Final = _MSR_DCD | _MSR_DSR | _MSR_CTS
#: Divisor after power-on: 9600 baud.
_DIVISOR_AT_START: Final = 12


class Serial:
    """One UART.

    Attributes:
        printed: how many bytes the guest has sent.

    Args:
        first_port: its ports are this one and the next seven.
        irq: its interrupt line.
        sink: takes the bytes that the guest sends.
    """

    def __init__(self, first_port: int, irq: Callable[[bool], None], sink: Callable[[bytes], None]) -> None:
        self._first_port = first_port
        self._irq = irq
        self._sink = sink
        self.printed = 0
        self._typed = bytearray()
        self._received = deque[int]()
        self._last_received = 0
        self._enabled = 0
        self._fifos = False
        self._trigger = 1
        self._line_control = 0
        self._modem_control = _MCR_OUT2
        self._divisor = _DIVISOR_AT_START
        self._scratch = 0
        self._errors = 0
        self._modem_status = _CONNECTED
        self._transmitter_interrupts = False

    def type(self, keys: bytes) -> None:
        """Let bytes arrive; those that the receiver has no room for yet wait."""
        self._typed += keys[: max(_LONGEST_QUEUE - len(self._typed), 0)]
        self._receive()
        self._settle()

    @property
    def holds_keys(self) -> bool:
        """Whether the guest has not yet read all that was typed."""
        return bool(self._typed or self._received)

    def read_byte(self, port: int) -> int:
        """Read a register."""
        register = port - self._first_port
        if self._line_control & _LCR_DIVISOR_LATCH and register in (0, 1):
            return self._divisor >> 8 * register & 0xFF
        read = _READERS.get(register)
        if read is None:
            return 0xFF
        value = read(self)
        self._settle()
        return value

    def write_byte(self, port: int, value: int) -> None:
        """Write a register."""
        register = port - self._first_port
        if self._line_control & _LCR_DIVISOR_LATCH and register in (0, 1):
            keep = 0x00FF if register else 0xFF00
            self._divisor = self._divisor & keep | value << 8 * register
        elif register in _WRITERS:
            _WRITERS[register](self, value)
            self._settle()

    def _read_received(self) -> int:
        if self._received:
            self._last_received = self._received.popleft()
            self._receive()
        return self._last_received

    def _send(self, value: int) -> None:
        """Send a byte; the transmitter is empty again at once, which is an event."""
        self._transmitter_interrupts = True
        if self._modem_control & _MCR_LOOP_BACK:
            self._take(value)
        else:
            self.printed += 1
            self._sink(bytes((value,)))

    def _take(self, value: int) -> None:
        """Receive a byte: a full FIFO loses it, a single register loses the one before."""
        if len(self._received) < self._room:
            self._received.append(value)
            return
        self._errors |= _LSR_OVERRUN
        if not self._fifos:
            self._received[0] = value

    @property
    def _room(self) -> int:
        return _FIFO_SIZE if self._fifos else 1

    def _receive(self) -> None:
        """Let in what waits outside, as far as there is room. In loop-back the line is cut."""
        if self._modem_control & _MCR_LOOP_BACK:
            return
        count = min(len(self._typed), self._room - len(self._received))
        if count > 0:
            self._received += self._typed[:count]
            del self._typed[:count]

    def _read_enabled(self) -> int:
        return self._enabled

    def _write_enabled(self, value: int) -> None:
        value &= _IER_MASK
        if value & ~self._enabled & _IER_TRANSMITTER_EMPTY:
            self._transmitter_interrupts = True
        self._enabled = value

    def _read_identification(self) -> int:
        cause = self._cause()
        if cause == _IIR_TRANSMITTER_EMPTY:
            self._transmitter_interrupts = False
        return cause | (_IIR_FIFOS if self._fifos else 0)

    def _write_fifo_control(self, value: int) -> None:
        fifos = bool(value & _FCR_ENABLE)
        if fifos != self._fifos or (fifos and value & _FCR_CLEAR_RECEIVER):
            self._received.clear()
        self._fifos = fifos
        self._trigger = _TRIGGER_LEVELS[value >> 6] if fifos else 1
        self._receive()

    def _read_line_control(self) -> int:
        return self._line_control

    def _write_line_control(self, value: int) -> None:
        self._line_control = value

    def _read_modem_control(self) -> int:
        return self._modem_control

    def _write_modem_control(self, value: int) -> None:
        self._modem_control = value & _MCR_MASK
        if self._modem_control & _MCR_LOOP_BACK:
            lines = sum(line for own, line in _LOOPED if self._modem_control & own)
        else:
            lines = _CONNECTED
            self._receive()
        changed = (self._modem_status ^ lines) & _MSR_LINES
        if lines & _MSR_RI:
            # Of the ring indicator only the end counts.
            changed &= ~_MSR_RI
        self._modem_status = lines | self._modem_status & _MSR_CHANGES | changed >> 4

    def _read_line_status(self) -> int:
        errors, self._errors = self._errors, 0
        return _LSR_TRANSMITTER_EMPTY | errors | (_LSR_DATA_READY if self._received else 0)

    def _read_modem_status(self) -> int:
        status, self._modem_status = self._modem_status, self._modem_status & _MSR_LINES
        return status

    def _read_scratch(self) -> int:
        return self._scratch

    def _write_scratch(self, value: int) -> None:
        self._scratch = value

    def _cause(self) -> int:
        """The reason to interrupt that goes first, as the identification register says it."""
        enabled = self._enabled
        if enabled & _IER_LINE_STATUS and self._errors & _LSR_ERRORS:
            return _IIR_LINE_STATUS
        if enabled & _IER_RECEIVED and self._received:
            # Nothing more is under way when fewer wait than the trigger asks for: their time is out.
            return _IIR_RECEIVED if len(self._received) >= self._trigger else _IIR_TIMEOUT
        if enabled & _IER_TRANSMITTER_EMPTY and self._transmitter_interrupts:
            return _IIR_TRANSMITTER_EMPTY
        if enabled & _IER_MODEM_STATUS and self._modem_status & _MSR_CHANGES:
            return _IIR_MODEM_STATUS
        return _IIR_NONE

    def _settle(self) -> None:
        self._irq(self._cause() != _IIR_NONE)


_READERS: Final[dict[int, Callable[[Serial], int]]] = {
    0: Serial._read_received,
    1: Serial._read_enabled,
    2: Serial._read_identification,
    3: Serial._read_line_control,
    4: Serial._read_modem_control,
    5: Serial._read_line_status,
    6: Serial._read_modem_status,
    7: Serial._read_scratch,
}
_WRITERS: Final[dict[int, Callable[[Serial, int], None]]] = {
    0: Serial._send,
    1: Serial._write_enabled,
    2: Serial._write_fifo_control,
    3: Serial._write_line_control,
    4: Serial._write_modem_control,
    7: Serial._write_scratch,
}
