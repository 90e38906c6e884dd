"""Guests that are all alive at once and go on by turns, a sample each: a thread a guest, of which one runs.

A processor that is shared with other machines is by turns fast and slow, for milliseconds or seconds.
Samples that are to be compared have to lie closer together than that: no machine may be made between two.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.counting import MARK
from benchmarks.jobs import GuestFailed, Job
from benchmarks.routes import Route
from benchmarks.timing import no_garbage_collection

_clock = time.thread_time_ns


class _Abandoned(BaseException):
    """Nobody wants the rest of a guest's samples."""


class Player:
    """A cell's guest in a thread of its own, which waits before its first sample and after each.

    Attributes:
        samples: nanoseconds of one operation, of the time that the host's processor spent on this thread. The
            first one warmed up.
    """

    def __init__(self, job: Job) -> None:
        self.samples: list[float] = []
        self._job = job
        self._began: int | None = None
        self._failure: BaseException | None = None
        self._abandoned = self._ended = False
        self._turn, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._play, name=str(job), daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Run to the end of the next sample, or after the last one to that of the guest.

        Raises:
            GuestFailed: it ended otherwise than by powering off, or has ended before.
        """
        if self._ended:
            raise GuestFailed(f"the guest for {self._job} has no more samples")
        self._turn.release()
        self._done.acquire()
        if self._failure is not None:
            raise self._failure

    def abandon(self) -> None:
        """End the guest where it waits, and give its machine back."""
        self._abandoned = True
        self._turn.release()
        self._thread.join()

    # --- in the guest's thread ---------------------------------------------------------------------

    def _play(self) -> None:
        try:
            self._wait()
            with self._job.running() as running:
                running.on_interrupt(MARK, self._mark)
                running.run()
        except _Abandoned:
            pass
        except BaseException as failure:  # noqa: BLE001  it is raised where the guest's turn was given
            self._failure = failure
        finally:
            self._ended = True
            self._done.release()

    def _wait(self) -> None:
        self._turn.acquire()
        if self._abandoned:
            raise _Abandoned

    def _mark(self) -> None:
        if self._began is None:
            self._began = _clock()
            return
        self.samples.append((_clock() - self._began) / self._job.per_sample)
        self._began = None
        self._done.release()
        self._wait()


def sample_in_turns(
    jobs: Sequence[Job], seed: int, progress: Callable[[], None] = lambda: None
) -> dict[Route, list[float]]:
    """Samples of all routes of one operation; those of the same index are neighbours in time.

    Args:
        jobs: all with the same number of rounds; there is a sample less, for the first one warms up.
        seed: decides the order within each turn.
        progress: called after each turn.

    Raises:
        GuestFailed: a guest ended otherwise than by powering off.
    """
    order = random.Random(seed)
    with _players(jobs) as players, no_garbage_collection():
        for player in players:
            player.go_on()
        for _ in range(jobs[0].rounds - 1):
            for player in order.sample(players, len(players)):
                player.go_on()
            progress()
        for player in players:
            player.go_on()
        return {job.route: player.samples[1:] for job, player in zip(jobs, players, strict=True)}


@contextmanager
def _players(jobs: Sequence[Job]) -> Iterator[list[Player]]:
    with ExitStack() as stack:
        players = []
        for job in jobs:
            player = Player(job)
            stack.callback(player.abandon)
            players.append(player)
        yield players
