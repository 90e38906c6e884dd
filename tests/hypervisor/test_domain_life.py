"""The end of a domain: who is told, and that everything it had comes back."""

import pytest
from booted import Booted

from pvemu.abi.errors import HypercallError
from pvemu.abi.sched import SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_watchdog
from pvemu.abi.xen import VIRQ_CONSOLE, VIRQ_DOM_EXC
from pvemu.hypervisor import event_channel
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.core import End
from pvemu.hypervisor.event_ports import State

LIBRARY = """
include "start.gk"
include "print.gk"
include "events.gk"
include "tables.gk"
include "program.gk"
"""
#: Leaves behind pinned tables, queues, a moved vcpu_info, an LDT and a GDT, timers and pending events.
HOARDER = f"""
guest "hoarder"
{LIBRARY}
macro frame_of label
        mov eax, label - 0xC0000000
        shr eax, PAGE_SHIFT
        mov ebx, [start_info_address]
        mov ebx, [ebx + start_info.mfn_list]
        mov eax, [ebx + eax*4]
endmacro
section .text
main:
        frame_of block
        mov [control + evtchn_init_control.control_gfn], eax
        hypercall event_channel_op, EVTCHNOP_init_control, control
        frame_of array
        mov [array_request], eax
        hypercall event_channel_op, EVTCHNOP_expand_array, array_request
        frame_of info
        mov [info_request + vcpu_register_vcpu_info.mfn], eax
        hypercall vcpu_op, VCPUOP_register_vcpu_info, 0, info_request
        mov dword [ipi], 0
        hypercall event_channel_op, EVTCHNOP_bind_ipi, ipi
        mov eax, [ipi + 4]
        mov [port], eax
        hypercall event_channel_op, EVTCHNOP_send, port
        hypercall sched_op, SCHEDOP_watchdog, watchdog
        inc dword [ready]
        jmp $
section .data
align 8
control: reserve sizeof(evtchn_init_control), 0
array_request: dq 0
info_request: reserve sizeof(vcpu_register_vcpu_info), 0
ipi:    dd 0, 0
port:   dd 0
ready:  dd 0
watchdog: dd 0, 1
section .pages, align=4096
block:  reserve 4096, 0
array:  reserve 4096, 0
info:   reserve 4096, 0
"""
STOPS = """
guest "stops"
section .text
start:  hypercall sched_op, SCHEDOP_shutdown, why
        jmp start
section .data
why:    dd SHUTDOWN_poweroff
"""
UD2 = 'guest "ud2"\nsection .text\nstart: ud2'


def free_frames(machine: Booted) -> tuple[int, int]:
    hypervisor = machine.hypervisor
    return hypervisor.heap.free_frames, hypervisor.free_xen_frames


def test_all_that_a_domain_had_comes_back_when_it_is_destroyed() -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        auditor, before = Auditor(machine.hypervisor), free_frames(machine)
        domain = machine.boot(1, HOARDER, vcpus=2)
        machine.run(100)
        assert machine.word(domain, "ready") == 1
        auditor.audit()
        machine.domctl.destroy(domain)
        auditor.audit()
        assert 1 not in machine.hypervisor.domains
        assert free_frames(machine) == before
        assert machine.run(5000) is End.ALL_DOWN


def test_a_domain_can_be_destroyed_again_and_again_under_the_same_number() -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        before = free_frames(machine)
        for _ in range(3):
            domain = machine.boot(1, HOARDER)
            machine.run(20)
            machine.domctl.destroy(domain)
        assert free_frames(machine) == before


def test_ports_of_others_that_led_to_a_dead_domain_are_unbound_again() -> None:
    with Booted() as machine:
        left, dying = machine.boot(1, HOARDER), machine.boot(2, HOARDER)
        offered = event_channel.alloc_unbound(left, 1, 2)
        event_channel.bind_interdomain(dying, 1, offered)
        machine.domctl.destroy(dying)
        assert left.channels[offered].state is State.UNBOUND
        assert event_channel.send(left, offered) == 0


def test_a_frame_that_another_domain_has_mapped_keeps_a_dead_domain_on_the_list() -> None:
    with Booted() as machine:
        domain = machine.boot(1, HOARDER)
        types, mfn = machine.hypervisor.page_types, domain.vcpus[0].cr3
        assert machine.hypervisor.frames.get_page(mfn, 1)
        machine.domctl.destroy(domain)
        assert machine.hypervisor.domains[1] is domain
        assert domain.pages == 1
        with pytest.raises(HypercallError):
            event_channel.alloc_unbound(domain, 1, 0)
        types.put_page(mfn)
        assert 1 not in machine.hypervisor.domains


@pytest.mark.parametrize(("guest", "reason"), [(STOPS, SHUTDOWN_poweroff), (UD2, SHUTDOWN_crash)])
def test_domain_0_is_told_when_a_domain_stops_and_when_it_is_gone(guest: str, reason: int) -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        told: list[int | None] = []
        domain = machine.boot(1, guest)
        machine.domctl.bind_virq(VIRQ_DOM_EXC, lambda: told.append(domain.shutdown_reason))
        machine.boot(2, HOARDER)
        machine.run(100)
        assert told == [reason]
        machine.domctl.destroy(domain)
        machine.run(1)
        assert len(told) > 1


def test_a_watchdog_that_is_not_set_anew_ends_its_domain() -> None:
    with Booted() as machine:
        domain = machine.boot(1, HOARDER)
        assert machine.run(900) is End.DEADLINE
        assert machine.run(200) is End.ALL_DOWN
        assert domain.shutdown_reason == SHUTDOWN_watchdog


def test_a_suspended_domain_goes_on_when_it_is_resumed() -> None:
    suspends = (
        'guest "suspends"\nsection .text\nstart: hypercall sched_op, SCHEDOP_shutdown, why\n'
        "inc dword [after]\njmp $\nsection .data\nwhy: dd SHUTDOWN_suspend\nafter: dd 0"
    )
    with Booted() as machine:
        domain = machine.boot(1, suspends)
        assert machine.run(10) is End.ALL_DOWN
        domain.resume()
        assert machine.run(10) is End.DEADLINE
        assert machine.word(domain, "after") == 1


def test_a_global_virtual_interrupt_that_was_moved_can_be_closed_and_bound_again() -> None:
    with Booted() as machine:
        domain = machine.boot(1, STOPS, vcpus=2)
        port = event_channel.bind_virq(domain, VIRQ_CONSOLE, 0)
        event_channel.bind_vcpu(domain, port, 1)
        event_channel.close(domain, port)
        again = event_channel.bind_virq(domain, VIRQ_CONSOLE, 0)
        assert (again, domain.channels[again].vcpu) == (port, 0)


def test_the_end_of_a_vcpu_that_never_had_registers_is_no_different() -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        before = free_frames(machine)
        machine.domctl.destroy(machine.domctl.create_domain(5, privileged=False, pages=16, vcpus=40))
        assert free_frames(machine) == before
