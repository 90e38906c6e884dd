"""The same campaign on a cluster: each shard is a task of a dask scheduler, done by any of its workers.

A task holds all that it needs and changes nothing but its report, so what a lost worker had begun another one
does anew. The worker runs its cases in a process of its own, as a job on this machine does.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing.local_jobs import LocalJobs
from pvemu.testing.fuzzing.shard import Report, Task

#: Seconds to reach the scheduler, and to wait for its first worker.
PATIENCE: Final = 15.0
_ADDRESS: Final = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+:[0-9]+")
#: How many workers may be lost with one task on them.
_MOST_LOSSES: Final = 10
_LOOK: Final = 0.2

#: Jobs of this worker that do nothing at present: a process is used again.
_idle: list[tuple[tuple[str, ...], LocalJobs]] = []


def do_task(task: Task, extras: tuple[str, ...]) -> Report:
    """What a worker does: a task, in a process of its own."""
    jobs = next((entry for entry in list(_idle) if entry[0] == extras), None)
    if jobs is not None and jobs in _idle:
        _idle.remove(jobs)
    else:
        jobs = (extras, LocalJobs(1, extras))
    try:
        report = jobs[1].run([task], lambda: None)[0]
    except BaseException:
        jobs[1].close()
        raise
    _idle.append(jobs)
    return report


class ClusterJobs:
    """The workers of a dask scheduler.

    Args:
        address: the scheduler's, as tcp://host:8786.
        number: how many tasks at once; None: as many as the workers have threads now.
        extras: Python files that each job runs first; workers find them under the same names.

    Raises:
        PvemuError: dask is not installed, the address is none, or the scheduler can't be reached, or has no
            workers.
    """

    def __init__(
        self,
        address: str,
        number: int | None,
        extras: Sequence[str] = (),
        *,
        patience: float = PATIENCE,
    ) -> None:
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise PvemuError(
                f"a cluster needs the package distributed ({error}): pip install 'pvemu[cluster]'"
            ) from error
        self._extras = tuple(extras)
        if _ADDRESS.fullmatch(address) is None:
            raise PvemuError(f"{address!r} is no address of a scheduler: give one like tcp://127.0.0.1:8786")
        try:
            self._client: Any = distributed.Client(address, timeout=patience, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise PvemuError(
                f"no scheduler answers at {address}: start one with `dask scheduler`, or look at the address"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=patience)
        except TimeoutError as error:
            self._client.close()
            raise PvemuError(
                f"the scheduler at {address} has no workers: start some with `dask worker {address}`"
            ) from error
        self.number = number or sum(self._client.nthreads().values())
        self._distributed, self._lost = distributed, (OSError, TimeoutError, CancelledError)
        # What it logs when its scheduler is lost are tracebacks of its own.
        self._log = logging.getLogger("distributed.client")
        self._log.disabled = True
        self._futures: list[Any] = []
        self._reports: dict[int, Report] = {}

    def run(self, tasks: Sequence[Task], progress: Callable[[], None]) -> list[Report]:
        """See Jobs."""
        self._reports = {}
        with self._scheduler_answers():
            self._futures = [
                self._client.submit(do_task, task, self._extras, pure=False, retries=_MOST_LOSSES)
                for task in tasks
            ]
        while len(self._reports) < len(tasks):
            with self._scheduler_answers():
                self._wait()
                self._take_in()
            progress()
        reports = self.partial()
        self._futures, self._reports = [], {}
        return reports

    def _wait(self) -> None:
        """Until one more task is done, or it is time to show how far all is."""
        waiting = [future for number, future in enumerate(self._futures) if number not in self._reports]
        with self._client.as_current(), suppress(TimeoutError):
            self._distributed.wait(waiting, timeout=_LOOK, return_when="FIRST_COMPLETED")

    def _take_in(self) -> None:
        """What has been finished since the last time."""
        for number, future in enumerate(self._futures):
            if future.status == "error":
                error = future.exception()
                raise error if isinstance(error, PvemuError) else PvemuError(f"a task failed: {error}")
            if future.status == "finished" and number not in self._reports:
                self._reports[number] = future.result()

    @contextmanager
    def _scheduler_answers(self) -> Iterator[None]:
        """Within the block the scheduler is asked; raises PvemuError when nothing comes back any more."""
        try:
            yield
            is_lost = self._client.status not in ("running", "connecting")
        except self._lost:  # tasks count as cancelled when their scheduler is lost
            is_lost = True
        if is_lost:
            raise PvemuError("the scheduler does not answer any more; all rounds before this one are kept")

    def partial(self) -> list[Report]:
        """See Jobs: what has been finished."""
        return [report for _, report in sorted(self._reports.items())]

    def close(self) -> None:
        """Let the scheduler forget what is not finished."""
        for future in self._futures:
            future.cancel()
        self._futures = []
        self._client.close()
        self._log.disabled = False
