"""Hundreds of domains: there is memory for all of them, and who has nothing to do costs nothing."""

import sys
from types import FrameType

import pytest
from booted import Booted
from test_scheduler import BUSY, IDLE, YIELDING, ran

from guestkit import assemble
from pvemu import Machine, Outcome
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.core import MIB, Hypervisor, overhead
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import PAGE_SIZE
from pvemu.toolstack.guest_config import GuestConfig

DOMAINS = 256
PASSES_ON = """
guest "passes on"
include "start.gk"
include "print.gk"
section .text
main:   hypercall sched_op, SCHEDOP_yield, 0
        print "here"
        ret
"""


def test_a_machine_runs_256_domains_and_gets_everything_back() -> None:
    image = assemble(PASSES_ON).elf
    consoles = [bytearray() for _ in range(DOMAINS)]
    guests = [GuestConfig(image, f"guest {number}", memory=4) for number in range(DOMAINS)]
    with Machine(guests, machine_memory=1100, consoles=[each.extend for each in consoles]) as machine:
        before = machine.hypervisor.free_xen_frames
        assert machine.run().outcome is Outcome.POWEROFF
        assert all(each == b"here" for each in consoles)
        assert machine.hypervisor.free_xen_frames > before
        Auditor(machine.hypervisor).audit()


def test_the_hypervisor_takes_the_domains_memory_when_its_own_is_used_up_and_gives_it_back() -> None:
    hypervisor = Hypervisor(32)
    own, free = hypervisor.free_xen_frames, hypervisor.heap.free_frames
    frames = [hypervisor.allocate_xen_page() for _ in range(own + 100)]
    assert len(set(frames)) == own + 100
    assert all(map(hypervisor.is_special_page, frames))
    assert hypervisor.heap.free_frames == free - 100
    assert not any(hypervisor.frames.get_page(mfn, 0) for mfn in frames)
    for mfn in frames:
        hypervisor.free_xen_page(mfn)
    assert (hypervisor.free_xen_frames, hypervisor.heap.free_frames) == (own, free)
    assert not hypervisor.is_special_page(hypervisor.heap.allocate(1))


@pytest.mark.parametrize("memory", [16, 1024, 2048, 2050, 4096])
def test_the_domains_can_have_all_of_a_machine_but_the_overhead(memory: int) -> None:
    hypervisor = Hypervisor(memory)
    assert hypervisor.heap.free_frames * PAGE_SIZE == (memory - overhead(memory)) * MIB
    hypervisor.cpu.close()


def test_a_guest_of_two_gigabytes_gets_a_machine_that_it_fits_into() -> None:
    with Machine([GuestConfig(assemble(PASSES_ON).elf, memory=2048)]) as machine:
        assert machine.domain.pages * PAGE_SIZE == 2048 * MIB


def test_a_machine_without_any_memory_left_says_so() -> None:
    hypervisor = Hypervisor(32)
    for _ in range(hypervisor.free_xen_frames + hypervisor.heap.free_frames):
        hypervisor.allocate_xen_page()
    with pytest.raises(OutOfFrames):
        hypervisor.allocate_xen_page()


def calls_of_a_run(idle: int) -> int:
    """How many functions Python enters while one guest yields for a millisecond and so many others sleep."""
    sleeps, yields = assemble(IDLE).elf, assemble(YIELDING).elf
    guests = [GuestConfig(sleeps, f"idle {number}", memory=4) for number in range(idle)]
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    with Machine([*guests, GuestConfig(yields, "busy", memory=4)], machine_memory=300) as machine:
        machine.run(seconds=0.1)
        sys.setprofile(count)
        try:
            machine.run(seconds=0.001)
        finally:
            sys.setprofile(None)
    return calls


def test_a_turn_costs_the_same_however_many_domains_sleep() -> None:
    few, many = calls_of_a_run(idle=2), calls_of_a_run(idle=60)
    assert few > 1000
    # At the end it is looked once whether any domain is left.
    assert many - few <= 60


def test_a_guest_that_writes_to_its_console_without_ringing_is_heard() -> None:
    source = """
guest "quiet"
include "start.gk"
section .text
main:   mov esi, [start_info_address]
        mov eax, [esi + start_info.console.domU.mfn]
        call page_of_frame
        mov edi, eax
        mov byte [edi + xencons_interface.out], 'x'
        mov dword [edi + xencons_interface.out_prod], 1
        hypercall sched_op, SCHEDOP_yield, 0
        cmp dword [edi + xencons_interface.out_cons], 1
        jne $
        ret
"""
    with Machine(assemble(source).elf, memory=8) as machine:
        assert machine.run(seconds=1).outcome is Outcome.POWEROFF
        assert machine.console_bytes == b"x"


def test_who_was_alone_for_long_does_not_wait_for_as_long_when_another_comes() -> None:
    with Booted() as machine:
        old, new = machine.boot(1, BUSY), machine.boot(2, BUSY)
        machine.domctl.pause(new)
        machine.run(100)
        before = ran(old)
        machine.domctl.unpause(new)
        machine.run(60)
        assert ran(old) - before == pytest.approx(30_000_000, rel=0.35)
        assert ran(new) == pytest.approx(30_000_000, rel=0.35)
