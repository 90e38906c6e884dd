"""Who gets the processor: shares by weight, caps, waking, pausing, and what runstates tell of it."""

import pytest
from booted import Booted

from pvemu.abi.vcpu import RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running
from pvemu.hypervisor.core import End
from pvemu.hypervisor.domain import Domain

BUSY = 'guest "busy"\nsection .text\nstart: inc dword [turns]\njmp start\nsection .data\nturns: dd 0'
IDLE = 'guest "idle"\nsection .text\nstart: hypercall sched_op, SCHEDOP_block, 0\njmp start'
SLEEPER = """
guest "sleeper"
include "start.gk"
include "events.gk"
include "time.gk"
section .text
main:   call events_open
        call stop_periodic_timer
        mov eax, VIRQ_TIMER
        mov edx, tick
        call bind_virq
again:  call system_time
        add eax, 20000000
        adc edx, 0
        call set_timer
        call wait_for_upcall
        inc dword [count]
        jmp again
tick:   ret
section .data
count:  dd 0
"""
YIELDING = 'guest "yielding"\nsection .text\nstart: hypercall sched_op, SCHEDOP_yield, 0\njmp start'


def ran(domain: Domain) -> int:
    """Nanoseconds that a domain had the processor."""
    now = domain.hypervisor.system_time()
    return sum(vcpu.runstate.until(now)[RUNSTATE_running] for vcpu in domain.vcpus)


@pytest.mark.parametrize("weights", [(256, 256), (256, 512), (100, 300), (1024, 256, 256)])
def test_busy_domains_share_the_processor_by_their_weights(weights: tuple[int, ...]) -> None:
    with Booted() as machine:
        domains = [machine.boot(domid + 1, BUSY) for domid in range(len(weights))]
        for domain, weight in zip(domains, weights, strict=True):
            machine.hypervisor.scheduler.set_share(domain, weight, 0)
        machine.run(2000)
        total = sum(map(ran, domains))
        for domain, weight in zip(domains, weights, strict=True):
            assert ran(domain) / total == pytest.approx(weight / sum(weights), abs=0.03)


@pytest.mark.parametrize("cap", [10, 50])
def test_a_capped_domain_uses_no_more_than_its_cap_though_nobody_else_wants_the_processor(cap: int) -> None:
    with Booted() as machine:
        domain = machine.boot(1, BUSY)
        machine.hypervisor.scheduler.set_share(domain, 256, cap)
        begun = machine.hypervisor.system_time()
        assert machine.run(1000) is End.DEADLINE
        share = ran(domain) / (machine.hypervisor.system_time() - begun)
        assert share == pytest.approx(cap / 100, abs=0.02)


def test_a_capped_domain_that_waits_for_ever_leaves_the_machine_idle() -> None:
    with Booted() as machine:
        domain = machine.boot(1, IDLE)
        machine.hypervisor.scheduler.set_share(domain, 256, 10)
        assert machine.run(1000) is End.IDLE


def test_who_yields_lets_all_others_run_first() -> None:
    with Booted() as machine:
        yielding, busy = machine.boot(1, YIELDING), machine.boot(2, BUSY)
        machine.run(500)
        assert ran(busy) > 20 * ran(yielding) > 0


def test_the_same_domains_get_the_same_turns_in_every_run() -> None:
    def times() -> list[int]:
        with Booted() as machine:
            domains = [machine.boot(1, BUSY), machine.boot(2, YIELDING, vcpus=2), machine.boot(3, IDLE)]
            machine.run(200)
            return [ran(domain) for domain in domains]

    assert times() == times()


def test_a_paused_domain_does_not_run_until_it_was_unpaused_as_often() -> None:
    with Booted() as machine:
        domain = machine.boot(1, BUSY)
        machine.run(10)
        machine.domctl.pause(domain)
        machine.domctl.pause(domain)
        before = ran(domain)
        assert machine.run(50) is End.IDLE
        machine.domctl.unpause(domain)
        assert machine.run(50) is End.IDLE
        assert ran(domain) == before
        machine.domctl.unpause(domain)
        assert machine.run(50) is End.DEADLINE
        assert ran(domain) > before


def test_unpausing_a_domain_that_is_not_paused_changes_nothing() -> None:
    with Booted() as machine:
        domain = machine.boot(1, BUSY)
        machine.domctl.unpause(domain)
        machine.domctl.pause(domain)
        assert machine.run(10) is End.IDLE


def test_every_nanosecond_of_a_vcpu_is_in_one_runstate() -> None:
    with Booted() as machine:
        domains = [machine.boot(1, BUSY), machine.boot(2, IDLE), machine.boot(3, BUSY)]
        states = [domain.vcpus[0].runstate for domain in domains]
        start = machine.hypervisor.system_time()
        counted = [sum(state.until(start)) for state in states]
        machine.run(100)
        now = machine.hypervisor.system_time()
        assert [sum(state.until(now)) for state in states] == [before + now - start for before in counted]
        assert states[1].state == RUNSTATE_blocked
        assert {states[0].state, states[2].state} <= {RUNSTATE_runnable}
        machine.domctl.pause(domains[0])
        assert states[0].state == RUNSTATE_offline


def test_waking_a_domain_takes_the_processor_from_a_busy_one_after_the_ratelimit() -> None:
    with Booted() as machine:
        machine.boot(1, BUSY)
        waiting = machine.boot(2, SLEEPER)
        machine.run(1000)
        # Every 20 ms, with 1 ms at most until the busy one has had its least turn.
        assert 47 <= machine.word(waiting, "count") <= 50
        assert waiting.vcpus[0].runstate.times[RUNSTATE_runnable] < 50 * 1_100_000
