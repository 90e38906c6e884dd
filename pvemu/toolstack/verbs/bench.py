"""`pvemu bench`: what a trap costs and what a hypercall costs, by every route that there is."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pvemu.abi.errors import PvemuError

_Switch = Annotated[bool, Parameter(negative=())]


def bench(
    *names: str,
    quick: _Switch = False,
    as_list: Annotated[bool, Parameter(name="--list", negative=())] = False,
    json: Path | None = None,
    html: Path | None = None,
    figures: Path | None = None,
    source: Annotated[Path | None, Parameter(name="--from")] = None,
    compare: Annotated[tuple[Path, Path] | None, Parameter(negative=())] = None,
    profile: str | None = None,
    seed: int = 0,
    curves: bool = True,
    reference_command: Annotated[str | None, Parameter(env_var="PVEMU_REFERENCE_COMMAND")] = None,
) -> int:
    """Measure what the same job costs natively, trapped, by hypercall, in shared memory and in HVM guests.

    Exits, hypercalls and instructions are exact, and the same in every run; times are the host's.

    Exit status: 0, or 1 when --compare finds exact figures that differ; 2 something to correct.

    Parameters
    ----------
    names
        Only these operations and curves; see --list.
    quick
        Fewer samples: the whole table in less than two minutes.
    as_list
        Show what can be measured, and the cost profiles.
    json
        Write everything to this file, with each sample.
    html
        Write a report with plots to this file.
    figures
        Write the plots into this folder, as SVG and PNG.
    source
        Measure nothing: make --html and --figures of a file that --json has written.
    compare
        Measure nothing: show two files that --json has written beside each other.
    profile
        Show cycles, too, modelled with this cost profile.
    seed
        Decides in which order the routes of an operation take turns.
    curves
        Also measure what it costs when there is more and more of something.
    reference_command
        Run the PV guests with this command as well, which boots the kernel that is its last argument.
    """
    try:
        from benchmarks import command
        from benchmarks.session import Settings
    except ImportError as error:
        raise PvemuError(f"the package benchmarks is not installed ({error}): install pvemu anew") from error
    if as_list:
        return command.list_names()
    if compare is not None:
        return command.compare(*compare)
    outputs = command.Outputs(json, html, figures, profile)
    if source is not None:
        if html is None and figures is None:
            raise PvemuError("--from makes a report: say where with --html or --figures")
        return command.report(source, outputs)
    settings = Settings.quickly(seed, curves=curves) if quick else Settings(seed=seed, curves=curves)
    return command.run(names, settings, outputs, reference_command)
