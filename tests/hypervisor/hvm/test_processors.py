"""Messages between the local APICs of vCPUs: INIT, start-up and NMI do what they do to a PC's processors."""

from typing import Any, Final

import pytest
from company import play
from processor_guests import FOLDER, lines_of

from guestkit import assemble
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

#: Of virtual time; the guest takes half of it.
_SECONDS: Final = 1
_OPENING: Final = """
guest "processors", target=hvm32
include "start.gk"
include "print.gk"
include "traps.gk"
LAPIC_COMMAND equ 0xfee00300
INIT_ALL equ 0x84500
INIT_OTHERS equ 0xc4500
STARTUP_OTHERS equ 0xc4606
TIME_STAMP_COUNTER equ 0x10
NMI_VECTOR equ 2
section .text
"""
_RESET_OF_ALL: Final = """
main:   print "all are reset\\n"
        mov dword [LAPIC_COMMAND], INIT_ALL
        print "nobody is left to say this\\n"
        ret
"""
#: The other one stores the upper half of its time-stamp counter, and halts: code of 16 bits.
_TIME_STAMPS: Final = """
main:   mov edi, 0x6000
        mov esi, other
        mov ecx, other_end - other
        rep movsb
        mov ecx, TIME_STAMP_COUNTER
        mov edx, 0x500
        wrmsr
        mov dword [0x5000], 0
        mov dword [LAPIC_COMMAND], INIT_OTHERS
        mov dword [LAPIC_COMMAND], STARTUP_OTHERS
.wait:  pause
        mov eax, [0x5000]
        test eax, eax
        jz .wait
        jmp print_short_hex
other:  db 0x0f, 0x31                           ; rdtsc
        db 0x66, 0x89, 0x16, 0x00, 0x50         ; mov [0x5000], edx
        db 0xf4                                 ; hlt
other_end:
"""
_OWN_NMI: Final = """
main:   call traps_open
        set_handler NMI_VECTOR, on_nmi
        mov eax, __HYPERVISOR_vcpu_op
        mov ebx, VCPUOP_send_nmi
        xor ecx, ecx
        xor edx, edx
        vmmcall
        mov edx, [nmis]                         ; before anything else could bring it
        call print_signed
        print ", "
        mov eax, edx
        call print_decimal
        ret
on_nmi: inc dword [nmis]
        ret
section .data
nmis:   dd 0
"""

_both_pagings = pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])


def _played(source: str, paging: Paging, machine_options: Any, *, vcpus: int) -> tuple[str, Outcome]:
    config = GuestConfig(assemble(_OPENING + source).elf, name="guest", memory=8, paging=paging, vcpus=vcpus)
    played = play(config, machine_options=machine_options)
    return played.texts[0], played.result.outcome


@_both_pagings
def test_a_second_processor_is_started_woken_and_reset_as_on_a_pc(
    paging: Paging, machine_options: dict[str, str]
) -> None:
    lines, outcome = lines_of("processors", paging, machine_options, seconds=_SECONDS, vcpus=2)
    assert lines == (FOLDER / "recorded/processors.txt").read_text().splitlines()
    assert outcome is Outcome.POWEROFF


@_both_pagings
@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_guest_that_resets_all_its_processors_powers_off(
    vcpus: int, paging: Paging, machine_options: Any
) -> None:
    # Xen: vlapic_init_sipi_one takes each of them down, and with the last one the domain (hvm_vcpu_down).
    text, outcome = _played(_RESET_OF_ALL, paging, machine_options, vcpus=vcpus)
    assert (text, outcome) == ("all are reset\n", Outcome.POWEROFF)


def test_a_processor_starts_with_the_time_stamps_of_the_first_one(machine_options: Any) -> None:
    # Xen: hvm_vcpu_reset_state gives it vCPU 0's offset.
    text, outcome = _played(_TIME_STAMPS, Paging.NESTED, machine_options, vcpus=2)
    assert (text, outcome) == ("500", Outcome.POWEROFF)


@_both_pagings
def test_an_nmi_that_a_guest_sends_itself_comes_with_the_end_of_the_hypercall(
    paging: Paging, machine_options: Any
) -> None:
    text, outcome = _played(_OWN_NMI, paging, machine_options, vcpus=1)
    assert (text, outcome) == ("0, 1", Outcome.POWEROFF)
