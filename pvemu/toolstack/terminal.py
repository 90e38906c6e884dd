"""A person's terminal as a guest's console: keys go to the guest one by one, and ^] leaves."""

import os
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pvemu.services.outside import Outside

#: The key that ends the connection, as in `xl console`: ^].
ESCAPE: Final = b"\x1d"
_CHUNK: Final = 1024
_INPUT, _LOCAL, _CONTROL = 0, 3, 6
#: No echo, no lines, no signals: every key is the guest's. What is printed keeps its line ends.
_COOKED_INPUT: Final = termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.ISTRIP
_COOKED_LOCAL: Final = termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN


class Left(Exception):
    """The person has pressed ^]."""


def is_interactive() -> bool:
    """Whether a person sits at both ends of this process."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def keyboard(outside: Outside, keys: Callable[[bytes], None], leave: Callable[[], None]) -> Iterator[None]:
    """Within the block, what is typed goes to `keys`; ^] calls `leave`."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[_INPUT] &= ~_COOKED_INPUT
    raw[_LOCAL] &= ~_COOKED_LOCAL
    raw[_CONTROL][termios.VMIN], raw[_CONTROL][termios.VTIME] = 1, 0

    def on_readable() -> None:
        try:
            typed = os.read(descriptor, _CHUNK)
        except OSError:  # the terminal has gone
            typed = b""
        if not typed:
            outside.forget(sys.stdin)
            return
        wanted, escape, _ = typed.partition(ESCAPE)
        if wanted:
            keys(wanted)
        if escape:
            leave()

    termios.tcsetattr(descriptor, termios.TCSADRAIN, raw)
    outside.watch(sys.stdin, on_readable=on_readable)
    try:
        yield
    finally:
        outside.forget(sys.stdin)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
