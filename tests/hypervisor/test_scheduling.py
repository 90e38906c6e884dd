"""Ends of a guest, waiting, and the one-shot timer: what a guest asks for by sched_op and set_timer_op."""

from collections.abc import Callable

import pytest

from guestkit import assemble
from pvemu import Machine
from pvemu.toolstack.machine import Outcome

MakeMachine = Callable[..., Machine]
_DATA = "\nsection .data\nreason: dd {reason}\nseen: dd 0\n"
MILLISECOND = 1_000_000


def source(body: str, reason: int = 0) -> str:
    return f'guest "scheduling"\nsection .text\nstart:\n{body}\nafter: jmp after' + _DATA.format(
        reason=reason
    )


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (0, Outcome.POWEROFF),
        (1, Outcome.REBOOT),
        (2, Outcome.SUSPEND),
        (3, Outcome.CRASH),
        (4, Outcome.CRASH),
    ],
)
@pytest.mark.parametrize("compat", [False, True])
def test_a_shutdown_ends_the_run_with_its_reason(
    make_machine: MakeMachine, reason: int, outcome: Outcome, compat: bool
) -> None:
    body = (
        f"hypercall sched_op_compat, SCHEDOP_shutdown, {reason}"
        if compat
        else "hypercall sched_op, SCHEDOP_shutdown, reason, 0"
    )
    result = make_machine(source(body, reason), memory=8).run(1)
    assert (result.outcome, result.reason) == (outcome, reason)


def test_nothing_runs_after_a_shutdown(make_machine: MakeMachine) -> None:
    text = source("hypercall sched_op, SCHEDOP_shutdown, reason, 0\nmov dword [seen], 1")
    image = assemble(text)
    machine = make_machine(image.elf, memory=8)
    machine.run(1)
    assert machine.domain.memory.read_u32(image.symbols["seen"]) == 0


def test_the_first_announced_reason_is_the_one_that_counts(make_machine: MakeMachine) -> None:
    body = (
        "hypercall sched_op, SCHEDOP_shutdown_code, reason, 0\n"
        "mov dword [reason], 0\n"
        "hypercall sched_op, SCHEDOP_shutdown_code, reason, 0\n"
        "hypercall sched_op, SCHEDOP_shutdown, reason, 0"
    )
    assert make_machine(source(body, 1), memory=8).run(1).outcome is Outcome.REBOOT


def test_an_endless_loop_ends_at_the_deadline(make_machine: MakeMachine) -> None:
    result = make_machine(source("nop"), memory=8).run(0.05)
    assert result.outcome is Outcome.DEADLINE
    assert 50 * MILLISECOND <= result.nanoseconds < 51 * MILLISECOND


def test_a_guest_that_only_makes_hypercalls_ends_at_the_deadline(make_machine: MakeMachine) -> None:
    result = make_machine(source("again: hypercall xen_version, 0, 0\njmp again"), memory=8).run(0.02)
    assert result.outcome is Outcome.DEADLINE


@pytest.mark.parametrize("command", ["SCHEDOP_yield", "SCHEDOP_block"])
def test_a_guest_that_only_yields_or_blocks_is_stopped_at_the_deadline_or_known_to_be_idle(
    make_machine: MakeMachine, command: str
) -> None:
    result = make_machine(source(f"again: hypercall sched_op, {command}, 0, 0\njmp again"), memory=8).run(
        0.02
    )
    assert result.outcome in (Outcome.DEADLINE, Outcome.IDLE)


BLOCK = """
        hypercall set_callbacks, 0xe019, upcall, 0xe019, upcall
        hypercall vcpu_op, VCPUOP_stop_periodic_timer, 0, 0
        mov ebx, EVTCHNOP_bind_virq
        mov ecx, bind
        mov eax, __HYPERVISOR_event_channel_op
        int 0x82
        xor ecx, ecx
        mov ebx, {delay}
        mov eax, __HYPERVISOR_set_timer_op
        int 0x82
        hypercall sched_op, SCHEDOP_block, 0, 0
        jmp $
upcall: hypercall sched_op, SCHEDOP_shutdown, reason, 0
section .data
bind:   dd VIRQ_TIMER, 0, 0
section .text
"""


def test_a_blocked_guest_is_called_up_when_its_timer_expires(make_machine: MakeMachine) -> None:
    delay = 7 * MILLISECOND
    text = source(BLOCK.format(delay=delay))
    result = make_machine(text, memory=8).run(1)
    assert result.outcome is Outcome.POWEROFF
    assert delay <= result.nanoseconds < delay + MILLISECOND


def test_time_passes_at_once_while_everybody_waits(make_machine: MakeMachine) -> None:
    text = source(BLOCK.format(delay=4_000_000_000))
    result = make_machine(text, memory=8).run(10)
    assert result.outcome is Outcome.POWEROFF
    assert result.nanoseconds >= 4_000_000_000
