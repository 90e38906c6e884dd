"""One shard of a campaign: so many cases from one seed, with a part of the corpus.

That is what a job works on at a time, whether it is a process on this machine or a worker of a cluster. The
same task gives the same report.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from pvemu.testing.fuzzing.deeds import MAKERS
from pvemu.testing.fuzzing.edges import Tracer, make_tracer
from pvemu.testing.fuzzing.failure import Failure
from pvemu.testing.fuzzing.findings import Finding
from pvemu.testing.fuzzing.mutation import Mutator, Vocabulary
from pvemu.testing.fuzzing.theatre import Setting, Theatre, fitting, theatre_for
from pvemu.testing.phrases import FIRST_PORT, FIRST_PORT_OF_DOMAIN_0
from pvemu.testing.program import Program
from pvemu.testing.program_text import read_program, write_program

#: The search for leaks takes longer than all the rest: after this many cases, and where anything was new.
_LEAKS_EACH: Final = 16
#: Of so many cases one is made from nothing.
_NEW_EACH: Final = 3
#: A program that takes longer is not kept, as all that are made of it would take as long: a table of traps
#: that is the machine-to-physical map takes 262 million cycles and seven seconds, 40 usual steps one million.
_MOST_CYCLES: Final = 100_000_000
#: How often a failing program may be run to make it short.
MOST_RUNS: Final = 400


@dataclass(frozen=True)
class Task:
    """What a shard is.

    Attributes:
        setting: the machine; families: the hypercalls that are made; endings: also those that end a domain.
        seed: of all choices.
        cases: how many new programs are made and run.
        corpus: programs to begin with, as text.
        unread: programs that nobody has run yet, as text: they are run first, besides the cases.
        known: edges that are not new.
        failures: keys of failures that need no new program.
        seconds: the time after which it stops early; None: it never does.
    """

    setting: Setting
    families: tuple[str, ...]
    endings: bool
    seed: str
    cases: int
    corpus: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass
class Report:
    """What has come of a shard.

    Attributes:
        kept: programs that reached something new, as text, each with its new edges.
        findings: programs that fail; repeated: how often each failure came, by its key.
        edges: new edges of programs that fail.
        cases, steps: how many were run.
        tracer: how edges were seen.
    """

    kept: list[tuple[str, list[str]]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=dict)
    edges: list[str] = field(default_factory=list)
    cases: int = 0
    steps: int = 0
    tracer: str = ""


class Listener:
    """Is told of everything as it happens; these do nothing."""

    def about_to_run(self, program: Program) -> None:
        """A case, before it runs: it may be the process's last."""

    def has_run(self, steps: int) -> None:
        """A case is over."""

    def kept(self, text: str, edges: Sequence[str]) -> None:
        """A program has reached something new."""

    def found(self, finding: Finding) -> None:
        """A program fails in a new way."""

    def is_making_short(self) -> None:
        """A failing program has been run once more."""


_tracers: list[Tracer] = []


def _tracer() -> Tracer:
    """The process's one."""
    if not _tracers:
        _tracers.append(make_tracer())
    return _tracers[0]


def run_shard(
    task: Task, listener: Listener | None = None, *, clock: Callable[[], float] = time.monotonic
) -> Report:
    """Do a task."""
    return _Shard(task, listener or Listener(), clock).run()


