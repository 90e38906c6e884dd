"""The time-stamp counter, as a guest reads it."""

from collections.abc import Callable

from guestkit import assemble
from pvemu import Machine
from pvemu.toolstack.machine import Outcome

MakeMachine = Callable[..., Machine]


def test_rdtscp_is_not_rdtsc(make_machine: MakeMachine) -> None:
    """Both are one exit of the engine, but the third byte of RDTSCP is part of it, and it sets ECX."""
    source = """
guest "tsc"
section .text
start:  clc
        mov ecx, 77
        rdtscp
        setc al
        mov [carry], al
        mov [aux], ecx
        db 0x66
        rdtsc
        hypercall sched_op, SCHEDOP_shutdown, reason
section .data
reason: dd SHUTDOWN_poweroff
carry:  dd 99
aux:    dd 99
"""
    image = assemble(source)
    machine = make_machine(image.elf, memory=8)
    assert machine.run(1).outcome is Outcome.POWEROFF, machine.log_lines
    memory = machine.domain.memory
    assert (memory.read_u32(image.symbols["carry"]) & 0xFF, memory.read_u32(image.symbols["aux"])) == (0, 0)
