"""Guests that measure case by case (cases.gk), beside what real Xen took for the same guest.

Xen's figures are of Xen 4.17 under QEMU's emulator, with smep=0 smap=0 and the guest as domain 0: the best of
at least five runs of 2026-11-20, in cycles of a time-stamp counter of 2.6 GHz, on the computer on which ours
were compared with them. Elsewhere they only say where to look; both have to be measured side by side.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.promises.guests import run_on_pvemu
from benchmarks.promises.measuring import Benchmark, recorded
from guestkit import assemble_file

_HERE: Final = Path(__file__).parent
_NANOSECONDS_PER_CYCLE: Final = 0.385
_MEMORY: Final = 64


class Case(NamedTuple):
    """A case of a guest: its letter, how many operations it makes, and Xen's cycles for one of them."""

    letter: str
    name: str
    operations: int
    xen_cycles: int


def xen_nanoseconds(case: Case) -> float:
    """What real Xen took for one operation."""
    return case.xen_cycles * _NANOSECONDS_PER_CYCLE


def run_case(guest: str) -> Callable[..., float]:
    """Measures a guest here as domain 0; `command_line` is a case's letter."""
    return partial(run_on_pvemu, assemble_file(_HERE / guest), memory=_MEMORY, privileged=True)


def against_xen(guest: str, cases: Iterable[Case]) -> list[Benchmark]:
    """One benchmark for each case of a guest here."""
    run = run_case(guest)
    return [
        Benchmark(
            case.name,
            "ns",
            ours=partial(run, command_line=case.letter),
            other=recorded(xen_nanoseconds(case) * case.operations / 1e9),
            other_name="Xen on QEMU",
            scale=1e9 / case.operations,
        )
        for case in cases
    ]
