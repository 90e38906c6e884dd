"""The ladder as data: which jobs there are, by which routes each can be done, and why not by the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.routes import Route

NATIVE, TRAP, INT, PAGE, MULTICALL = Route.NATIVE, Route.TRAP, Route.INT, Route.PAGE, Route.MULTICALL
BATCH_8, BATCH_32, BATCH_128 = Route.BATCH_8, Route.BATCH_32, Route.BATCH_128
SHARED, SHADOW, NESTED, PVHVM = Route.SHARED, Route.SHADOW, Route.NESTED, Route.PVHVM

_HVM: Final = (SHADOW, NESTED)
_CALLS: Final = (INT, PAGE)
_BATCHES: Final = (BATCH_8, BATCH_32, BATCH_128)
#: Why a job can't be done by a route, where its row does not say otherwise.
_USUALLY: Final[Mapping[Route, str]] = {
    NATIVE: "there is nobody to ask",
    TRAP: "this is no privileged instruction",
    INT: "there is no such hypercall",
    PAGE: "there is no such hypercall",
    **dict.fromkeys((MULTICALL, *_BATCHES), "one at a time makes no batch"),
    SHARED: "no shared memory does this",
    SHADOW: "PVHVM's row has it",
    NESTED: "PVHVM's row has it",
    PVHVM: "as HVM: nothing is to be gained by a hypercall",
}


@dataclass(frozen=True)
class Operation:
    """One job.

    Attributes:
        name: for the command line and files; title: for people.
        source: the guest, a file in guests/.
        routes: those by which it can be done, with how many times a body of the loop does it.
        count: how often a sample runs the body, so that it takes some milliseconds; counts: on routes for
            which that is far from it.
        why_not: by other routes, where the usual reason is not the one.
        defines: constants for the guest.
        memory: of the guest, in MiB; disk: it has one, of so many MiB.
        peer: the source of other guests; peers: how many of them there are.
    """

    name: str
    title: str
    source: str
    routes: Mapping[Route, int]
    count: int
    why_not: Mapping[Route, str] = field(default_factory=dict)
    counts: Mapping[Route, int] = field(default_factory=dict)
    defines: dict[str, int] = field(default_factory=dict)
    memory: int = 16
    disk: int = 0
    peer: str | None = None
    peers: int = 1

    @property
    def absent(self) -> dict[Route, str]:
        """Why it can't be done by each of the other routes."""
        return {
            route: self.why_not.get(route, _USUALLY[route]) for route in Route if route not in self.routes
        }


def _once(*routes: Route) -> dict[Route, int]:
    return dict.fromkeys(routes, 1)


def _because(reason: str, *routes: Route) -> dict[Route, str]:
    return dict.fromkeys(routes, reason)


_NO_CALL: Final = _because("there is no such hypercall", MULTICALL, *_BATCHES)
_ONLY_MULTICALL: Final = _because("only multicall puts calls together", *_BATCHES)
_READ_ONLY: Final = _because("page tables are read-only to a PV guest", SHARED)

