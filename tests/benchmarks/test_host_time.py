"""With --tsc host a guest sees the host's time go by; without it, it sees none of that."""

from typing import Any

import pytest

from guestkit import assemble
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.machine import Machine, Outcome

# Prints whether the time-stamp counter and the system time, which has another reading in it, agree.
_GUEST = """
guest "time"
include "start.gk"
include "print.gk"
include "time.gk"
section .text
main:
        rdtsc
        mov esi, eax
        mov edi, edx
        call system_time
        sub eax, esi
        sbb edx, edi
        jc .behind
        test edx, edx
        jnz .behind
        cmp eax, 1_000_000_000
        ja .behind
        print "close\\n"
        ret
.behind:
        print "apart\\n"
        ret
"""


def _run(machine: Machine) -> str:
    with machine:
        assert machine.run().outcome is Outcome.POWEROFF
        return machine.console_bytes.decode()


def test_system_time_and_counter_agree_in_the_hosts_time(machine_options: Any) -> None:
    machine = Machine([GuestConfig(assemble(_GUEST).elf, memory=16)], **machine_options)
    now = iter(range(1 << 40, 1 << 62, 1000))
    machine.hypervisor.host_clock = lambda: next(now)
    assert _run(machine) == "close\n"


def test_the_hosts_time_is_what_the_guest_reads(machine_options: Any) -> None:
    source = """
guest "time"
include "start.gk"
include "print.gk"
section .text
main:   rdtsc
        mov eax, edx
        call print_decimal
        ret
"""
    machine = Machine([GuestConfig(assemble(source).elf, memory=16)], **machine_options)
    machine.hypervisor.host_clock = lambda: 77 << 32
    assert _run(machine) == "77"


@pytest.mark.parametrize("shown", [False, True])
def test_the_clock_of_the_machine_does_not_depend_on_what_is_shown(shown: bool, machine_options: Any) -> None:
    times = []
    for _ in range(2):
        machine = Machine([GuestConfig(assemble(_GUEST).elf, memory=16)], **machine_options)
        if shown:
            machine.show_host_time()
        with machine:
            times.append(machine.run().nanoseconds)
    assert times[0] == times[1]
