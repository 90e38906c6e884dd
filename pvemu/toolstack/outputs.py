"""Where guests' consoles go: to stdout as they are, labelled if there are several, or to pseudo-terminals."""

import contextlib
import os
import select
import sys
import time
import tty
from collections.abc import Callable

from pvemu.abi.errors import PvemuError
from pvemu.services.outside import Outside

_CHUNK = 1024
#: Seconds that who reads a terminal has for the last of what is there, and between two looks at it.
_FAREWELL, _LOOK = 5.0, 0.005


def show(data: bytes) -> None:
    """The console's bytes go out as they are, and at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class Labelled:
    """Shows whole lines, with a domain's number in front: guests may print at the same time."""

    def __init__(self, number: int) -> None:
        self._label = b"(d%d) " % number
        self._line = bytearray()

    def __call__(self, data: bytes) -> None:
        """Take some bytes."""
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            show(self._label + line + b"\n")
        self._line = rest

    def finish(self) -> None:
        """Show a last line that has no end."""
        if self._line:
            self(b"\n")


class _Descriptor:
    """What the gate can watch."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number


class PseudoTerminal:
    """One guest's console as a terminal device, for `screen`, `minicom` and the like.

    Attributes:
        name: the device.

    Raises:
        PvemuError: the system has no more of them.
    """

    def __init__(self) -> None:
        try:
            self._master, self._slave = os.openpty()
        except OSError as error:
            raise PvemuError(f"no pseudo-terminal ({error.strerror}): leave --pty out") from error
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.name = os.ttyname(self._slave)
        self._source = _Descriptor(self._master)

    def __call__(self, data: bytes) -> None:
        """Show some bytes; what a terminal that nobody reads has no room for is lost."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._master, data)

    def connect(self, outside: Outside, keys: Callable[[bytes], None]) -> None:
        """Pass on what is typed there."""

        def on_readable() -> None:
            with contextlib.suppress(BlockingIOError):
                keys(os.read(self._master, _CHUNK))

        outside.watch(self._source, on_readable=on_readable)

    def close(self) -> None:
        """Give the device back. What was not read is lost with it: who has it open gets a moment to do so."""
        os.close(self._slave)
        if self._is_open_elsewhere():
            self._wait_for_reader()
        os.close(self._master)

    def _is_open_elsewhere(self) -> bool:
        poll = select.poll()
        poll.register(self._master, 0)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    def _wait_for_reader(self) -> None:
        end = time.monotonic() + _FAREWELL
        with contextlib.suppress(OSError):
            own = os.open(self.name, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            unread = select.poll()
            unread.register(own, select.POLLIN)
            try:
                # To ask so, unlike FIONREAD, also brings there what the system has still on its way.
                while unread.poll(0) and time.monotonic() < end:
                    time.sleep(_LOOK)
            finally:
                os.close(own)
