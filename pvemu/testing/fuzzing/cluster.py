"""The same campaign on a cluster: each shard is a task of a dask scheduler, done by any of its workers.

A task holds all that it needs and changes nothing but its report, so what a lost worker had begun another one
does anew. The worker runs its cases in a process of its own, as a job on this machine does.
"""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing.local_jobs import LocalJobs
from pvemu.testing.fuzzing.shard import Report, Task

#: Seconds to reach the scheduler, and to wait for its first worker.
PATIENCE: Final = 15.0
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
        PvemuError: dask is not installed, the scheduler can't be reached, or has no workers.
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
        self._futures: list[Any] = []
        self._lost: Any = (OSError, TimeoutError, distributed.comm.core.CommClosedError)
        self._killed: Any = import_module("distributed.scheduler").KilledWorker

    def run(self, tasks: Sequence[Task], progress: Callable[[], None]) -> list[Report]:
        """See Jobs."""
        self._futures = [
            self._client.submit(do_task, task, self._extras, pure=False, retries=_MOST_LOSSES)
            for task in tasks
        ]
        while not all(future.done() for future in self._futures):
            time.sleep(_LOOK)
            self._see_that_it_lives()
            progress()
        try:
            reports: list[Report] = self._client.gather(self._futures)
        except self._killed as error:
            raise PvemuError(f"a task was lost with each of several workers: {error}") from error
        except self._lost as error:
            raise PvemuError(f"the cluster does not answer any more: {error}") from error
        self._futures = []
        return reports

    def _see_that_it_lives(self) -> None:
        if self._client.status not in ("running", "connecting"):
            raise PvemuError("the scheduler does not answer any more; all rounds before this one are kept")

    def partial(self) -> list[Report]:
        """See Jobs: what has been finished."""
        return [future.result() for future in self._futures if future.status == "finished"]

    def close(self) -> None:
        """Let the scheduler forget what is not finished."""
        for future in self._futures:
            future.cancel()
        self._futures = []
        self._client.close()
