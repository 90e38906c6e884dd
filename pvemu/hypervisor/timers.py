"""Timers on the virtual clock: what has to happen at which cycle, in an order that never varies."""

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """One thing to do at a time of the clock. Set it again to move it; `cancel` takes it back."""

    def __init__(self, timers: "Timers", action: Callable[[], None]) -> None:
        self._timers = timers
        self.action = action
        self.expires: int | None = None

    def set(self, cycle: int) -> None:
        """Run the action when the clock has reached `cycle`."""
        self.expires = cycle
        self._timers.push(self)

    def cancel(self) -> None:
        """Forget the time that was set."""
        self.expires = None


class Timers:
    """All timers of a machine. Those of the same cycle run in the order in which they were set."""

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = count()

    def push(self, timer: Timer) -> None:
        """Queue a timer at the time it holds (an earlier entry of it becomes stale)."""
        assert timer.expires is not None
        heapq.heappush(self._queue, (timer.expires, next(self._order), timer))

    def next_expiry(self) -> int | None:
        """The cycle of the earliest timer; None when none is set."""
        queue = self._queue
        while queue and queue[0][2].expires != queue[0][0]:
            heapq.heappop(queue)
        return queue[0][0] if queue else None

    def run_expired(self, now: int) -> None:
        """Run the action of every timer whose time has come."""
        while (expiry := self.next_expiry()) is not None and expiry <= now:
            timer = heapq.heappop(self._queue)[2]
            timer.expires = None
            timer.action()
