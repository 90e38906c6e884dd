"""`pvemu fuzz`: looks for hypercalls that break the hypervisor, led by what code they reach."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pvemu.abi.errors import PvemuError

_Switch = Annotated[bool, Parameter(negative=())]


def fuzz(
    *,
    families: str = "",
    time: str | None = None,
    cases: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
    domains: int = 2,
    privileged: _Switch = False,
    guests: _Switch = False,
    endings: bool = True,
    corpus: Path = Path("fuzz-corpus"),
    findings: Path = Path("fuzz-findings"),
    merge: Annotated[tuple[Path, ...], Parameter(negative=(), consume_multiple=False)] = (),
    minimise_corpus: _Switch = False,
    replay: Path | None = None,
    scheduler: str | None = None,
    extra: Annotated[tuple[Path, ...], Parameter(negative=(), consume_multiple=False)] = (),
) -> int:
    """Make hypercalls from several domains, and look whether anything of the hypervisor breaks.

    Programs that reach new code are kept in the corpus, and new ones are made of them. Each is checked: all
    reference counts, what is mapped, events, secrets, xenstore, and whether anything is left of its domains
    when they are destroyed. The same seed, jobs and cases give the same corpus and the same findings.

    Exit status: 0 when nothing was found, 1 when something was; 2 something to correct.

    Parameters
    ----------
    families
        Only these hypercalls, as `pvemu hypercalls` names them, with commas between them.
    time
        How long: seconds, or as 10m or 2h. One minute, unless --cases is given.
    cases
        How many programs; with --time, whatever is reached first.
    seed
        Of all choices.
    jobs
        How many processes at once: one by default. With --scheduler, shards of a round: one for each thread.
    domains
        How many domains make hypercalls.
    privileged
        The domain is domain 0, alone on its machine.
    guests
        The guests' own code makes the hypercalls, takes traps and upcalls, and runs programs in ring 3.
        Blocks of guest code count as coverage, too.
    endings
        Also hypercalls after which a domain does not go on: block, shut down.
    corpus
        The directory of programs; what is in it is run first.
    findings
        The directory of programs that fail, each with its message and as source of guests.
    merge
        Another corpus whose programs are taken in first; may be given several times.
    minimise_corpus
        Run no campaign: keep only programs that are needed to reach all that the corpus reaches.
    replay
        Run no campaign: run this program again and show how it fails; 1 when it does.
    scheduler
        Run the campaign on the workers of this dask scheduler, tcp://host:port.
    extra
        A Python file that every job runs first, for checks of one's own; may be given several times.
    """
    try:
        command: Any = import_module("pvemu.testing.fuzzing.command")
    except ImportError as error:
        raise PvemuError(f"the testing kit can't be loaded ({error}): install pvemu anew") from error
    setting = command.setting_of(domains, privileged=privileged, guests=guests)
    extras = tuple(str(path.resolve()) for path in extra)
    for path in extra:
        if not path.is_file():
            raise PvemuError(f"there is no file {path} for --extra")
    if replay is not None:
        return int(command.replay(replay, setting, extras=extras))
    if minimise_corpus:
        return int(command.minimise(corpus, setting))
    if jobs is not None and not 1 <= jobs <= command.MOST_JOBS:
        raise PvemuError(f"--jobs is from 1 to {command.MOST_JOBS}")
    if cases is not None and cases < 1:
        raise PvemuError("--cases is at least 1")
    limit = command.seconds_of(time or "1m") if time is not None or cases is None else None
    plan = command.Plan(
        setting=setting,
        families=command.families_of(families),
        endings=endings,
        seed=seed,
        jobs=jobs if jobs is not None else 0 if scheduler is not None else 1,
        cases=cases,
        seconds=limit,
    )
    places = command.Places(corpus, findings, merge)
    return int(command.run(plan, places, scheduler=scheduler, extras=extras))
