"""The ladder as data: which jobs there are, by which routes each can be done, and why not by the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.routes import Route

NATIVE, TRAP, INT, PAGE, MULTICALL = Route.NATIVE, Route.TRAP, Route.INT, Route.PAGE, Route.MULTICALL
BATCH_8, BATCH_32, BATCH_128 = Route.BATCH_8, Route.BATCH_32, Route.BATCH_128
SHARED, SHADOW, NESTED, PVHVM = Route.SHARED, Route.SHADOW, Route.NESTED, Route.PVHVM

_HVM: Final = (SHADOW, NESTED)
_NO_HYPERCALL: Final = "there is no such hypercall"
_NO_BATCH: Final = "one at a time makes no batch"
_NOT_SHARED: Final = "no shared memory does this"
_AS_HVM: Final = "as HVM: nothing is to be gained by a hypercall"
_READ_ONLY: Final = "page tables are read-only to a PV guest"
_NO_DOMAINS: Final = "without a hypervisor there are no other domains"


@dataclass(frozen=True)
class Operation:
    """One job.

    Attributes:
        name: for the command line and files; title: for people; unit: what one of it is.
        source: the guest, a file in guests/.
        routes: those by which it can be done, with how many times a body of the loop does it.
        absent: why it can't be done by the others.
        count: how often a sample runs the body.
        defines: constants for the guest.
        memory: of the guest, in MiB; disk: it has one, of so many MiB.
        peer: the source of other guests; peers: how many of them there are.
    """

    name: str
    title: str
    source: str
    routes: Mapping[Route, int]
    absent: Mapping[Route, str]
    count: int
    defines: dict[str, int] = field(default_factory=dict)
    memory: int = 16
    disk: int = 0
    peer: str | None = None
    peers: int = 1


def _once(*routes: Route) -> dict[Route, int]:
    return dict.fromkeys(routes, 1)


def _because(reason: str, *routes: Route) -> dict[Route, str]:
    return dict.fromkeys(routes, reason)


_BATCHES: Final = (BATCH_8, BATCH_32, BATCH_128)

OPERATIONS: Final = (
    Operation(
        "nothing",
        "the loop alone",
        "nothing.gk",
        _once(NATIVE, PAGE, *_HVM),
        _because("all routes of PV are alike here", TRAP, INT, MULTICALL, *_BATCHES, SHARED)
        | _because(_AS_HVM, PVHVM),
        200_000,
    ),
    Operation(
        "null-hypercall",
        "a hypercall that does nothing",
        "null_hypercall.gk",
        _once(INT, PAGE, PVHVM) | {MULTICALL: 32},
        _because("there is nobody to call", NATIVE)
        | _because("a hypercall is no privileged instruction", TRAP, SHARED)
        | _because("only multicall puts calls together", *_BATCHES)
        | _because("PVHVM's row has it", *_HVM),
        3000,
    ),
    Operation(
        "interrupts",
        "interrupts off and on",
        "interrupts.gk",
        _once(NATIVE, TRAP, SHARED, *_HVM),
        _because(_NO_HYPERCALL, INT, PAGE, MULTICALL, *_BATCHES) | _because(_AS_HVM, PVHVM),
        2000,
    ),
    Operation(
        "read-cr2",
        "read a control register (CR2)",
        "read_cr2.gk",
        _once(NATIVE, TRAP, SHARED, *_HVM),
        _because(_NO_HYPERCALL, INT, PAGE, MULTICALL, *_BATCHES) | _because(_AS_HVM, PVHVM),
        2000,
    ),
    Operation(
        "task-switched",
        "set and clear CR0.TS",
        "task_switched.gk",
        _once(NATIVE, TRAP, INT, PAGE, *_HVM) | {MULTICALL: 16},
        _because("only multicall puts calls together", *_BATCHES)
        | _because(_NOT_SHARED, SHARED)
        | _because("HVM has no such hypercall", PVHVM),
        2000,
    ),
    Operation(
        "load-cr3",
        "load CR3",
        "load_cr3.gk",
        _once(NATIVE, TRAP, INT, PAGE, *_HVM),
        _because(_NO_BATCH, MULTICALL, *_BATCHES) | _because(_NOT_SHARED, SHARED) | _because(_AS_HVM, PVHVM),
        1000,
    ),
    Operation(
        "one-entry",
        "update a page-table entry",
        "one_entry.gk",
        _once(NATIVE, TRAP, INT, PAGE, *_HVM),
        _because(_NO_BATCH, MULTICALL, *_BATCHES) | _because(_READ_ONLY, SHARED) | _because(_AS_HVM, PVHVM),
        1000,
    ),
    Operation(
        "thousand-entries",
        "update 1024 page-table entries",
        "thousand_entries.gk",
        _once(NATIVE, TRAP, INT, PAGE, MULTICALL, *_BATCHES, *_HVM),
        _because(_READ_ONLY, SHARED) | _because(_AS_HVM, PVHVM),
        2,
        memory=32,
    ),
    Operation(
        "demand-fault",
        "fault on a page and map it",
        "demand_fault.gk",
        _once(NATIVE, TRAP, INT, PAGE, *_HVM),
        _because(_NO_BATCH, MULTICALL, *_BATCHES) | _because(_READ_ONLY, SHARED) | _because(_AS_HVM, PVHVM),
        256,
    ),
    Operation(
        "fork",
        "copy an address space of 64 pages",
        "fork.gk",
        _once(NATIVE, TRAP, INT, PAGE, MULTICALL, *_BATCHES, *_HVM),
        _because(_READ_ONLY, SHARED) | _because(_AS_HVM, PVHVM),
        1,
        memory=32,
    ),
    Operation(
        "system-call",
        "system call from ring 3",
        "system_call.gk",
        _once(NATIVE, TRAP, INT, PAGE, *_HVM),
        _because(_NO_BATCH, MULTICALL, *_BATCHES) | _because(_NOT_SHARED, SHARED) | _because(_AS_HVM, PVHVM),
        1000,
    ),
    Operation(
        "context-switch",
        "switch address space and kernel stack",
        "context_switch.gk",
        dict.fromkeys((NATIVE, TRAP, INT, PAGE, MULTICALL, *_HVM), 2),
        _because("a batch has requests of one kind", *_BATCHES)
        | _because(_NOT_SHARED, SHARED)
        | _because(_AS_HVM, PVHVM),
        500,
        memory=32,
    ),
    Operation(
        "timer",
        "set a timer",
        "timer.gk",
        _once(NATIVE, INT, PAGE, *_HVM, PVHVM) | {MULTICALL: 32},
        _because("a PV guest has no timer chip", TRAP)
        | _because("only multicall puts calls together", *_BATCHES)
        | _because(_NOT_SHARED, SHARED),
        1000,
    ),
    Operation(
        "console-line",
        "send 16 bytes to the console: ports or ring",
        "console_line.gk",
        _once(NATIVE, INT, PAGE, SHARED, *_HVM, PVHVM),
        _because("a PV guest that is not domain 0 has no ports", TRAP)
        | _because(_NO_BATCH, MULTICALL, *_BATCHES),
        100,
    ),
    Operation(
        "event-answer",
        "event to another domain, and its answer",
        "event_answer.gk",
        _once(INT, PAGE, PVHVM),
        _because(_NO_DOMAINS, NATIVE)
        | _because("an event is no privileged instruction", TRAP)
        | _because(_NO_BATCH, MULTICALL, *_BATCHES)
        | _because("a bit in shared memory wakes nobody", SHARED)
        | _because("an interrupt of the PC stays within the guest", *_HVM),
        200,
        peer="peer.gk",
    ),
    *(
        Operation(
            f"block-read-{kibibytes}k",
            f"read {kibibytes} KiB from a disk",
            "block.gk",
            _once(INT, PAGE, PVHVM),
            _because("the bare machine has no disk", NATIVE)
            | _because("pvemu has no disk behind ports", TRAP, *_HVM)
            | _because("the ring takes all requests at once already", MULTICALL, *_BATCHES)
            | _because("the back end has to be woken", SHARED),
            50,
            {"BYTES": kibibytes << 10},
            disk=1,
        )
        for kibibytes in (4, 64)
    ),
)

BY_NAME: Final = {operation.name: operation for operation in OPERATIONS}
