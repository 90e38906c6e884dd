"""A machine to run guests on: hypervisor, domain 0's services and the guests, under few names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.cpu.clock import CYCLES_PER_SECOND
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.hypervisor.core import OVERHEAD, End, Hypervisor, overhead
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.log import Log
from pvemu.toolstack.built_domain import BuiltDomain
from pvemu.toolstack.dom0 import Dom0
from pvemu.toolstack.domain_builder import build_domain, most_paging_memory, paging_memory
from pvemu.toolstack.guest import Guest, Outcome
from pvemu.toolstack.guest_config import DEFAULT_MEMORY, Action, GuestConfig
from pvemu.toolstack.outside import Gate
from pvemu.toolstack.typist import Typist

__all__ = ["LARGEST_MACHINE_MEMORY", "START_OF_TIME", "Machine", "Outcome", "Result"]

#: MiB of a machine of which nothing was said.
DEFAULT_MACHINE_MEMORY: Final = 1024
LARGEST_MACHINE_MEMORY: Final = 4096
#: The wallclock when a machine starts, as Unix time: the same for every run (2026-01-01 00:00 UTC).
START_OF_TIME: Final = 1_767_225_600
_FRAMES_PER_MIB: Final = 256
_FOR_EVER: Final = 1 << 62
_NS_PER_SECOND: Final = 1_000_000_000

Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Result:
    """How a run ended, with which SHUTDOWN_* number, and at which virtual time in nanoseconds.

    Of several guests the first that did not power off counts.
    """

    outcome: Outcome
    reason: int | None
    nanoseconds: int


class Machine:
    """One machine with one guest, or several.

    >>> machine = Machine(open("kernel.elf", "rb").read(), memory=32)    # doctest: +SKIP
    >>> machine.run().outcome                                            # doctest: +SKIP
    <Outcome.POWEROFF: 'poweroff'>

    Args:
        guests: a kernel, as an ELF file's bytes, or plans of guests.
        memory, command_line: of the guest, in MiB, if only its kernel is given.
        machine_memory: the machine's memory in MiB; by default 1024, or as much as the guests need.
        privileged: the one guest is domain 0, alone on the machine.
        console: called with what a guest prints; by default it is kept in `console_bytes`. For several guests
            `consoles` has one for each.
        pcap: capture what passes between network interfaces in this file.
        tap: plug this network interface of the host in beside the guests'; for root.
        log: called with each line of the hypervisor's log; by default they are kept in `log_lines`.
        window, clock: which form of the engine's state window and clock to use.

    Attributes:
        guests: the guests in their order; domain: the first one's.
        outside: the gate through which anything from outside comes in.

    Raises:
        KernelRefused: a kernel can't be started, with real Xen's reason.
        PvemuError: the sizes don't fit, or a disk or an interface can't be had.
    """

    def __init__(
        self,
        guests: bytes | Sequence[GuestConfig],
        *,
        memory: int = DEFAULT_MEMORY,
        machine_memory: int | None = None,
        command_line: str = "",
        privileged: bool = False,
        console: Sink | None = None,
        consoles: Sequence[Sink] = (),
        pcap: Path | None = None,
        tap: str | None = None,
        log: Callable[[str], None] | None = None,
        window: WindowKind = "live",
        clock: ClockKind = "auto",
    ) -> None:
        configs = guests if not isinstance(guests, bytes) else [_plain(guests, memory, command_line)]
        if len({config.name for config in configs}) < len(configs):
            raise PvemuError("two guests have the same name: call them differently")
        self.console_bytes = bytearray()
        self.log_lines: list[str] = []
        sinks = list(consoles) or [console or self.console_bytes.extend] * len(configs)
        total = _machine_memory(configs, machine_memory)
        self.hypervisor = Hypervisor(
            total, log=Log(log or self.log_lines.append), window=window, clock=clock, seconds=START_OF_TIME
        )
        self.outside = Gate()
        self._domctl = Domctl(self.hypervisor)
        self._dom0: Dom0 | None = None
        self.guests: list[Guest] = []
        self._typists: list[Typist] = []
        self._interruption: type[BaseException] | None = None
        try:
            if privileged:
                self.hypervisor.console_output = sinks[0]
            else:
                self._dom0 = Dom0(
                    self._domctl,
                    self.outside,
                    domain_exists=self.hypervisor.domains.__contains__,
                    now=lambda: START_OF_TIME * _NS_PER_SECOND + self.hypervisor.system_time(),
                    warn=self.hypervisor.log.xen,
                )
                if pcap is not None:
                    self._dom0.capture(pcap)
                if tap is not None:
                    self._dom0.tap(tap)
            for config, sink in zip(configs, sinks, strict=True):
                built = self._build(config, sink, 0 if privileged else len(self.guests) + 1)
                self.guests.append(Guest(config, sink, built.domain))
        except PvemuError:
            self.close()
            raise
        self._next_domid = len(self.guests) + 1
        self.hypervisor.between_turns = self._between_turns
        self.hypervisor.pass_idle_time = self._pass_idle_time

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the engine and its memory back, and close what is open to the outside."""
        if self._dom0 is not None:
            self._dom0.close()
        self.outside.close()
        self.hypervisor.cpu.close()

    @property
    def domain(self) -> Domain:
        """The domain of the first guest."""
        return self.guests[0].domain

    @property
    def services(self) -> Dom0 | None:
        """Domain 0's services; None where a guest is domain 0."""
        return self._dom0

    def run(self, seconds: float | None = None) -> Result:
        """Run until all guests have ended, or for so many virtual seconds from now."""
        hypervisor = self.hypervisor
        until = _FOR_EVER
        if seconds is not None:
            until = hypervisor.clock.now + int(seconds * CYCLES_PER_SECOND)
        end = hypervisor.run(until)
        while end is End.ALL_DOWN and any(guest.reason is None for guest in self.guests):
            # The last one to end may be one to start again.
            self._between_turns(None)
            if any(guest.reason is None for guest in self.guests):
                end = hypervisor.run(until)
        self._heed_interruption()
        if self._dom0 is not None:
            self._dom0.turn(None)
        counts = next(
            (guest for guest in self.guests if guest.outcome is not Outcome.POWEROFF), self.guests[0]
        )
        if end is End.ALL_DOWN:
            assert counts.outcome is not None
            return Result(counts.outcome, counts.reason, hypervisor.system_time())
        outcome = Outcome.DEADLINE if end is End.DEADLINE else Outcome.IDLE
        return Result(outcome, None, hypervisor.system_time())

    def type_keys(self, keys: bytes, guest: int = 0) -> None:
        """Type at a guest's console."""
        if self._dom0 is not None:
            self._dom0.consoles.type(self.guests[guest].domain.domid, keys)
        else:
            self.hypervisor.type_at_console(keys)

    def type_text(self, text: bytes, guest: int = 0) -> None:
        """Type a text at a guest's console while the machine runs, line by line as the guest answers."""
        if self._dom0 is not None:
            domid = self.guests[guest].domain.domid
            self._typists.append(Typist(self.hypervisor, self._dom0.consoles, domid, text))
        else:
            self.hypervisor.type_at_console(text)

    def show_host_time(self) -> None:
        """Let guests read the host's time, so that they can measure themselves; runs differ from now on."""
        self.hypervisor.host_clock = self.outside.host_time

    def listen(self, path: Path) -> None:
        """Serve xenstore on a Unix socket while the machine runs.

        Raises:
            PvemuError: the path can't be used, or there is no xenstore because domain 0 is a guest itself.
        """
        if self._dom0 is None:
            raise PvemuError("domain 0 is the guest, so there is no xenstore: leave --xenstore-socket out")
        self._dom0.listen(path)

    def interrupt(self, reason: type[BaseException] = KeyboardInterrupt) -> None:
        """Make `run` raise an exception at its next turn; may be called from a signal handler.

        It may come in the middle of anything, so it only leaves a note and makes that turn come soon.
        """
        self._interruption = reason
        self.hypervisor.cpu.clock.deadline = 0
        self.outside.wake()

    # --- guests ----------------------------------------------------------------------------------

    def _build(self, config: GuestConfig, console: Sink, domid: int) -> BuiltDomain:
        built = build_domain(
            self._domctl,
            domid,
            config.image,
            pages=config.memory * _FRAMES_PER_MIB,
            privileged=self._dom0 is None,
            vcpus=config.vcpus,
            command_line=config.command_line,
            module=config.module,
            kind=config.kind,
            paging=config.paging,
        )
        self.hypervisor.scheduler.set_share(built.domain, config.weight, config.cap)
        if self._dom0 is not None:
            peers = {guest.config.name: guest.domain.domid for guest in self.guests if guest.reason is None}
            self._dom0.introduce(built, config, console, peers)
        return built

    def _between_turns(self, last: Domain | None) -> None:
        if self._dom0 is not None:
            self._dom0.turn(None if last is None else last.domid)
        while self.hypervisor.ended:
            domain = self.hypervisor.ended.popleft()
            for guest in self.guests:
                if guest.domain is domain and guest.reason is None and domain.has_shut_down:
                    self._bury(guest)
        self.outside.look(self.hypervisor.system_time())
        # After that look, which hears the bell: whoever rings later ends the next wait.
        self._heed_interruption()

    def _heed_interruption(self) -> None:
        reason, self._interruption = self._interruption, None
        if reason is not None:
            raise reason

    def _bury(self, guest: Guest) -> None:
        """A guest has ended: start it again, or give back what it had. The last one stays as it is."""
        guest.reason = guest.domain.shutdown_reason
        domid = guest.domain.domid
        if self._dom0 is None:
            return
        self._dom0.xenstore.shutdown(domid)
        action = guest.action
        others = any(other.reason is None for other in self.guests)
        if action is Action.RESTART or (action is Action.DESTROY and others):
            self._dom0.remove(domid, guest.config)
            self._domctl.destroy(guest.domain)
        if action is Action.RESTART:
            guest.domain = self._build(guest.config, guest.console, self._next_domid).domain
            self._next_domid += 1
            guest.reason, guest.boots = None, guest.boots + 1

    def _pass_idle_time(self, cycles: int) -> int | None:
        if not self.outside.is_open:
            return None
        nanoseconds = cycles * _NS_PER_SECOND // CYCLES_PER_SECOND
        passed = self.outside.wait(None if cycles > _FOR_EVER // 2 else nanoseconds)
        return min(passed * CYCLES_PER_SECOND // _NS_PER_SECOND, cycles)


def _plain(image: bytes, memory: int, command_line: str) -> GuestConfig:
    return GuestConfig(image, memory=memory, command_line=command_line)


def _machine_memory(configs: Sequence[GuestConfig], machine_memory: int | None) -> int:
    """The machine's memory in MiB: what was asked for, if the guests fit in."""
    memory = sum(config.memory for config in configs)
    if memory < 1:
        raise PvemuError(f"a guest can't have {memory} MiB of memory: give --memory at least 1")
    needed = _machine_for(memory + sum(map(most_paging_memory, configs)))
    if needed > (machine_memory or DEFAULT_MACHINE_MEMORY):
        # Then it matters what kinds of guest they are; to know that, their kernels have to be unpacked.
        needed = _machine_for(memory + sum(map(paging_memory, configs)))
    if machine_memory is None:
        machine_memory = max(DEFAULT_MACHINE_MEMORY, needed)
    if machine_memory > LARGEST_MACHINE_MEMORY:
        raise PvemuError(
            f"a machine of {machine_memory} MiB is more than the {LARGEST_MACHINE_MEMORY} MiB "
            "that are supported: take less with --memory or --machine-memory"
        )
    if machine_memory < needed or machine_memory % 2:
        raise PvemuError(f"a guest of {memory} MiB needs an even --machine-memory of at least {needed} MiB")
    return machine_memory


def _machine_for(memory: int) -> int:
    """MiB of the smallest machine, an even number, whose domains can have so many MiB."""
    needed = memory + overhead(memory + OVERHEAD)
    return needed + needed % 2
