"""Operations on page tables and the traps around them, beside what real Xen took for the same guest.

Xen's figures are of Xen 4.17 under QEMU's emulator, with smep=0 smap=0 and memory.gk as domain 0: the best of
at least five runs of 2026-11-20, in cycles of a time-stamp counter of 2.6 GHz, on the computer on which ours
were compared with them. Elsewhere they only say where to look; both have to be measured side by side.
"""

from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.guests import run_on_pvemu
from benchmarks.measuring import Benchmark, recorded
from guestkit import assemble_file

_GUEST: Final = Path(__file__).with_name("memory.gk")
_NANOSECONDS_PER_CYCLE: Final = 0.385
_MEMORY: Final = 64


class _Case(NamedTuple):
    """A case of the guest: its letter, how many operations it makes, and Xen's cycles for one of them."""

    letter: str
    name: str
    operations: int
    xen_cycles: int


_CASES: Final = (
    _Case("m", "mmu_update, 1 entry", 100_000, 3284),
    _Case("t", "mmu_update, 1 entry, present or not in turn", 100_000, 3723),
    _Case("b", "mmu_update, an entry of a batch of 128", 256_000, 769),
    _Case("u", "update_va_mapping, present or not in turn", 100_000, 3261),
    _Case("v", "update_va_mapping with invlpg", 100_000, 4083),
    _Case("w", "a store to an L1, emulated", 100_000, 8770),
    _Case("e", "pin and unpin an empty L1", 10_000, 56_393),
    _Case("f", "pin and unpin a full L1", 1_000, 418_104),
    _Case("g", "pin and unpin a full L1 of scattered frames", 1_000, 407_631),
    _Case("p", "a page fault to the guest and back", 100_000, 3258),
    _Case("c", "a read of CR0, emulated", 100_000, 6639),
)


def benchmarks() -> list[Benchmark]:
    """One benchmark for each case of memory.gk."""
    image = assemble_file(_GUEST)
    return [
        Benchmark(
            case.name,
            "ns",
            ours=partial(run_on_pvemu, image, memory=_MEMORY, privileged=True, command_line=case.letter),
            other=recorded(case.xen_cycles * _NANOSECONDS_PER_CYCLE * case.operations / 1e9),
            other_name="Xen on QEMU",
            scale=1e9 / case.operations,
        )
        for case in _CASES
    ]
