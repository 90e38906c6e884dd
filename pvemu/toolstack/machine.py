"""A machine to run a guest on: hypervisor, services and one domain, under a surface of few names."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.abi.sched import SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_watchdog
from pvemu.cpu.clock import CYCLES_PER_SECOND
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.hypervisor.core import OVERHEAD, End, Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.log import Log
from pvemu.hypervisor.timers import Timer
from pvemu.services.console import ConsoleService
from pvemu.toolstack.domain_builder import BuiltDomain, build_domain

#: MiB of a machine of which nothing was said.
DEFAULT_MACHINE_MEMORY: Final = 1024
LARGEST_MACHINE_MEMORY: Final = 4096
#: The wallclock when a machine starts, as Unix time: the same for every run (2026-01-01 00:00 UTC).
START_OF_TIME: Final = 1_767_225_600
_FRAMES_PER_MIB: Final = 256


class Outcome(Enum):
    """How a run ended."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    SUSPEND = "suspend"
    CRASH = "crash"
    DEADLINE = "deadline"
    IDLE = "idle"


_BY_REASON: Final = {
    SHUTDOWN_poweroff: Outcome.POWEROFF,
    SHUTDOWN_reboot: Outcome.REBOOT,
    SHUTDOWN_crash: Outcome.CRASH,
    SHUTDOWN_watchdog: Outcome.CRASH,
}


@dataclass(frozen=True)
class Result:
    """How a run ended, at which virtual time in nanoseconds, and the guest's SHUTDOWN_* number."""

    outcome: Outcome
    reason: int | None
    nanoseconds: int


class Machine:
    """One machine with one guest.

    >>> machine = Machine(open("kernel.elf", "rb").read(), memory=32)    # doctest: +SKIP
    >>> machine.run().outcome                                            # doctest: +SKIP
    <Outcome.POWEROFF: 'poweroff'>

    Args:
        image: the kernel, an ELF file's bytes.
        memory: the guest's memory in MiB.
        machine_memory: the machine's in MiB; by default 1024, or as much as the guest needs.
        privileged: the guest is domain 0, alone on the machine.
        console: called with what the guest prints; by default it is kept in `console_bytes`.
        log: called with each line of the hypervisor's log; by default they are kept in `log_lines`.
        window, clock: which form of the engine's state window and clock to use.

    Raises:
        KernelRefused: the kernel can't be started, with real Xen's reason.
        PvemuError: the sizes don't fit.
    """

    def __init__(
        self,
        image: bytes,
        *,
        memory: int = 128,
        machine_memory: int | None = None,
        command_line: str = "",
        privileged: bool = False,
        console: Callable[[bytes], None] | None = None,
        log: Callable[[str], None] | None = None,
        window: WindowKind = "live",
        clock: ClockKind = "auto",
    ) -> None:
        self.console_bytes = bytearray()
        self.log_lines: list[str] = []
        self._console = console or self.console_bytes.extend
        total = _machine_memory(memory, machine_memory)
        self.hypervisor = Hypervisor(
            total, log=Log(log or self.log_lines.append), window=window, clock=clock, seconds=START_OF_TIME
        )
        self.hypervisor.console_output = self._console
        self._consoles: ConsoleService | None = None
        try:
            built = self._build(image, memory, command_line, privileged)
        except PvemuError:
            self.close()
            raise
        self.domain: Domain = built.domain

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the engine and its memory back."""
        self.hypervisor.cpu.close()

    def run(self, seconds: float | None = None) -> Result:
        """Run until the guest has ended, or for so many virtual seconds from now."""
        hypervisor = self.hypervisor
        until = 1 << 62
        if seconds is not None:
            until = hypervisor.tsc() + int(seconds * CYCLES_PER_SECOND)
        end = hypervisor.run(until)
        if self._consoles is not None:
            self._consoles.drain_all()
        reason = self.domain.shutdown_reason
        if end is End.ALL_DOWN:
            outcome = _BY_REASON.get(reason if reason is not None else -1, Outcome.SUSPEND)
        else:
            outcome = Outcome.DEADLINE if end is End.DEADLINE else Outcome.IDLE
        return Result(outcome, reason, hypervisor.system_time())

    def interrupt(self) -> None:
        """Make `run` raise KeyboardInterrupt at its next turn; may be called from a signal handler."""
        hypervisor = self.hypervisor
        Timer(hypervisor.timers, _interrupted).set(0)
        hypervisor.cpu.clock.deadline = 0

    def _build(self, image: bytes, memory: int, command_line: str, privileged: bool) -> BuiltDomain:
        domctl = Domctl(self.hypervisor)
        consoles = None
        if not privileged:
            consoles = self._consoles = ConsoleService(domctl)
            domctl.adopt(0)
        built = build_domain(
            domctl,
            0 if privileged else 1,
            image,
            pages=memory * _FRAMES_PER_MIB,
            privileged=privileged,
            command_line=command_line,
        )
        if consoles is not None and built.console_frame is not None and built.console_port is not None:
            consoles.attach(built.domain.domid, built.console_frame, built.console_port, self._console)
        return built


def _interrupted() -> None:
    raise KeyboardInterrupt


def _machine_memory(memory: int, machine_memory: int | None) -> int:
    """The machine's memory in MiB: what was asked for, if the guest fits in."""
    if memory < 1:
        raise PvemuError(f"a guest can't have {memory} MiB of memory: give --memory at least 1")
    needed = memory + OVERHEAD
    if machine_memory is None:
        machine_memory = max(DEFAULT_MACHINE_MEMORY, needed + needed % 2)
    if machine_memory > LARGEST_MACHINE_MEMORY:
        raise PvemuError(
            f"a machine of {machine_memory} MiB is more than the {LARGEST_MACHINE_MEMORY} MiB "
            "that are supported: take less with --memory or --machine-memory"
        )
    if machine_memory < needed or machine_memory % 2:
        raise PvemuError(
            f"a guest of {memory} MiB needs an even --machine-memory of at least {needed + needed % 2} MiB"
        )
    return machine_memory