OPERATIONS: Final = (
    Operation(
        "nothing",
        "the loop alone",
        "nothing.gk",
        _once(NATIVE, PAGE, *_HVM),
        400_000,
        _because("all routes of PV are alike here", TRAP, INT, MULTICALL, *_BATCHES, SHARED),
    ),
    Operation(
        "null-hypercall",
        "a hypercall that does nothing",
        "null_hypercall.gk",
        _once(*_CALLS, PVHVM) | {MULTICALL: 32},
        3000,
        _ONLY_MULTICALL,
        {MULTICALL: 200},
    ),
    Operation(
        "interrupts",
        "interrupts off and on",
        "interrupts.gk",
        _once(NATIVE, TRAP, SHARED, *_HVM),
        2000,
        _NO_CALL,
        dict.fromkeys((NATIVE, SHARED, *_HVM), 60_000),
    ),
    Operation(
        "read-cr2",
        "read a control register (CR2)",
        "read_cr2.gk",
        _once(NATIVE, TRAP, SHARED, *_HVM),
        2000,
        _NO_CALL,
        dict.fromkeys((NATIVE, SHARED, *_HVM), 200_000),
    ),
    Operation(
        "task-switched",
        "set and clear CR0.TS",
        "task_switched.gk",
        _once(NATIVE, TRAP, *_CALLS, *_HVM) | {MULTICALL: 16},
        2000,
        _ONLY_MULTICALL | _because("HVM has no such hypercall", PVHVM),
        {NATIVE: 60_000, MULTICALL: 100, SHADOW: 500, NESTED: 500},
    ),
    Operation(
        "load-cr3",
        "load CR3",
        "load_cr3.gk",
        _once(NATIVE, TRAP, *_CALLS, *_HVM),
        1000,
        counts={NATIVE: 5000, NESTED: 5000},
    ),
    Operation(
        "one-entry",
        "update a page-table entry",
        "one_entry.gk",
        _once(NATIVE, TRAP, *_CALLS, *_HVM),
        1000,
        _READ_ONLY,
        {NATIVE: 10_000, NESTED: 10_000},
    ),
    Operation(
        "thousand-entries",
        "update 1024 page-table entries",
        "thousand_entries.gk",
        _once(NATIVE, TRAP, *_CALLS, MULTICALL, *_BATCHES, *_HVM),
        2,
        _READ_ONLY,
        {NATIVE: 10, NESTED: 6},
        memory=32,
    ),
    Operation(
        "demand-fault",
        "fault on a page and map it",
        "demand_fault.gk",
        _once(NATIVE, TRAP, *_CALLS, *_HVM),
        256,
        _READ_ONLY,
    ),
    Operation(
        "fork",
        "copy an address space of 64 pages",
        "fork.gk",
        _once(NATIVE, TRAP, *_CALLS, MULTICALL, *_BATCHES, *_HVM),
        1,
        _READ_ONLY,
        memory=32,
    ),
    Operation(
        "system-call",
        "system call from ring 3",
        "system_call.gk",
        _once(NATIVE, TRAP, *_CALLS, *_HVM),
        1000,
        counts={SHADOW: 300, NESTED: 300},
    ),
    Operation(
        "context-switch",
        "switch address space and kernel stack",
        "context_switch.gk",
        dict.fromkeys((NATIVE, TRAP, *_CALLS, MULTICALL, *_HVM), 2),
        500,
        _because("a batch has requests of one kind", *_BATCHES),
        {NATIVE: 3000, NESTED: 3000, TRAP: 50},
        memory=32,
    ),
    Operation(
        "timer",
        "set a timer",
        "timer.gk",
        _once(NATIVE, *_CALLS, *_HVM, PVHVM) | {MULTICALL: 32},
        1000,
        _ONLY_MULTICALL | _because("a PV guest has no timer chip", TRAP),
        {MULTICALL: 100},
    ),
    Operation(
        "console-line",
        "send 16 bytes to the console: ports or ring",
        "console_line.gk",
        _once(NATIVE, *_CALLS, SHARED, *_HVM, PVHVM),
        100,
        _because("a PV guest that is not domain 0 has no ports", TRAP),
        dict.fromkeys((*_CALLS, SHARED, PVHVM), 1000),
    ),
    Operation(
        "event-answer",
        "event to another domain, and its answer",
        "event_answer.gk",
        _once(*_CALLS, PVHVM),
        200,
        _because("without a hypervisor there are no other domains", NATIVE)
        | _because("a bit in shared memory wakes nobody", SHARED)
        | _because("an interrupt of the PC stays within the guest", *_HVM),
        peer="peer.gk",
    ),
    *(
        Operation(
            f"block-read-{kibibytes}k",
            f"read {kibibytes} KiB from a disk: ports or ring",
            "block.gk",
            _once(NATIVE, *_CALLS, *_HVM, PVHVM),
            200 // kibibytes,
            _because("a PV guest that is not domain 0 has no ports", TRAP)
            | _because("the ring takes all requests at once already", MULTICALL, *_BATCHES)
            | _because("the back end has to be woken", SHARED),
            {NATIVE: by_words},
            defines={"BYTES": kibibytes << 10},
            disk=1,
        )
        for kibibytes, by_words in ((4, 3), (64, 1))
    ),
)

BY_NAME: Final = {operation.name: operation for operation in OPERATIONS}
