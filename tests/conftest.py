"""Options of the whole suite: the form of the engine that machines use, and how far property tests go."""

from collections.abc import Callable, Iterator
from typing import TypedDict, Unpack, cast, get_args

import pytest
from hypothesis import HealthCheck, settings

from guestkit import assemble
from pvemu import Machine
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind

# The same examples in every run, so that red is red for everybody; the nightly run looks for new ones.
settings.register_profile(
    "suite",
    derandomize=True,
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", settings.get_profile("suite"), derandomize=False, max_examples=2000)
settings.load_profile("suite")


class MachineOptions(TypedDict):
    """The arguments of Machine that choose the form of the engine."""

    window: WindowKind
    clock: ClockKind


class GuestOptions(TypedDict, total=False):
    """The arguments of Machine that a test may give."""

    memory: int
    machine_memory: int
    command_line: str
    privileged: bool


MakeMachine = Callable[..., Machine]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pvemu")
    group.addoption(
        "--state-window",
        choices=get_args(WindowKind),
        default="live",
        help="form of the state window that every machine in the tests uses",
    )
    group.addoption(
        "--clock",
        choices=get_args(ClockKind),
        default="auto",
        help="form of the clock that every machine in the tests uses",
    )


@pytest.fixture(scope="session")
def machine_options(pytestconfig: pytest.Config) -> MachineOptions:
    """What a Machine or a Processor in a test is given besides its own arguments."""
    return {
        "window": cast(WindowKind, pytestconfig.getoption("--state-window")),
        "clock": cast(ClockKind, pytestconfig.getoption("--clock")),
    }


@pytest.fixture
def make_machine(machine_options: MachineOptions) -> Iterator[MakeMachine]:
    """Make machines from DSL source (str) or a kernel's bytes; they are closed when the test ends."""
    machines: list[Machine] = []

    def make(guest: str | bytes, **options: Unpack[GuestOptions]) -> Machine:
        image = assemble(guest).elf if isinstance(guest, str) else guest
        machine = Machine(image, **options, **machine_options)
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        machine.close()
