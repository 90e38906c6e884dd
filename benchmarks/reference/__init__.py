"""The same guests on another hypervisor: real Xen, where a person has a command that boots a guest on it.

The command is given a PV kernel's ELF file as its last argument, boots it, and prints the guest's console.
The guests take the time themselves, by the time-stamp counter and what vcpu_time_info says of its frequency.
"""

import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.jobs import Job
from benchmarks.results import Reference, Results
from benchmarks.routes import SETTINGS, Route
from benchmarks.session import OPERATIONS
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.guest_kind import Paging

#: Samples of each guest, besides the one that warms up.
_ROUNDS: Final = 5
_PATIENCE: Final = 300
_SAMPLE: Final = re.compile(rb"SAMPLE ([0-9a-f]{16})")
_CLOCK: Final = re.compile(rb"CLOCK ([0-9a-f]{8}) (-?\d+)")
#: Guests that can't time themselves, or need what the command may not have: a second domain, a disk.
_NOT_ALONE: Final = frozenset(
    {"system-call", "event-answer", "block-read-4k", "block-read-64k", "console-line"}
)


class NoMeasurement(PvemuError):
    """A guest has printed no samples on the reference."""


def measure_reference(command: str, results: Results, console: Console) -> list[Reference]:
    """Run the guests of all PV cells with a command. One that measures nothing there is left out, and named.

    Raises:
        PvemuError: the command can't be started.
    """
    by_name = {operation.name: operation for operation in OPERATIONS}
    found = []
    for cell in results.cells:
        if cell.counts is None or cell.operation in _NOT_ALONE:
            continue
        if SETTINGS[Route(cell.route)].paging is not Paging.DIRECT:
            continue
        job = Job(by_name[cell.operation], Route(cell.route), _ROUNDS + 1)
        printed = run_command(command, job.image(SELF_TIMED=1).elf)
        try:
            samples = read_samples(printed, job.per_sample)
        except NoMeasurement as reason:
            console.print(f"{job}: {reason}", markup=False)
        else:
            found.append(Reference(cell.operation, cell.route, samples))
    return found


def run_command(command: str, elf: bytes) -> bytes:
    """What a guest prints on the reference. Raises PvemuError: the command doesn't start, or doesn't end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guest.elf"
        path.write_bytes(elf)
        try:
            done = subprocess.run(
                [*shlex.split(command), str(path)], capture_output=True, timeout=_PATIENCE, check=False
            )
        except (OSError, ValueError) as error:
            raise PvemuError(
                f"the reference command can't be started ({error}): see docs/benchmark.md"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise PvemuError(f"the reference command took more than {_PATIENCE} s: run it by hand") from error
    return done.stdout


def read_samples(printed: bytes, per_sample: int) -> list[float]:
    """Nanoseconds of one operation, from what a guest has printed.

    Raises:
        NoMeasurement: it has printed no samples.
    """
    clock = _CLOCK.search(printed)
    samples = [int(match[1], 16) for match in _SAMPLE.finditer(printed)]
    if clock is None or len(samples) < 2:
        tail = printed[-200:].decode("latin1").strip()
        raise NoMeasurement(f"the reference command printed no measurement but: {tail or 'nothing'}")
    multiplier, shift = int(clock[1], 16), int(clock[2])
    return [_nanoseconds(cycles, multiplier, shift) / per_sample for cycles in samples[1:]]


def _nanoseconds(cycles: int, multiplier: int, shift: int) -> int:
    """As the public header xen.h says of vcpu_time_info."""
    shifted = cycles << shift if shift >= 0 else cycles >> -shift
    return shifted * multiplier >> 32
