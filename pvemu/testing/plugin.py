"""Fixtures of pytest: `guest` runs guestkit source, `machine` and `domain` make hypercalls without code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pvemu.testing.puppet import Puppet
    from pvemu.testing.stage import Stage
    from pvemu.toolstack.machine import Machine, Outcome

#: Virtual seconds that a guest may run.
_SECONDS = 10.0
_MEMORY = 16


@dataclass(frozen=True)
class Ran:
    """A guest that has run.

    Attributes:
        text: what it printed; log: the lines of the hypervisor's log.
        outcome: how it ended; nanoseconds: at which virtual time.
        machine: the machine, to be looked at; symbols: addresses of its labels.
    """

    text: str
    log: list[str]
    outcome: "Outcome"
    nanoseconds: int
    machine: "Machine"
    symbols: dict[str, int]

    def word(self, symbol: str) -> int:
        """The dword at a label of the guest's, after the run. Raises KeyError for no label."""
        hypervisor = self.machine.hypervisor
        hypervisor.switch_to(self.machine.domain.vcpus[0])
        return self.machine.domain.memory.read_u32(self.symbols[symbol])


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known that says what `machine` is."""
    config.addinivalue_line(
        "markers", "pvemu(domains=2, privileged=False): the domains of the fixture `machine`"
    )


@pytest.fixture
def guest() -> Iterator[Callable[..., Ran]]:
    """Run guestkit source until it ends: `guest(source, seconds=..., memory=..., privileged=...)`.

    Other arguments are those of `pvemu.Machine`. Afterwards all counts of the hypervisor are checked.
    """
    from guestkit import assemble
    from pvemu.hypervisor.audit import Auditor
    from pvemu.toolstack.machine import Machine

    machines: list[Machine] = []

    def run(source: str, *, seconds: float = _SECONDS, memory: int = _MEMORY, **options: Any) -> Ran:
        image = assemble(source)
        machine = Machine(image.elf, memory=memory, **options)
        machines.append(machine)
        result = machine.run(seconds)
        Auditor(machine.hypervisor).audit()
        text = bytes(machine.console_bytes).decode("latin-1")
        symbols = dict(image.symbols)
        return Ran(text, machine.log_lines, result.outcome, result.nanoseconds, machine, symbols)

    yield run
    for machine in machines:
        machine.close()


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator["Stage"]:
    """A machine with booted domains that make a test's hypercalls; each test finds it as it was at first.

    `@pytest.mark.pvemu(domains=3)` or `(domains=1, privileged=True)` says which domains. When the test is
    over, all invariants must hold.
    """
    from pvemu.testing.invariants import Invariants
    from pvemu.testing.stage import stage_for

    mark = request.node.get_closest_marker("pvemu")
    options = {"domains": 2, "privileged": False} | ({} if mark is None else mark.kwargs)
    stage = stage_for(options["domains"], privileged=options["privileged"])
    invariants = Invariants(stage.machine, stage.puppets)
    yield stage
    invariants.check()


@pytest.fixture
def domain(machine: "Stage") -> "Puppet":
    """The first domain of `machine`."""
    return machine.puppets[0]
