"""`pvemu differential`: the same programs and guests on pvemu and on real Xen, and the first difference."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from pvemu.abi.errors import PvemuError

_Switch = Annotated[bool, Parameter(negative=())]


def differential(
    *files: Path,
    reference_command: Annotated[str | None, Parameter(env_var="PVEMU_REFERENCE_COMMAND")] = None,
    privileged: _Switch = False,
    seed: int = 0,
    programs: int = 100,
    families: str = "",
    quality: Literal["good", "near", "hostile", "mixed"] = "mixed",
    trials: int = 12,
    timeout: float = 60,
    memory: int | None = None,
    show_all: Annotated[bool, Parameter(name="--all", negative=())] = False,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
) -> int:
    """Run the same on pvemu and on another hypervisor, and show the first difference.

    Of programs of hypercalls each result is compared, and all that Xen writes; frames are named by what they
    are. A program that differs is made as short as possible. Of other guests the lines of the console are
    compared.

    Exit status: 0 when both say the same, 1 when they differ; 2 something to correct, or the command failed.

    Parameters
    ----------
    files
        Programs (as this verb and `pvemu fuzz` write them), guestkit source, or ELF files. Without any,
        programs are made.
    reference_command
        What runs a guest there: it gets the guest's ELF file as last argument and prints its console.
    privileged
        The guest is domain 0, here and there.
    seed
        Of the programs that are made.
    programs
        How many are made.
    families
        Only these hypercalls, with commas between them.
    quality
        How well-formed the hypercalls are.
    trials
        How many more guests may be run on either machine to make a program shorter.
    timeout
        Seconds that the command may take for a guest.
    memory
        MiB of the guest here, which should be those of the guest there: 128, of domain 0 256.
    show_all
        Show every kind of difference, not the first alone.
    verbose
        Also tell what is expected to differ, and why.
    """
    try:
        command: Any = import_module("pvemu.testing.differential.command")
    except ImportError as error:
        raise PvemuError(f"the testing kit can't be loaded ({error}): install pvemu anew") from error
    if programs < 1 or trials < 0:
        raise PvemuError("--programs is at least 1, --trials at least 0")
    machines = command.contest(reference_command, timeout, memory, privileged=privileged)
    request = command.Request(
        files=files,
        seed=seed,
        programs=programs,
        families=command.families_of(families, privileged=privileged),
        quality=quality,
        trials=trials,
        shows_all=show_all,
        is_verbose=verbose,
    )
    return int(command.run(request, machines))
