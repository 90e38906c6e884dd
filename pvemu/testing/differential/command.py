"""What `pvemu differential` does: runs programs or guests on both machines, and tells what differs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.testing.differential.comparison import Comparison
from pvemu.testing.differential.generation import generated
from pvemu.testing.differential.judges import ByCommand, Ourselves
from pvemu.testing.differential.portable import NOT_MADE, Elsewhere, portable
from pvemu.testing.differential.search import PACK, Contest, shows
from pvemu.testing.grammar import FAMILIES, Quality, named_families
from pvemu.testing.program import Program
from pvemu.testing.program_text import ProgramError, read_program, write_program
from pvemu.testing.source import GUEST_MEMORY, source
from pvemu.toolstack.guest_file import as_source, guest_from, read_file

SAME: Final = 0
DIFFERS: Final = 1
#: MiB of a guest and of domain 0, unless said otherwise.
_MEMORY: Final = {False: 128, True: 256}
_MACHINE_MEMORY: Final = 24
#: Seconds that a guest may take there: a day.
_LONGEST: Final = 86_400
#: Lines of a guest's text that are shown before the first that differs.
_BEFORE: Final = 3
_PROGRAM: Final = "program of "
#: Of domain 0: families whose answers depend on the machine around, or end it, and those of what pvemu has
#: not (docs/differences.md). They are not made unless they are named.
_OF_THE_MACHINE: Final = frozenset(
    {
        *("platform_op", "sysctl", "domctl", "physdev_op", "physdev_op_compat"),
        *("kexec_op", "hypfs_op", "arch_0"),
    }
)


@dataclass(frozen=True)
class Request:
    """What is to be compared.

    Attributes:
        files: programs and guests; none: programs are made.
        seed, programs, families, quality: which programs are made, and how many.
        trials: how many more guests may be run to make what differs shorter.
        shows_all: each difference is shown, not the first alone; is_verbose: also what is expected to differ.
    """

    files: tuple[Path, ...] = ()
    seed: int = 0
    programs: int = 100
    families: tuple[str, ...] = ()
    quality: Quality = "mixed"
    trials: int = 12
    shows_all: bool = False
    is_verbose: bool = False


def contest(command: str | None, timeout: float, memory: int | None, *, privileged: bool) -> Contest:
    """The two machines. Raises PvemuError: there is no command, or a size that is none."""
    if not command:
        raise PvemuError(
            "say with --reference-command (or PVEMU_REFERENCE_COMMAND) what runs a guest on real Xen: "
            "a command that takes the guest's ELF file as last argument and prints its console"
        )
    if not 0 < timeout <= _LONGEST:
        raise PvemuError(f"--timeout is in seconds, more than 0 and up to {_LONGEST}")
    if memory is None:
        memory = _MEMORY[privileged]
    if memory < 1:
        raise PvemuError(f"a guest can't have {memory} MiB of memory: give --memory at least 1")
    return Contest(Ourselves(memory, privileged=privileged), ByCommand(command, timeout))


def families_of(names: str, *, privileged: bool) -> tuple[str, ...]:
    """The families that a list with commas names; without one, all that are comparable. Raises PvemuError."""
    comparable = tuple(name for name in FAMILIES if not privileged or name not in _OF_THE_MACHINE)
    return named_families(names) or comparable


def run(request: Request, machines: Contest) -> int:
    """Compare what is asked for, and print what differs.

    Returns:
        SAME or DIFFERS.

    Raises:
        PvemuError: a file is nothing to be run, or the reference command fails.
    """
    programs, guests = _read(request.files)
    if not request.files:
        programs = {
            f"program {number} of seed {request.seed}": program
            for number, program in enumerate(islice(generated_for(request), request.programs))
        }
    differs = [_compare_guest(name, elf, machines) for name, elf in guests.items()]
    if programs:
        differs.append(_compare_programs(programs, request, machines))
    return DIFFERS if any(differs) else SAME


def generated_for(request: Request) -> Iterator[Program]:
    """The programs that are made for a request, without end."""
    return generated(request.seed, request.families or FAMILIES, request.quality)


def _read(files: Sequence[Path]) -> tuple[dict[str, Program], dict[str, bytes]]:
    programs: dict[str, Program] = {}
    guests: dict[str, bytes] = {}
    for path in files:
        data = read_file(path)
        text = as_source(data)
        if text is None or not text.lstrip().startswith((_PROGRAM, ";")) or _PROGRAM not in text:
            guests[str(path)] = guest_from(path, data).image
            continue
        try:
            program = read_program(text)
        except ProgramError as error:
            raise PvemuError(f"{path}: {error}") from error
        if program.domains > 1:
            raise PvemuError(f"{path} is of {program.domains} domains: the reference has one guest at a time")
        programs[str(path)] = portable(program)
    return programs, guests


# --- programs -----------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What was seen so far."""

    programs: int = 0
    steps: int = 0
    differing: list[tuple[str, Comparison]] = field(default_factory=list)
    foreseen: Counter[str] = field(default_factory=Counter)


