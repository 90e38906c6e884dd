"""The scheduler: whose turn it is on the one processor, by credit, as in Xen's credit2.

A vCPU pays for the time it runs, the more the less weight its domain has; who has most credit runs next,
and when that one has none left, all get as much anew. Who waited for an event has kept its credit, so it
comes soon, even into another's turn. A domain with a cap may use only so much of each period.
Everything is counted in cycles of the machine's clock, and ties go to who came first, so that the order
never varies.
"""

from bisect import insort_right
from typing import TYPE_CHECKING, Final

from pvemu.abi.vcpu import RUNSTATE_running
from pvemu.hypervisor.runstate import settle_runstate
from pvemu.hypervisor.timers import Timer

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

DEFAULT_WEIGHT: Final = 256
MAX_WEIGHT: Final = 65535
#: Cycles that a vCPU may run before another one's turn.
TIME_SLICE: Final = 10_000_000
RATELIMIT: Final = 1_000_000
#: What everybody gets when the best one has run out of credit.
INITIAL_CREDIT: Final = TIME_SLICE
#: The period of a cap, in cycles.
CAP_PERIOD: Final = 10_000_000


class Scheduler:
    """The vCPUs that wait for the processor, those with most credit first, then in the order of their coming.

    What a turn costs does not depend on how many there are: a vCPU that can run no longer stays in the queue
    until its place is looked at, and only what is looked at is put in order.
    """

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self._queue: list[Vcpu] = []
        self._last: Vcpu | None = None
        self._started = 0
        self._budgets: dict[int, _Budget] = {}
        #: Cycles that a vCPU runs before one that woke up may take its place.
        self.ratelimit = RATELIMIT
        self.running: Vcpu | None = None
        self._busy = 0

    def add(self, vcpu: "Vcpu") -> None:
        """Let a vCPU wait for its turn, if it can run and does not do so already."""
        if vcpu is self.running or not vcpu.runnable:
            return
        if vcpu.is_queued:  # since a time when it could run: it comes anew
            self._queue.remove(vcpu)
        vcpu.is_queued = True
        insort_right(self._queue, vcpu, key=_debt)
        running = self.running
        if running is not None and vcpu.credit > running.credit - self._price(running, self._elapsed()):
            clock = self._hypervisor.clock
            clock.deadline = min(clock.deadline, max(clock.now, self._started + self.ratelimit))

    def take(self) -> "Vcpu | None":
        """The vCPU whose turn it is, no longer in the queue; None: nobody can run now."""
        at = self._best()
        if self._last is not None:
            self._last.has_yielded = False
        if at is None:
            return None
        best = self._queue.pop(at)
        best.is_queued = False
        if best.credit <= 0:
            self._give_credit(1 - best.credit)
        return best

    def _best(self) -> int | None:
        """Where in the queue the best one stands that may run; who has just yielded is the last resort."""
        queue = self._queue
        fallback: int | None = None
        at = 0
        while at < len(queue):
            vcpu = queue[at]
            if not vcpu.runnable:
                vcpu.is_queued = False
                del queue[at]
                continue
            if not self._budgets or self._may_run(vcpu.domain):
                if not vcpu.has_yielded:
                    return at
                fallback = at if fallback is None else fallback
            at += 1
        return fallback

    def _give_credit(self, shortage: int) -> None:
        """Give all so many portions that the best one has credit again; nobody saves up more than one.

        The queue stays in order: all get the same, up to the same limit.
        """
        portion = -(-shortage // INITIAL_CREDIT) * INITIAL_CREDIT
        for domain in self._hypervisor.domains.values():
            for vcpu in domain.vcpus:
                vcpu.credit = min(vcpu.credit + portion, INITIAL_CREDIT)

    # --- turns -----------------------------------------------------------------------------------

    def start(self, vcpu: "Vcpu", now: int) -> int:
        """A vCPU gets the processor; the cycle at which its turn ends."""
        self.running, self._started = vcpu, now
        vcpu.runstate.change(RUNSTATE_running, self._hypervisor.system_time())
        budget = self._budgets.get(vcpu.domain.domid) if self._budgets else None
        return now + (TIME_SLICE if budget is None else min(TIME_SLICE, budget.left))

    def stop(self, vcpu: "Vcpu") -> None:
        """It leaves the processor, and has to pay; if it can go on, it waits for its next turn."""
        elapsed = self._elapsed()
        self._busy += elapsed
        vcpu.credit -= self._price(vcpu, elapsed)
        budget = self._budgets.get(vcpu.domain.domid) if self._budgets else None
        if budget is not None:
            budget.left -= elapsed
        self.running, self._last = None, vcpu
        settle_runstate(vcpu, leaves_processor=True)
        self.add(vcpu)

    def busy_time(self) -> int:
        """Cycles in which the processor was not idle, this turn included."""
        return self._busy + (self._elapsed() if self.running is not None else 0)

    def _elapsed(self) -> int:
        return self._hypervisor.clock.now - self._started

    @staticmethod
    def _price(vcpu: "Vcpu", cycles: int) -> int:
        return cycles * DEFAULT_WEIGHT // vcpu.domain.weight

    # --- caps ------------------------------------------------------------------------------------

    def set_share(self, domain: "Domain", weight: int, cap: int) -> None:
        """Give a domain a weight (1 to MAX_WEIGHT) and a cap in percent of the processor (0: none)."""
        domain.weight, domain.cap = weight, cap
        budget = self._budgets.pop(domain.domid, None)
        if budget is not None:
            budget.stop()
        if cap:
            self._budgets[domain.domid] = _Budget(self._hypervisor, domain)

    def forget(self, domain: "Domain") -> None:
        """The domain is no more."""
        self.set_share(domain, DEFAULT_WEIGHT, 0)
        self._queue = [vcpu for vcpu in self._queue if vcpu.domain is not domain]
        for vcpu in domain.vcpus:
            vcpu.is_queued = False
        if self._last is not None and self._last.domain is domain:
            self._last = None

    def _may_run(self, domain: "Domain") -> bool:
        budget = self._budgets.get(domain.domid)
        return budget is None or budget.is_left()


class _Budget:
    """What is left of a capped domain's share in this period."""

    def __init__(self, hypervisor: "Hypervisor", domain: "Domain") -> None:
        self._clock = hypervisor.clock
        self._share = CAP_PERIOD * domain.cap // 100
        self._period_ends = self._clock.now + CAP_PERIOD
        self._timer = Timer(hypervisor.timers, lambda: None)
        self.left = self._share

    def is_left(self) -> bool:
        """Whether there is some left; if not, a timer makes the machine look again when the next comes."""
        now = self._clock.now
        if now >= self._period_ends:
            periods = (now - self._period_ends) // CAP_PERIOD + 1
            self._period_ends += periods * CAP_PERIOD
            self.left = min(self.left + periods * self._share, self._share)
        if self.left > 0:
            return True
        self._timer.set(self._period_ends)
        return False

    def stop(self) -> None:
        """Forget the timer."""
        self._timer.cancel()


def _debt(vcpu: "Vcpu") -> int:
    return -vcpu.credit
