"""One cell of the ladder: an operation by a route, as a guest that is ready to be started."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Protocol

from benchmarks.bare_machine import BareMachine
from benchmarks.ladder import Operation
from benchmarks.routes import SETTINGS, Route, defines
from guestkit import Image, assemble_file
from pvemu.abi.errors import PvemuError
from pvemu.cpu.clock import CountClock
from pvemu.cpu.processor import ClockKind
from pvemu.services.block.disk import DiskSpec
from pvemu.toolstack.guest_config import DiskRequest, GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Machine, Outcome

GUESTS: Final = Path(__file__).parent / "guests"
_LEAST_MACHINE: Final = 96


class Running(Protocol):
    """A guest on its machine."""

    @property
    def instructions(self) -> int:
        """How many instructions have run, where the clock counts them."""

    def on_interrupt(self, vector: int, action: Callable[[], None]) -> None:
        """Call `action` at a software interrupt, in place of whoever would get it."""

    def run(self) -> None:
        """Run until the guest powers off."""

    def close(self) -> None:
        """Give the machine back."""


class GuestFailed(PvemuError):
    """A guest of the ladder did not power off, so that nothing it did can be counted."""


@dataclass(frozen=True)
class Job:
    """A cell.

    Attributes:
        rounds: how many samples it takes; the first one only warms up.
    """

    operation: Operation
    route: Route
    rounds: int

    @property
    def per_sample(self) -> int:
        """How many operations a sample is."""
        return self.count * self.operation.routes[self.route]

    @property
    def count(self) -> int:
        """How often a sample runs the body of the loop."""
        return self.operation.counts.get(self.route, self.operation.count)

    def image(self, **more: int) -> Image:
        """The guest, with more constants."""
        own = {"ROUNDS": self.rounds, "COUNT": self.count}
        constants = defines(self.route) | own | self.operation.defines | more
        target = SETTINGS[self.route].target
        return _assembled(self.operation.source, target, tuple(sorted(constants.items())))

    @contextmanager
    def running(self, clock: ClockKind = "auto") -> Iterator["Running"]:
        """The guest on a machine of its own.

        Raises:
            GuestFailed: it ended otherwise than by powering off.
        """
        operation, setting = self.operation, SETTINGS[self.route]
        image = self.image()
        machine: Running
        with tempfile.TemporaryDirectory() as folder:
            disks = (_disk(Path(folder), operation.disk),) if operation.disk else ()
            if setting.paging is None:
                machine = BareMachine(
                    image, memory=operation.memory, clock=clock, disk=disks[0].spec if disks else None
                )
            else:
                configs = [
                    GuestConfig(image.elf, "benchmark", operation.memory, paging=setting.paging, disks=disks)
                ]
                if operation.peer is not None:
                    configs = [*self._peers(operation.peer), *configs]
                machine = GuestMachine(configs, str(self), clock)
            try:
                yield machine
            finally:
                machine.close()

    def _peers(self, source: str) -> list[GuestConfig]:
        constants = {"ROUNDS": self.rounds, "COUNT": self.operation.count}
        image = _assembled(source, "pv32", tuple(constants.items())).elf
        return [
            GuestConfig(image, f"peer {number}", self.operation.memory, paging=Paging.DIRECT)
            for number in range(self.operation.peers)
        ]

    def __str__(self) -> str:
        return f"{self.operation.name} by {self.route.value}"


class GuestMachine:
    """A guest under pvemu; the last of several is the one that is measured."""

    def __init__(self, configs: list[GuestConfig], name: str, clock: ClockKind) -> None:
        memory = max(_LEAST_MACHINE, sum(config.memory for config in configs) + _LEAST_MACHINE // 2)
        self._name = name
        self.machine = Machine(configs, machine_memory=memory + memory % 2, clock=clock)

    def close(self) -> None:
        """Give the machine back."""
        self.machine.close()

    @property
    def instructions(self) -> int:
        """How many instructions have run, where the clock counts them."""
        clock = self.machine.hypervisor.clock
        return clock.instructions if isinstance(clock, CountClock) else 0

    @property
    def hypercalls(self) -> int:
        """How many hypercalls have been carried out, those in multicalls included."""
        return sum(self.machine.hypervisor.counters)

    def on_interrupt(self, vector: int, action: Callable[[], None]) -> None:
        """Call `action` at a software interrupt, in place of whoever would get it."""
        domain = self.machine.guests[-1].domain
        (domain.hvm.exits if domain.is_hvm else domain.exits)[vector] = action

    def run(self) -> None:
        """Run until the guests power off."""
        outcome = self.machine.run().outcome
        if outcome is not Outcome.POWEROFF:
            lines = "; ".join(self.machine.log_lines)
            raise GuestFailed(f"the guest for {self._name} ended with {outcome.value}: {lines}")


def _disk(folder: Path, mebibytes: int) -> DiskRequest:
    """An empty disk, which an HVM guest finds both behind ports and on a ring."""
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    return DiskRequest(DiskSpec(str(image), "xvda"))


@cache
def _assembled(source: str, target: str, constants: tuple[tuple[str, int], ...]) -> Image:
    return assemble_file(GUESTS / source, target=target, defines=dict(constants))
