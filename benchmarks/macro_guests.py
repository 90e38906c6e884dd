"""Macro-guests: a small kernel that does all at once, and where the host's time goes meanwhile."""

from dataclasses import replace
from typing import Final

from benchmarks.counting import MARK
from benchmarks.jobs import GuestMachine, Job
from benchmarks.ladder import Operation
from benchmarks.results import Share
from benchmarks.routes import Route
from pvemu.cpu import exits
from pvemu.toolstack.exit_table import ExitTable

WORK: Final = Operation(
    "work",
    "a unit of work: fork, 16 copied pages, 16 switches, a line",
    "work.gk",
    dict.fromkeys((Route.NATIVE, Route.PAGE, Route.BATCH_128, Route.SHADOW, Route.NESTED), 1),
    2,
    memory=32,
)
OPERATIONS: Final = (WORK,)
#: What is no exit: the guest's own code, and what pvemu does besides exits.
REST: Final = "guest code"
_ROUNDS: Final = 30
_MARK_REASON: Final = exits.describe(MARK)


def shares_of(job: Job) -> list[Share]:
    """Where the time of all samples of a guest goes, most of it first. A bare machine keeps no account."""
    with replace(job, rounds=_ROUNDS).running() as running:
        if not isinstance(running, GuestMachine):
            return []
        table = ExitTable(running.machine)
        running.on_interrupt(MARK, lambda: None)
        with table:
            running.run()
    rows = [row for row in table.rows() if row.reason != _MARK_REASON]
    shares = [Share(row.reason, row.count, row.nanoseconds) for row in rows]
    shares.append(Share(REST, 0, max(table.nanoseconds - sum(share.nanoseconds for share in shares), 0)))
    return sorted(shares, key=lambda share: -share.nanoseconds)
