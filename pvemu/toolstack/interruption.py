"""^C and its like while a machine runs: the run ends at a safe place, and what it has changed is put back."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from pvemu.toolstack.machine import Machine


class Terminated(SystemExit):
    """The process was asked to end (SIGTERM); its status is as shells report a program that this ends."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class HungUp(SystemExit):
    """The terminal has gone (SIGHUP)."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGHUP)


#: What each signal raises, where the process has not decided about it.
_RAISED: Final[Mapping[signal.Signals, tuple[Any, type[BaseException]]]] = {
    signal.SIGINT: (signal.default_int_handler, KeyboardInterrupt),
    signal.SIGTERM: (signal.SIG_DFL, Terminated),
    signal.SIGHUP: (signal.SIG_DFL, HungUp),
}


@contextmanager
def interruptible(machine: Machine) -> Iterator[None]:
    """Within the block, SIGINT makes the machine's run raise KeyboardInterrupt; SIGTERM, SIGHUP end it, too.

    An exception that Python's own handler raised in a callback of the engine could not pass the engine's C
    frames. A process that ignores a signal, or has a handler of its own, is left alone.
    """
    changed = {}
    for number, (usual, reason) in _RAISED.items():
        if signal.getsignal(number) is usual:
            changed[number] = usual
            signal.signal(number, _raising(machine, reason))
    try:
        yield
    finally:
        for number, usual in changed.items():
            signal.signal(number, usual)


def _raising(machine: Machine, reason: type[BaseException]) -> Callable[[int, FrameType | None], None]:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        machine.interrupt(reason)

    return interrupt
