"""A campaign: rounds of shards, after each of which all share what one has found.

The same seed, number of jobs and number of cases give the same corpus and the same findings, whether jobs are
processes here or workers elsewhere: reports are merged in the order of the shards.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pvemu.testing.fuzzing.corpus import Corpus
from pvemu.testing.fuzzing.findings import Findings, sorted_findings
from pvemu.testing.fuzzing.local_jobs import Jobs
from pvemu.testing.fuzzing.shard import Report, Task
from pvemu.testing.fuzzing.theatre import Setting
from pvemu.testing.grammar import FAMILIES
from pvemu.testing.program_text import read_program, write_program

#: Cases of each shard in the first round; every round has twice as many as the one before, up to a limit.
_FIRST_ROUND: Final = 50
_LARGEST_ROUND: Final = 800


@dataclass(frozen=True)
class Plan:
    """What a campaign is to do.

    Attributes:
        setting: the machine; families: the hypercalls that are made; endings: also those that end a domain.
        seed: of everything.
        jobs: shards in each round.
        cases: how many new programs are run; None: as many as there is time for.
        seconds: how long; None: as long as the cases take.
    """

    setting: Setting = field(default_factory=Setting)
    families: tuple[str, ...] = FAMILIES
    endings: bool = True
    seed: int = 0
    jobs: int = 1
    cases: int | None = None
    seconds: float | None = None


@dataclass
class Progress:
    """How far a campaign is."""

    cases: int = 0
    steps: int = 0
    edges: int = 0
    blocks: int = 0
    corpus: int = 0
    findings: int = 0
    seconds: float = 0.0
    tracer: str = ""

    @property
    def rate(self) -> float:
        """Cases a second."""
        return self.cases / self.seconds if self.seconds else 0.0


class Campaign:
    """A campaign.

    Attributes:
        progress: how far it is, all that was merged; `now` adds what is on its way.
    """

    def __init__(
        self,
        plan: Plan,
        jobs: Jobs,
        corpus: Corpus,
        findings: Findings,
        show: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._plan, self._jobs, self._corpus, self._findings = plan, jobs, corpus, findings
        self._show = show
        self._programs: list[str] = []
        self._known: set[str] = set()
        self._began = time.monotonic()
        self.progress = Progress()

    def run(self) -> Progress:
        """Do it, until it is over or somebody interrupts: then what was found until then is kept, too.

        Raises:
            PvemuError: the corpus is damaged, or a file can't be written.
        """
        unread = [write_program(program) for program in self._corpus.programs()]
        number, made = 0, 0
        try:
            while not self._is_over(made) or unread:
                tasks = self._tasks(number, made, unread)
                self._merge(self._jobs.run(tasks, self._tell))
                number, made, unread = number + 1, made + sum(task.cases for task in tasks), []
                if self._time_left() == 0:
                    break
        except KeyboardInterrupt:
            reports = self._jobs.partial()
            self._jobs.close()
            self._merge(reports)
        self.progress.seconds = time.monotonic() - self._began
        return self.progress

    def _time_left(self) -> float | None:
        seconds = self._plan.seconds
        return None if seconds is None else max(seconds - (time.monotonic() - self._began), 0)

    def _is_over(self, made: int) -> bool:
        return self._time_left() == 0 or (self._plan.cases is not None and made >= self._plan.cases)

    def _tasks(self, number: int, made: int, unread: Sequence[str]) -> list[Task]:
        """The shards of a round."""
        plan = self._plan
        size = min(_FIRST_ROUND << min(number, 16), _LARGEST_ROUND)
        total = size * plan.jobs
        if plan.cases is not None:
            total = min(total, plan.cases - made)
        known, failures = tuple(sorted(self._known)), tuple(sorted(self._findings.found))
        left = self._time_left()
        return [
            Task(
                setting=plan.setting,
                families=plan.families,
                endings=plan.endings,
                seed=f"{plan.seed}:{number}:{job}",
                cases=total // plan.jobs + (job < total % plan.jobs),
                # Each program is in another shard every time, so that all meet.
                corpus=tuple(self._programs[(job + number) % plan.jobs :: plan.jobs]),
                unread=tuple(unread[job :: plan.jobs]),
                known=known,
                failures=failures,
                seconds=left,
            )
            for job in range(plan.jobs)
        ]

    def _merge(self, reports: Sequence[Report]) -> None:
        """Take in what shards have found, in their order."""
        progress = self.progress
        for report in reports:
            for text, edges in report.kept:
                fresh = set(edges) - self._known
                if fresh:
                    self._known |= fresh
                    self._programs.append(text)
                    self._corpus.add(read_program(text))
            self._known.update(report.edges)
            for finding in sorted_findings(report.findings):
                self._findings.add(finding)
            # A shard that was ended early has told what it found, but not yet how often.
            found = {finding.failure.key: 1 for finding in report.findings}
            for key, times in (found | report.repeated).items():
                self._findings.count(key, times)
            progress.cases += report.cases
            progress.steps += report.steps
            progress.tracer = report.tracer or progress.tracer
        progress.blocks = sum(edge.startswith("guest:") for edge in self._known)
        progress.edges = len(self._known) - progress.blocks
        progress.corpus, progress.findings = len(self._programs), len(self._findings.found)
        self._tell()

    def _tell(self) -> None:
        """Show how far it is, with what is not merged yet."""
        progress, parts = self.progress, self._jobs.partial()
        progress.seconds = time.monotonic() - self._began
        new = {edge for part in parts for _, edges in part.kept for edge in edges} - self._known
        blocks = sum(edge.startswith("guest:") for edge in new)
        keys = {
            finding.failure.key for part in parts for finding in part.findings
        } - self._findings.found.keys()
        self._show(
            Progress(
                cases=progress.cases + sum(part.cases for part in parts),
                steps=progress.steps + sum(part.steps for part in parts),
                edges=progress.edges + len(new) - blocks,
                blocks=progress.blocks + blocks,
                corpus=progress.corpus,
                findings=progress.findings + len(keys),
                seconds=progress.seconds,
                tracer=progress.tracer,
            )
        )
