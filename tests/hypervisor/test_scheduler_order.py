"""The order of turns against the plain rule: most credit first, then who came first, and who yields last."""

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.core import Hypervisor
from pvemu.hypervisor.runstate import Runstate
from pvemu.hypervisor.scheduler import INITIAL_CREDIT, Scheduler
from pvemu.hypervisor.vcpu import Vcpu

VCPUS = 5


class Machine:
    """A scheduler with vCPUs that are nothing but what it looks at, and the plain rule beside it."""

    def __init__(self) -> None:
        self.clock = SimpleNamespace(now=0, deadline=1 << 62)
        self.hypervisor = SimpleNamespace(clock=self.clock, domains={}, system_time=lambda: self.clock.now)
        self.scheduler = Scheduler(cast("Hypervisor", self.hypervisor))
        self.vcpus = [self._vcpu(number) for number in range(VCPUS)]
        self.waiting: list[Any] = []
        self.running: Any = None

    def _vcpu(self, number: int) -> Any:
        domain = SimpleNamespace(domid=number, weight=256, hypervisor=self.hypervisor)
        vcpu = SimpleNamespace(domain=domain, runnable=True, blocked=False, credit=INITIAL_CREDIT)
        vcpu.is_queued = vcpu.has_yielded = False
        vcpu.runstate = Runstate(0)
        domain.vcpus = [vcpu]
        self.hypervisor.domains[number] = domain
        return vcpu

    def add(self, number: int) -> None:
        vcpu = self.vcpus[number]
        vcpu.runnable = True
        self.scheduler.add(cast("Vcpu", vcpu))
        if vcpu is not self.running:
            self.waiting = [each for each in self.waiting if each is not vcpu] + [vcpu]

    def expected(self) -> Any:
        able = [vcpu for vcpu in self.waiting if vcpu.runnable]
        if not able:
            return None
        return max([vcpu for vcpu in able if not vcpu.has_yielded] or able, key=lambda vcpu: vcpu.credit)

    def turn(self, cycles: int, *, yields: bool, sleeps: bool) -> None:
        expected = self.expected()
        credits = {id(vcpu): vcpu.credit for vcpu in self.vcpus}
        self.running = self.scheduler.take()
        assert self.running is expected
        if expected is None:
            return
        if credits[id(expected)] <= 0:
            assert expected.credit > 0
        self.waiting = [vcpu for vcpu in self.waiting if vcpu is not expected and vcpu.runnable]
        self.scheduler.start(expected, self.clock.now)
        self.clock.now += cycles
        expected.has_yielded, expected.runnable = yields, not sleeps
        self.scheduler.stop(expected)
        self.running = None
        if not sleeps:
            self.waiting.append(expected)


NUMBERS = st.integers(0, VCPUS - 1)
STEPS = st.one_of(
    st.tuples(st.just("add"), NUMBERS),
    st.tuples(st.just("sleep"), NUMBERS),
    st.tuples(st.just("turn"), st.integers(1, 3 * INITIAL_CREDIT), st.booleans(), st.booleans()),
)


@given(st.lists(STEPS, max_size=60))
def test_who_runs_next_is_who_the_plain_rule_names(steps: list[tuple[Any, ...]]) -> None:
    machine = Machine()
    for kind, *arguments in steps:
        if kind == "add":
            machine.add(arguments[0])
        elif kind == "sleep":
            machine.vcpus[arguments[0]].runnable = False
        else:
            cycles, yields, sleeps = arguments
            machine.turn(cycles, yields=yields, sleeps=sleeps)
