"""The gate to the outside: sockets, terminals and pipes, looked at between two turns of guests."""

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from pvemu.services.outside import Source

#: While guests run, the outside is looked at once in so many nanoseconds of virtual time: each look is a
#: system call.
_INTERVAL: Final = 1_000_000
_SECOND: Final = 1_000_000_000
_CHUNK: Final = 64
#: A program that got its answer has its next question ready soon: the gate waits for it so many seconds, and
#: answers up to so many in a row before guests go on.
_LINGER: Final = 0.0003
_BURST: Final = 100

_Callbacks = dict[int, Callable[[], None]]


class Gate:
    """Calls whoever waits for a descriptor (see `pvemu.services.outside.Outside`).

    With nothing to watch, a machine runs as if there were no outside: its clock jumps over idle times. While
    something is watched, idle times take as long as they say, so that what comes in meets the guest at the
    right moment.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._next_look = 0
        self._opened = time.perf_counter_ns()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ, {selectors.EVENT_READ: self._unwind})

    def watch(
        self,
        source: Source,
        *,
        on_readable: Callable[[], None] | None = None,
        on_writable: Callable[[], None] | None = None,
    ) -> None:
        """Call what is given whenever the source is ready; replaces what was asked for it before."""
        wanted = {selectors.EVENT_READ: on_readable, selectors.EVENT_WRITE: on_writable}
        callbacks = {event: callback for event, callback in wanted.items() if callback is not None}
        if source in self._selector.get_map():
            self._selector.unregister(source)
        if callbacks:
            self._selector.register(source, sum(callbacks), callbacks)

    def forget(self, source: Source) -> None:
        """Look at a source no more; must be called before it is closed."""
        if source in self._selector.get_map():
            self._selector.unregister(source)

    def close(self) -> None:
        """Give the system's part of it back."""
        self._selector.close()
        self._bell.close()
        self._button.close()

    @property
    def is_open(self) -> bool:
        """Whether anything can come in."""
        return len(self._selector.get_map()) > 1

    def host_time(self) -> int:
        """Nanoseconds of the host since the gate was opened."""
        return time.perf_counter_ns() - self._opened

    def wake(self) -> None:
        """End a wait that is going on; may be called from a signal handler."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            self._button.send(b"!")

    def _unwind(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(_CHUNK)

    def look(self, now: int) -> None:
        """Call for what is ready, if it is time to look again; `now` is the virtual time in nanoseconds."""
        if now >= self._next_look and self.is_open:
            self._next_look = now + _INTERVAL
            patience: float = 0
            for _ in range(_BURST):
                if not self._call(patience):
                    break
                patience = _LINGER

    def wait(self, nanoseconds: int | None) -> int:
        """Wait until something is ready, or for so long (None: without end); the nanoseconds that passed.

        Nobody is called yet: `look` does that, once the machine's clock has been moved on by that time.
        """
        begin = time.monotonic_ns()
        self._selector.select(None if nanoseconds is None else nanoseconds / _SECOND)
        self._next_look = 0
        passed = time.monotonic_ns() - begin
        return passed if nanoseconds is None else min(passed, nanoseconds)

    def _call(self, timeout: float) -> bool:
        """Call for what is or becomes ready in so many seconds; whether anything was."""
        found = self._selector.select(timeout)
        for key, ready in found:
            callbacks: _Callbacks = key.data
            for event, callback in callbacks.items():
                # One callback may have closed what the next one was for.
                if ready & event and key.fileobj in self._selector.get_map():
                    callback()
        return bool(found)
