"""Hypercalls of HVM guests that take long: they stop for the deadline and go on, in both widths of code."""

from typing import Any, Final

import pytest

from guestkit import assemble
from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.machine import Outcome

#: Gives pages back, takes them again and asks for them in one batch; the entry behind the list is a hole.
_GUEST: Final = """
guest "long hypercalls"
include "start.gk"
include "print.gk"
PAGES equ 600
FIRST equ 0x400000 >> PAGE_SHIFT
HOLE equ 0xffffff
if target(hvm64)
WIDTH equ 8
else
WIDTH equ 4
endif

macro call_xen name, number, first, second
        print name
        mov eax, number
if target(hvm64)
        mov edi, first
        mov esi, second
else
        mov ebx, first
        mov ecx, second
endif
        vmmcall
        print " "
        call print_signed
        print "\\n"
endmacro

section .text
main:   mov edi, list
        mov ecx, PAGES
        mov eax, FIRST
.next:
        mov [edi], eax
        add edi, WIDTH
        inc eax
        loop .next
        mov dword [reservation + WIDTH], PAGES
        mov dword [reservation], list
        mov word [reservation + 2 * WIDTH + 8], DOMID_SELF
        call_xen "decrease", __HYPERVISOR_memory_op, XENMEM_decrease_reservation, reservation
        call_xen "populate", __HYPERVISOR_memory_op, XENMEM_populate_physmap, reservation
        mov dword [list + PAGES * WIDTH], HOLE
        mov dword [reservation + WIDTH], PAGES + 1
        call_xen "decrease one too many", __HYPERVISOR_memory_op, XENMEM_decrease_reservation, reservation
        mov dword [reservation + WIDTH], PAGES
        call_xen "populate again", __HYPERVISOR_memory_op, XENMEM_populate_physmap, reservation
        mov dword [FIRST << PAGE_SHIFT], 1234
        mov eax, [FIRST << PAGE_SHIFT]
        call print_decimal
        ret

section .bss
align 8
reservation: reserve 64
list:   reserve (PAGES + 1) * 8
"""
_TOLD: Final = "decrease 600\npopulate 600\ndecrease one too many 600\npopulate again 600\n1234"


@pytest.mark.parametrize("microseconds", [3, 50])
@pytest.mark.parametrize("target", ["hvm32", "hvm64"])
def test_a_hypercall_that_is_stopped_again_and_again_has_the_same_outcome(
    target: str, microseconds: int, machine_options: Any
) -> None:
    plan = GuestConfig(assemble(_GUEST, target=target).elf, name="guest", memory=8)
    with Machine([plan], **machine_options) as whole:
        assert whole.run(1).outcome is Outcome.POWEROFF
        assert whole.console_bytes.decode() == _TOLD
    with Machine([plan], **machine_options) as machine:
        while (run := machine.run(microseconds / 1e6)).outcome is Outcome.DEADLINE:
            pass
        assert run.outcome is Outcome.POWEROFF
        assert machine.console_bytes.decode() == _TOLD
        assert sum(machine.hypervisor.counters) > sum(whole.hypervisor.counters)
        Auditor(machine.hypervisor).audit()
