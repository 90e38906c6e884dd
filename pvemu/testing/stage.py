"""A machine with several domains whose hypercalls a test makes, and which goes back to its start at once."""

from types import TracebackType
from typing import Final, Self

from guestkit import assemble
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.hypervisor.core import OVERHEAD, Hypervisor
from pvemu.testing.program import Outcome, Program, Step
from pvemu.testing.puppet import Puppet
from pvemu.testing.secrets import SECRET_PAGE, SECRET_SIZE, secret_of
from pvemu.testing.snapshot import Snapshot
from pvemu.testing.source import GUEST_MEMORY, commands, listing, puppet_source, source
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.machine import Machine

#: MiB that no domain has at first.
_SPARE_MEMORY: Final = 2
#: Virtual seconds between two looks whether the guests are ready.
_LOOK: Final = 0.002
_MOST_LOOKS: Final = 100


class Stage:
    """A machine and its puppets.

    >>> with Stage(domains=2) as stage:                    # doctest: +SKIP
    ...     stage.puppets[0].call("sched_op", SCHEDOP_yield, 0)
    ...     stage.reset()

    Args:
        domains: how many guests.
        privileged: the one guest is domain 0, alone on the machine; else Python is domain 0, with xenstore
            and consoles, and the guests are domains 1 and up.
        window, clock: the form of the engine.
        kernel: the guests' source, where they are not to be those that only wait.

    Attributes:
        machine, hypervisor: what there is; puppets: the domains.
    """

    def __init__(
        self,
        domains: int = 2,
        *,
        privileged: bool = False,
        window: WindowKind = "live",
        clock: ClockKind = "auto",
        kernel: str | None = None,
    ) -> None:
        assert domains == 1 or not privileged, "domain 0 is alone on its machine"
        image = assemble(kernel or puppet_source())
        memory = OVERHEAD + domains * GUEST_MEMORY + _SPARE_MEMORY
        self.machine_memory = memory + memory % 2
        self.privileged = privileged
        self.machine = Machine(
            [GuestConfig(image.elf, name=f"d{number}", memory=GUEST_MEMORY) for number in range(domains)],
            machine_memory=self.machine_memory,
            privileged=privileged,
            window=window,
            clock=clock,
        )
        symbols = dict(image.symbols)
        self._let_them_prepare(symbols)
        self.puppets: list[Puppet] = []
        for number, guest in enumerate(self.machine.guests):
            self.puppets.append(Puppet(self.puppets, number, guest.domain, symbols))
        for puppet in self.puppets:
            mfn = puppet.frame_of("page", SECRET_PAGE)
            self.hypervisor.ram.frame(mfn)[:] = secret_of(puppet.number) * (4096 // SECRET_SIZE)
        self._snapshot = Snapshot(self.machine, self.puppets)

    def _let_them_prepare(self, symbols: dict[str, int]) -> None:
        for _ in range(_MOST_LOOKS):
            self.machine.run(_LOOK)
            for guest in self.machine.guests:
                self.hypervisor.switch_to(guest.domain.vcpus[0])
                if not guest.domain.memory.read_u32(symbols["is_ready"]):
                    break
            else:
                return
        raise AssertionError("the guests of the stage never got ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the engine back."""
        self.machine.close()

    @property
    def hypervisor(self) -> Hypervisor:
        """The machine's hypervisor."""
        return self.machine.hypervisor

    def reset(self) -> None:
        """Go back to the beginning, where every domain has booted and prepared its memory."""
        self._snapshot.reset()

    # --- steps -----------------------------------------------------------------------------------

    def take(self, step: Step) -> Outcome:
        """Let a domain take a step, and domain 0's services do what it asks them for."""
        outcome = self.puppets[step.domain].take(step)
        self.settle()
        return outcome

    def settle(self) -> None:
        """Deliver events to services, let timers expire and bury who has died; no guest runs."""
        self.hypervisor.run(self.hypervisor.tsc())

    def run(self, program: Program) -> list[Outcome]:
        """Take all steps of a program, from the beginning."""
        self.reset()
        return [self.take(step) for step in program.steps]

    # --- source ----------------------------------------------------------------------------------

    def sources(self, program: Program) -> list[str]:
        """A program as guestkit source, one guest for each domain."""
        self.reset()
        return [source(program, number, self.puppets[number]) for number in range(program.domains)]

    def command(self, program: Program) -> str:
        """The command that runs those sources, kept as d0.gk, d1.gk and so on."""
        return commands(program, self.machine_memory, privileged=self.privileged)

    def listing(self, program: Program) -> str:
        """The command and all sources in one text."""
        self.reset()
        return listing(program, self.puppets, self.command(program))


#: Stages that were used before, by what they are: to make one takes a second, to reset it a millisecond.
_stages: dict[tuple[int, bool], Stage] = {}


def stage_for(domains: int, *, privileged: bool = False) -> Stage:
    """A stage in its first state; one is kept for each kind."""
    key = domains, privileged
    if key not in _stages:
        _stages[key] = Stage(domains, privileged=privileged)
    else:
        _stages[key].reset()
    return _stages[key]


def forget_stages() -> None:
    """Close all stages that are kept: the hypervisor's own code was changed, by a test of the tests."""
    for stage in _stages.values():
        stage.close()
    _stages.clear()
