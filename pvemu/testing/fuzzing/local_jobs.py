"""Jobs on this machine: a process each, and what becomes of a case that ends its process or never ends."""

import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Final, Protocol

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing.failure import Failure
from pvemu.testing.fuzzing.findings import Finding
from pvemu.testing.fuzzing.process import Process
from pvemu.testing.fuzzing.shard import Report, Task, continued
from pvemu.testing.fuzzing.theatre import Setting
from pvemu.testing.program import Program
from pvemu.testing.program_text import read_program, write_program
from pvemu.testing.shrinking import shrink

#: Seconds without a word after which a process counts as stuck.
STUCK: Final = 60.0
#: How often a program that ends its process is run again to make it short: each time takes a new process.
_MOST_RUNS: Final = 24
#: How often one task is gone on with after its process died.
_MOST_DEATHS: Final = 20


class Jobs(Protocol):
    """Whoever does tasks."""

    number: int
    """How many are done at once."""

    def run(self, tasks: Sequence[Task], progress: Callable[[], None]) -> list[Report]:
        """Do all tasks; their reports in the same order. `progress` is called when there is more to see."""

    def partial(self) -> list[Report]:
        """What has come of the tasks so far."""

    def close(self) -> None:
        """Let go of everything."""


class _Work:
    """One task that is being done."""

    def __init__(self, task: Task) -> None:
        self.task = self.rest = task
        #: Of the task as a whole, and of what its present process was given.
        self.report, self.part = Report(), Report()
        self.case: str | None = None
        self.deaths = 0
        self.is_done = False
        self.last_word = time.monotonic()

    def take(self, kind: str, content: object) -> None:
        """Note what a process tells."""
        self.last_word = time.monotonic()
        for report in (self.report, self.part):
            _note(report, kind, content)
        if kind == "about to run":
            self.case = str(content)
        elif kind == "done":
            assert isinstance(content, Report)
            self.is_done = True

    def add(self, finding: Finding) -> None:
        """A case that the process did not live to tell of."""
        for report in (self.report, self.part):
            report.findings.append(finding)
            report.repeated[finding.failure.key] = report.repeated.get(finding.failure.key, 0) + 1
            report.cases += 1


def _note(report: Report, kind: str, content: object) -> None:
    if kind == "has run":
        assert isinstance(content, int)
        report.cases += 1
        report.steps += content
    elif kind == "kept":
        assert isinstance(content, tuple)
        report.kept.append(content)
    elif kind == "found":
        assert isinstance(content, Finding)
        report.findings.append(content)
    elif kind == "done":
        assert isinstance(content, Report)
        report.tracer = content.tracer
        report.edges += content.edges
        for key, times in content.repeated.items():
            report.repeated[key] = report.repeated.get(key, 0) + times


class LocalJobs:
    """So many processes.

    Args:
        extras: Python files that each runs first.
        stuck: seconds without a word after which a process is ended.
    """

    def __init__(self, number: int, extras: Sequence[str] = (), *, stuck: float = STUCK) -> None:
        self.number = number
        self._extras, self._stuck = tuple(extras), stuck
        self._processes: list[Process | None] = [None] * number
        self._works: list[_Work] = []

    def close(self) -> None:
        """End all processes, and forget what they have told."""
        for process in self._processes:
            if process is not None:
                process.end()
        self._processes = [None] * self.number
        self._works = []

    def partial(self) -> list[Report]:
        """See Jobs."""
        return [work.report for work in self._works]

    def run(self, tasks: Sequence[Task], progress: Callable[[], None]) -> list[Report]:
        """See Jobs. There are no more tasks than processes."""
        assert len(tasks) <= self.number
        self._works = [_Work(task) for task in tasks]
        for place, work in enumerate(self._works):
            self._start(place, work)
        while not all(work.is_done for work in self._works):
            self._listen()
            progress()
        reports = self.partial()
        self._works = []
        return reports

    def _start(self, place: int, work: _Work) -> None:
        process = self._processes[place]
        if process is None:
            process = self._processes[place] = Process(self._extras)
        work.part, work.case, work.last_word = Report(), None, time.monotonic()
        process.tell("task", work.rest)

    def _give_time(self) -> None:
        """Nobody has listened for a while: the processes' time begins anew."""
        for work in self._works:
            work.last_word = time.monotonic()

    def _listen(self) -> None:
        """Take what the processes tell, and look for those that tell nothing any more."""
        busy = {
            process.connection: place
            for place, work in enumerate(self._works)
            if not work.is_done and (process := self._processes[place]) is not None
        }
        for connection in wait(list(busy), 1.0):
            place = busy[connection]  # type: ignore[index]
            process = self._processes[place]
            assert process is not None
            told = process.hear()
            if told is None:
                self._died(place, _death(process))
            else:
                self._works[place].take(*told)
        for place in busy.values():
            work = self._works[place]
            process = self._processes[place]
            if not work.is_done and process is not None and self._is_late(work):
                self._died(place, _silence(process, self._stuck))

    def _is_late(self, work: _Work) -> bool:
        # To begin, with a machine to be made, takes longer than any case.
        limit = max(self._stuck, STUCK) if work.case is None else self._stuck
        return time.monotonic() - work.last_word > limit

    def _died(self, place: int, failure: Failure) -> None:
        """A process is no more: keep its case, and go on with the rest in a new one."""
        work, process = self._works[place], self._processes[place]
        assert process is not None
        words = process.last_words()
        process.end()
        self._processes[place] = None
        work.deaths += 1
        if work.case is None:
            raise PvemuError(
                f"a job ended before its first case ({failure.error}): {_last_line(words) or 'no word'}"
            )
        program = read_program(work.case)
        if failure.kind == "died" and failure.key not in {*work.rest.failures, *work.report.repeated}:
            program = shrink(program, lambda other: self._dies(work, other, failure), most_runs=_MOST_RUNS)
        work.add(Finding(program, failure))
        self._give_time()
        if work.deaths > _MOST_DEATHS:
            work.is_done = True
            return
        work.rest = continued(work.rest, work.part, work.deaths)
        self._start(place, work)

    def _dies(self, work: _Work, program: Program, failure: Failure) -> bool:
        other = how_it_ends(work.task.setting, program, self._extras, self._stuck)
        return other is not None and (other.kind, other.error) == (failure.kind, failure.error)


def _last_line(words: str) -> str:
    """What a process said last: of a Python program that fails, what went wrong."""
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _death(process: Process) -> Failure:
    """That of a process that is dead."""
    how = process.how_it_died()
    return Failure("died", how, process.frames(), f"the process ran this case and ended: {how}")


def _silence(process: Process, seconds: float) -> Failure:
    """That of a process which tells nothing."""
    process.say_where()
    message = f"the process ran this case and gave no sign of life for {seconds:g} seconds"
    return Failure("stuck", "no sign of life", process.frames(), message)


def how_it_ends(
    setting: Setting, program: Program, extras: Sequence[str] = (), seconds: float = STUCK
) -> Failure | None:
    """Run a program in a process of its own; what goes wrong, which may be that the process ends or hangs.

    Args:
        seconds: after which it hangs; to begin, it has at least a minute.
    """
    process = Process(extras)
    try:
        process.tell("replay", (setting, write_program(program)))
        # It tells first that it begins, and then what has come of it.
        process.hear(max(seconds, STUCK))
        told = process.hear(seconds)
        return _death(process) if told is None else told[1]
    except TimeoutError:
        return _silence(process, seconds)
    finally:
        process.end()