class _Shard:
    def __init__(self, task: Task, listener: Listener, clock: Callable[[], float]) -> None:
        self._task, self._listener, self._clock = task, listener, clock
        self._began = clock()
        random = Random(task.seed)
        self._random = random
        deeds: Any = tuple(MAKERS) if task.setting.guests else ()
        vocabulary = Vocabulary(
            task.setting.domains,
            task.families,
            task.endings,
            deeds,
            # Domain 0 has no xenstored beside it, and a guest that runs has its own end of the ring.
            messages=not task.setting.privileged and not task.setting.guests,
            first_port=FIRST_PORT_OF_DOMAIN_0 if task.setting.privileged else FIRST_PORT,
        )
        self._mutator = Mutator(vocabulary, random)
        self._tracer = _tracer()
        self._corpus: list[Program] = []
        self._known_failures = set(task.failures)
        self._report = Report(tracer=self._tracer.name)

    def run(self) -> Report:
        """All cases."""
        task = self._task
        theatre_for(task.setting).new_blocks()  # those of its making are in no program
        self._tracer.forget(task.known)
        self._blocks = {each for each in task.known if each.startswith("guest:")}
        self._corpus += map(read_program, task.corpus)
        for text in task.unread:
            program = read_program(text)
            if not self._is_over():
                self._case(program, theatre_for(fitting(task.setting, program)))
        theatre = theatre_for(task.setting)
        while self._report.cases - len(task.unread) < task.cases and not self._is_over():
            self._case(self._next(), theatre)
        return self._report

    def _is_over(self) -> bool:
        seconds = self._task.seconds
        return seconds is not None and self._clock() - self._began >= seconds

    def _next(self) -> Program:
        """A new program, or one of the corpus changed; the younger half is taken more often."""
        random, corpus = self._random, self._corpus
        if not corpus or random.random() * _NEW_EACH < 1:
            return self._mutator.new_program(corpus)
        first = len(corpus) // 2 if random.random() < 0.5 else 0
        return self._mutator.mutate(corpus[first + int(random.random() * (len(corpus) - first))], corpus)

    def _case(self, program: Program, theatre: Theatre) -> None:
        report = self._report
        self._listener.about_to_run(program)
        with self._tracer.watching():
            failure = theatre.play(program)
        edges = self._tracer.new() + self._new_blocks(theatre)
        if failure is None:
            failure = theatre.judge(leaks=bool(edges) or report.cases % _LEAKS_EACH == 0)
        report.cases += 1
        report.steps += len(program.steps)
        self._listener.has_run(len(program.steps))
        if failure is not None:
            report.edges += edges
            self._fails(program, failure, theatre)
        elif theatre.cycles > _MOST_CYCLES:
            report.edges += edges
        elif edges:
            text = write_program(program)
            self._corpus.append(program)
            report.kept.append((text, edges))
            self._listener.kept(text, edges)

    def _new_blocks(self, theatre: Theatre) -> list[str]:
        found = [f"guest:{address:#x}" for address in theatre.new_blocks()]
        fresh = [each for each in found if each not in self._blocks]
        self._blocks.update(fresh)
        return fresh

    def _fails(self, program: Program, failure: Failure, theatre: Theatre) -> None:
        key = failure.key
        self._report.repeated[key] = self._report.repeated.get(key, 0) + 1
        if key in self._known_failures:
            return
        self._known_failures.add(key)
        shortest = theatre.shortest(
            program, failure, most_runs=MOST_RUNS, each_time=self._listener.is_making_short
        )
        again = theatre.failure(shortest)
        if again is not None and again.key == key:
            failure = again
        sources, command = theatre.sources(shortest)
        theatre.new_blocks()
        finding = Finding(shortest, failure, sources, command)
        self._report.findings.append(finding)
        self._listener.found(finding)


def edges_of(setting: Setting, programs: Sequence[Program]) -> list[frozenset[str]]:
    """All edges of each program by itself."""
    tracer, found = _tracer(), []
    for program in programs:
        theatre = theatre_for(fitting(setting, program))
        theatre.new_blocks()
        tracer.forget(())
        with tracer.watching():
            theatre.play(program)
        blocks = (f"guest:{address:#x}" for address in theatre.new_blocks())
        found.append(frozenset((*tracer.new(), *blocks)))
    return found


def continued(task: Task, report: Report, attempt: int) -> Task:
    """The rest of a task whose process died after this much of it."""
    unread = task.unread[report.cases :]
    return replace(
        task,
        seed=f"{task.seed}/{attempt}",
        cases=max(task.cases - max(report.cases - len(task.unread), 0), 0),
        corpus=(*task.corpus, *(text for text, _ in report.kept)),
        unread=unread,
        known=tuple(sorted({*task.known, *report.edges, *(each for _, new in report.kept for each in new)})),
        failures=tuple(sorted({*task.failures, *(finding.failure.key for finding in report.findings)})),
    )
