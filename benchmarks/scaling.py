"""Scaling curves: what one piece of work costs when there is more and more of something."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.counting import count
from benchmarks.jobs import Job
from benchmarks.ladder import Operation
from benchmarks.results import Point
from benchmarks.routes import Route
from benchmarks.timing import no_garbage_collection
from benchmarks.turns import sample_in_turns
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Machine


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        name: for the command line and files; title: of the plot; axis: what there is more and more of.
        unit: the piece of work that a point's time is of.
        all_sizes: the x axis; few: its points in a quick run.
        operation: the guest's, by size; route: by which it does it.
        builds: what is measured is how the guest's domain is built.
        by_exits: a piece of work is one exit, whoever makes it; else it is one of the operation's.
    """

    name: str
    title: str
    axis: str
    unit: str
    all_sizes: tuple[int, ...]
    few: tuple[int, ...]
    operation: Callable[[int], Operation]
    route: Route = Route.PAGE
    builds: bool = False
    by_exits: bool = False

    def sizes(self, quick: bool) -> tuple[int, ...]:
        """The points to measure."""
        return self.few if quick else self.all_sizes


def _batch(size: int) -> Operation:
    return Operation(
        f"batch of {size}",
        "",
        "thousand_entries.gk",
        {Route.BATCH_8: 1024},
        1,
        defines={"BATCH": size},
        memory=32,
    )


def _ports(size: int) -> Operation:
    return Operation(f"{size} ports", "", "many_ports.gk", {Route.PAGE: 1}, 200, defines={"PORTS": size})


def _grants(size: int) -> Operation:
    return Operation(
        f"{size} grants", "", "own_grants.gk", {Route.PAGE: size}, 2, defines={"BATCH": size}, memory=32
    )


def _domains(size: int) -> Operation:
    return Operation(
        f"{size} domains",
        "",
        "yield.gk",
        {Route.PAGE: size},
        max(256 // size, 4),
        memory=4,
        peer="yield_peer.gk" if size > 1 else None,
        peers=size - 1,
    )


def _memory(size: int) -> Operation:
    return Operation(f"{size} MiB", "", "nothing.gk", {Route.PAGE: 1}, 1, memory=size)


CURVES: Final = (
    Curve(
        "batch-size",
        "mmu_update: an entry of a batch",
        "entries in a hypercall",
        "entry",
        (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        (1, 8, 32, 128),
        _batch,
        Route.BATCH_8,
    ),
    Curve(
        "domains",
        "sched_op yield: a switch to the next domain",
        "domains",
        "switch",
        (1, 2, 4, 8, 16, 32, 64, 128, 256),
        (1, 4, 16, 64),
        _domains,
        by_exits=True,
    ),
    Curve(
        "memory",
        "building a domain",
        "MiB of the domain",
        "domain",
        (8, 16, 32, 64, 128, 256, 512),
        (8, 32, 128),
        _memory,
        builds=True,
    ),
    Curve(
        "ports",
        "a send to the last of many ports",
        "open ports",
        "send",
        (1, 8, 64, 256, 512, 1000),
        (1, 64, 512),
        _ports,
    ),
    Curve(
        "grants",
        "a grant mapped and unmapped",
        "grants in a hypercall",
        "grant",
        (1, 2, 4, 8, 16, 32, 64, 128, 256),
        (1, 8, 64),
        _grants,
    ),
)


def measure_point(curve: Curve, size: int, samples: int) -> Point:
    """One point of a curve, of so many samples."""
    job = Job(curve.operation(size), curve.route, samples + 1)
    if curve.builds:
        image = job.image().elf
        times = [_building(image, size) for _ in range(samples)]
        return Point(curve.name, size, 1, 0, 0, times)
    counts = count(job)
    pieces = counts.exits if curve.by_exits else counts.operations
    times = sample_in_turns([job], seed=0)[curve.route]
    times = [nanoseconds * counts.operations / pieces for nanoseconds in times]
    return Point(curve.name, size, pieces, counts.exits, counts.instructions, times)


def _building(image: bytes, mebibytes: int) -> float:
    config = GuestConfig(image, memory=mebibytes, paging=Paging.DIRECT)
    with no_garbage_collection():
        begin = time.thread_time_ns()
        with Machine([config], machine_memory=mebibytes + 64):
            return time.thread_time_ns() - begin
