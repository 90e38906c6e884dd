"""^C while a machine runs: the run ends at a safe place instead of inside one of the engine's callbacks."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pvemu.toolstack.machine import Machine


@contextmanager
def interruptible(machine: Machine) -> Iterator[None]:
    """Within the block, SIGINT makes the machine's run raise KeyboardInterrupt.

    An exception that Python's own handler raised in a callback of the engine could not pass the engine's C
    frames. A process that ignores SIGINT, or has a handler of its own, is left alone.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        machine.interrupt()

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
