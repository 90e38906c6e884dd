"""What is exact about a cell: exits by reason, hypercalls and guest instructions."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.jobs import GuestMachine, Job, Running
from pvemu.cpu import exits
from pvemu.toolstack.exit_table import ExitTable

#: The software interrupt by which a guest marks the two ends of a sample.
MARK: Final = 0xF7
_MARK_REASON: Final = exits.describe(MARK)
#: The one that ends a sample is counted in it.
_MARK_INSTRUCTIONS: Final = 1
#: The first samples warm up; the last one is counted.
_ROUNDS: Final = 3


@dataclass(frozen=True)
class Counts:
    """Of the last sample: `operations` of them were done; divide by that for the cost of one."""

    operations: int
    exits: int
    hypercalls: int
    instructions: int
    reasons: dict[str, int]


def count(job: Job) -> Counts:
    """Run a cell's guest once, slowly, and count. How many samples a run has does not matter."""
    job = replace(job, rounds=_ROUNDS)
    seen: list[Counter[str]] = []
    with job.running("count") as running:
        table = ExitTable(running.machine) if isinstance(running, GuestMachine) else None

        def mark() -> None:
            seen.append(_snapshot(running, table))

        running.on_interrupt(MARK, mark)
        running.run()
    begin, end = seen[-2], seen[-1]
    end.subtract(begin)
    instructions, hypercalls = end.pop(_INSTRUCTIONS) - _MARK_INSTRUCTIONS, end.pop(_HYPERCALLS)
    reasons = {reason: number for reason, number in sorted(end.items()) if number and reason != _MARK_REASON}
    return Counts(job.per_sample, sum(reasons.values()), hypercalls, instructions, reasons)


# Keys of a snapshot that are no reason of an exit.
_INSTRUCTIONS: Final = "/instructions"
_HYPERCALLS: Final = "/hypercalls"


def _snapshot(running: Running, table: ExitTable | None) -> Counter[str]:
    now: Counter[str] = (
        Counter() if table is None else Counter({row.reason: row.count for row in table.rows()})
    )
    now[_INSTRUCTIONS] = running.instructions
    now[_HYPERCALLS] = running.hypercalls if isinstance(running, GuestMachine) else 0
    return now
