"""Timers on the virtual clock: what has to happen at which cycle, in an order that never varies."""

import heapq
from collections.abc import Callable
from itertools import count

#: Entries that the queue may hold before stale ones are dropped.
_LEAST_ROOM = 64


class Timer:
    """One thing to do at a time of the clock. Set it again to move it; `cancel` takes it back."""

    def __init__(self, timers: "Timers", action: Callable[[], None]) -> None:
        self._timers = timers
        self.action = action
        self.expires: int | None = None
        self.order = -1

    def set(self, cycle: int) -> None:
        """Run the action when the clock has reached `cycle`."""
        self.expires = cycle
        self._timers.push(self)

    def cancel(self) -> None:
        """Forget the time that was set."""
        self.expires = None


_Entry = tuple[int, int, Timer]


def _is_stale(entry: _Entry) -> bool:
    """Whether the timer was cancelled or set again since it was queued so."""
    cycle, order, timer = entry
    return timer.expires != cycle or timer.order != order


class Timers:
    """All timers of a machine. Those of the same cycle run in the order in which they were set.

    Attributes:
        was_set: called with the cycle of each timer that is set.
    """

    def __init__(self) -> None:
        self.was_set: Callable[[int], None] = lambda cycle: None
        self._queue: list[_Entry] = []
        self._order = count()
        self._room = _LEAST_ROOM

    def push(self, timer: Timer) -> None:
        """Queue a timer at the time it holds (an earlier entry of it becomes stale)."""
        assert timer.expires is not None
        if len(self._queue) >= self._room:
            self._drop_stale()
        timer.order = next(self._order)
        heapq.heappush(self._queue, (timer.expires, timer.order, timer))
        self.was_set(timer.expires)

    def _drop_stale(self) -> None:
        """Forget what was set again or cancelled, so that the queue stays in proportion to the timers."""
        self._queue = [entry for entry in self._queue if not _is_stale(entry)]
        heapq.heapify(self._queue)
        self._room = max(2 * len(self._queue), _LEAST_ROOM)

    def next_expiry(self) -> int | None:
        """The cycle of the earliest timer; None when none is set."""
        queue = self._queue
        while queue and _is_stale(queue[0]):
            heapq.heappop(queue)
        return queue[0][0] if queue else None

    def run_expired(self, now: int) -> None:
        """Run the action of every timer whose time has come."""
        while (expiry := self.next_expiry()) is not None and expiry <= now:
            timer = heapq.heappop(self._queue)[2]
            timer.expires = None
            timer.action()
