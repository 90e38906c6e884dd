"""What `pvemu fuzz` does: a campaign with its summary, one program again, or a corpus made small."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing.campaign import Campaign, Plan, Progress
from pvemu.testing.fuzzing.cluster import ClusterJobs
from pvemu.testing.fuzzing.corpus import Corpus, read_file
from pvemu.testing.fuzzing.display import line, shown
from pvemu.testing.fuzzing.findings import Findings
from pvemu.testing.fuzzing.local_jobs import STUCK, Jobs, LocalJobs, how_it_ends
from pvemu.testing.fuzzing.shard import edges_of
from pvemu.testing.fuzzing.theatre import Setting, fitting, theatre_for
from pvemu.testing.grammar import FAMILIES, named_families
from pvemu.testing.program import Program
from pvemu.testing.program_text import write_program
from pvemu.toolstack.screen import Screen

MOST_DOMAINS: Final = 4
MOST_JOBS: Final = 256
#: Units of --time.
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Places:
    """Where a campaign reads and writes: its corpus, others to be merged into it, and its findings."""

    corpus: Path
    findings: Path
    merge: tuple[Path, ...] = ()


def seconds_of(text: str) -> float:
    """Seconds in a text as 90, 90s, 10m or 2h. Raises PvemuError."""
    unit = _SECONDS.get(text[-1:])
    try:
        seconds = float(text if unit is None else text[:-1]) * (unit or 1)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise PvemuError(f"{text!r} is no time: give --time as 90, 10m or 2h")
    return seconds


def families_of(names: str) -> tuple[str, ...]:
    """The families that a list with commas names; without one, all. Raises PvemuError."""
    return named_families(names) or FAMILIES


def setting_of(domains: int, *, privileged: bool, guests: bool) -> Setting:
    """The machine. Raises PvemuError."""
    if not 1 <= domains <= MOST_DOMAINS:
        raise PvemuError(f"--domains is from 1 to {MOST_DOMAINS}")
    return Setting(1 if privileged else domains, privileged, guests)


def run(plan: Plan, places: Places, *, scheduler: str | None = None, extras: tuple[str, ...] = ()) -> int:
    """Run a campaign; 0 when nothing was found, or 1. Raises PvemuError."""
    console = Screen()
    corpus, findings = Corpus(places.corpus), Findings(places.findings, plan.setting)
    if places.findings.exists() and not places.findings.is_dir():
        raise PvemuError(f"{places.findings} is no directory: say with --findings where they are to be kept")
    for other in places.merge:
        if not other.is_dir():
            raise PvemuError(f"there is no corpus {other} to be merged")
        console.print(f"{corpus.merge(Corpus(other))} programs of {other} are new", highlight=False)
    for program in corpus.programs():  # a damaged file is told of before any process is started
        fitting(plan.setting, program)
    jobs: Jobs
    if scheduler is None:
        jobs = LocalJobs(plan.jobs, extras)
    else:
        jobs = ClusterJobs(scheduler, plan.jobs or None, extras)
        plan = replace(plan, jobs=jobs.number)
    try:
        with _terminated_as_interrupted(), shown(plan, console) as show:
            progress = Campaign(plan, jobs, corpus, findings, show).run()
    finally:
        jobs.close()
    _summarise(console, plan, progress, findings, corpus)
    return 1 if findings.found else 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Within the block SIGTERM ends a campaign as ^C does: what was found is kept."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _summarise(console: Screen, plan: Plan, progress: Progress, findings: Findings, corpus: Corpus) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(f"{line(progress, plan)}; seed {plan.seed}, {plan.jobs} jobs, {progress.seconds:.0f} s")
    say(f"edges seen by {progress.tracer or 'nothing'}; {progress.steps} steps; programs in {corpus.path}")
    for key, finding in sorted(findings.found.items()):
        say(f"\n{finding.failure}")
        say(f"    {findings.times[key]} times, shown by {len(finding.program.steps)} steps:")
        say(f"    {findings.replay(key)}")


# --- one program ---------------------------------------------------------------------------------


def replay(path: Path, setting: Setting, *, extras: tuple[str, ...] = (), stuck: float = STUCK) -> int:
    """Run a program again and show how it fails; 1 when it does, 0 when not.

    Args:
        extras: files that are run first; stuck: seconds after which it hangs.

    Raises:
        PvemuError: it is no program, or not one of this setting.
    """
    program = read_file(path)
    fitting(setting, program)
    failure = how_it_ends(setting, program, extras, stuck)
    if failure is None:
        print(f"{path}: nothing goes wrong in {len(program.steps)} steps")
        return 0
    print(f"{failure}\n\n{write_program(program)}", end="")
    _print_sources(program, setting)
    return 1


def _print_sources(program: Program, setting: Setting) -> None:
    whole = Setting(program.domains, setting.privileged, setting.guests)
    sources, command = theatre_for(whole).sources(program)
    print(f"\n; {command}")
    for number, source in enumerate(sources):
        print(f"\n; ---- d{number}.gk\n{source}", end="")


# --- the corpus ----------------------------------------------------------------------------------


def minimise(path: Path, setting: Setting) -> int:
    """Keep only programs that are needed to reach what all reach, short ones first. Raises PvemuError."""
    corpus = Corpus(path)
    programs = sorted(corpus.programs(), key=lambda program: (len(program.steps), write_program(program)))
    kept, seen = [], set[str]()
    for program, edges in zip(programs, edges_of(setting, programs), strict=True):
        if edges - seen:
            seen |= edges
            kept.append(program)
    removed = corpus.keep_only(kept)
    print(f"{len(kept)} programs reach the {len(seen)} edges of all {len(programs)}; {removed} were removed")
    return 0
