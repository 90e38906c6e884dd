"""Operations on page tables and the traps around them."""

from typing import Final

from benchmarks.promises.cases import Case, against_xen
from benchmarks.promises.measuring import Benchmark

CASES: Final = (
    Case("m", "mmu_update, 1 entry", 100_000, 3284),
    Case("t", "mmu_update, 1 entry, present or not in turn", 100_000, 3723),
    Case("b", "mmu_update, an entry of a batch of 128", 256_000, 769),
    Case("u", "update_va_mapping, present or not in turn", 100_000, 3261),
    Case("v", "update_va_mapping with invlpg", 100_000, 4083),
    Case("w", "a store to an L1, emulated", 100_000, 8770),
    Case("e", "pin and unpin an empty L1", 10_000, 56_393),
    Case("f", "pin and unpin a full L1", 1_000, 418_104),
    Case("g", "pin and unpin a full L1 of scattered frames", 1_000, 407_631),
    Case("p", "a page fault to the guest and back", 100_000, 3258),
    Case("c", "a read of CR0, emulated", 100_000, 6639),
)


def benchmarks() -> list[Benchmark]:
    """One benchmark for each case of memory.gk."""
    return against_xen("memory.gk", CASES)