def _compare_programs(programs: dict[str, Program], request: Request, machines: Contest) -> bool:
    """Whether any differs. The first that does is shown, or all kinds of them."""
    tally, names = _Tally(), list(programs)
    for start in range(0, len(names), PACK):
        some = names[start : start + PACK]
        for name, found in zip(some, machines.compare([programs[each] for each in some]), strict=True):
            tally.programs += 1
            tally.steps += len(found.program.steps)
            tally.foreseen.update(f"{each.step.title}: {each.reason}" for each in found.expected)
            if found.differences and not any(shows(found, other) for _, other in tally.differing):
                tally.differing.append((name, found))
        if tally.differing and not request.shows_all:
            break
    print(f"{tally.programs} programs with {tally.steps} steps were compared.")
    if request.is_verbose:
        _show_expected(tally.foreseen)
    for name, found in tally.differing if request.shows_all else tally.differing[:1]:
        _show(name, machines.shorten(found, request.trials))
    if not tally.differing:
        print("Both machines say the same.")
    return bool(tally.differing)


def _show_expected(foreseen: Counter[str]) -> None:
    for what, times in sorted(foreseen.items()):
        print(f"  expected to differ, {times} times: {what}")
    for title, reason in NOT_MADE.items():
        print(f"  never made: {title} {reason}")


def _show(name: str, found: Comparison) -> None:
    """The differences, and the program in both its forms."""
    first = found.differences[0]
    print(f"\n{name} differs:\n    {first.step!r}")
    for each in found.differences:
        print(f"        {each.what}: pvemu {each.ours}, reference {each.theirs}")
    if not found.stands_alone:
        print("It does so only behind the programs before it in the same guest.")
    program = found.program
    shown = "1 step shows it" if len(program.steps) == 1 else f"{len(program.steps)} steps show it"
    print(f"\n{shown}. As a program, for pvemu differential FILE:\n")
    print(write_program(program))
    print("As guestkit source:\n")
    print(f"; pvemu run --memory {GUEST_MEMORY} --machine-memory {_MACHINE_MEMORY} d0.gk")
    print(source(program, 0, Elsewhere()))


# --- guests -------------------------------------------------------------------------------------


def _compare_guest(name: str, elf: bytes, machines: Contest) -> bool:
    """Whether a guest prints anything else, line by line."""
    ours, theirs = ([line.rstrip() for line in text.splitlines()] for text in machines.texts(elf))
    while theirs and not theirs[-1]:
        theirs.pop()
    while ours and not ours[-1]:
        ours.pop()
    if ours == theirs:
        print(f"{name}: both machines print the same {len(ours)} lines.")
        return False
    number = next(
        (at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other),
        min(len(ours), len(theirs)),
    )
    print(f"{name} differs in line {number + 1}:")
    for line in ours[max(number - _BEFORE, 0) : number]:
        print(f"               {line}")
    for who, lines in (("pvemu", ours), ("reference", theirs)):
        print(f"    {who:9}  {lines[number] if number < len(lines) else 'has ended'}")
    return True
