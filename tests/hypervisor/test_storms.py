"""Guests that go from exit to exit without any code: their time passes, and others get theirs."""

from typing import Final

import pytest

from guestkit import assemble
from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

MILLISECOND: Final = 1_000_000
SECONDS: Final = 0.025
#: A turn may go on for so many ns behind its end: one exit, and what it has to finish.
_LATE: Final = 300_000

_NEIGHBOUR: Final = 'guest "neighbour"\nsection .text\nstart: jmp start\n'

#: A stack of 64 KiB that goes round, and gates that let interrupts in.
_HVM: Final = """
guest "storm", target=hvm32
include "start.gk"
include "ports.gk"
include "xen.gk"
FIRST equ 0x20
section .text
main:   call xen_open
        lgdt [segments]
        jmp 8:.own
.own:   mov eax, 16
        mov ds, eax
        mov es, eax
        mov ss, eax
        {prepare}
        lidt [gates_place]
        mov eax, 24
        mov ss, eax
        mov esp, 0xfff0
        {act}
.rest:  jmp .rest
handler: {handler}
section .data
align 8
descriptors: dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x000093080000ffff
segments: dw 31
        dd descriptors
gates:
rept 256, number
        dw ({gate}) & 0xffff, 8, 0x8f00, ({gate}) >> 16
endrept
gates_place: dw 0x7ff
        dd gates
"""
_CALLBACK: Final = """mov byte [shared_info_page + shared_info.vcpu_info[0].evtchn_upcall_pending], 1
        mov eax, HVM_PARAM_CALLBACK_IRQ
        mov ecx, {low}
        mov edx, {high}
        call set_xen_param"""
_VECTOR: Final = _CALLBACK.format(low=0x40, high="HVM_PARAM_CALLBACK_TYPE_VECTOR << 24")
_LEVEL_LINE: Final = (
    _CALLBACK.format(low=5, high=0)
    + """
        out_byte PIC1_COMMAND, PIC_ICW1
        out_byte PIC1_DATA, FIRST
        out_byte PIC1_DATA, 1 << IRQ_CASCADE
        out_byte PIC1_DATA, PIC_ICW4_8086 | 2   ; each interrupt ends by itself
        mov dx, 0x4d0
        mov al, 1 << 5
        out dx, al                              ; and is there as long as the line is high
        out_byte PIC1_DATA, 0xff & ~(1 << 5)"""
)
#: lock bts eax, eax
_NO_CODE: Final = "db 0xf0, 0x0f, 0xab, 0xc0"
_HVM_STORMS: Final = {
    "an upcall that is never taken": {"prepare": _VECTOR, "act": "sti"},
    "a line that stays high": {"prepare": _LEVEL_LINE, "act": "sti"},
    "handlers where nothing is": {"act": "ud2", "gate": "0xc0000000"},
    "handlers that can't be translated": {"act": "ud2", "handler": _NO_CODE},
    "strings to a device": {"act": "mov edi, 0xfee00ff0\nmov ecx, -1\nxor eax, eax\nrep stosb"},
}
_PV: Final = """
guest "storm"
section .text
start:  hypercall set_trap_table, traps
        mov esp, stack_top
        mov eax, {handler}
        jmp eax
section .rodata
traps:  db EXCEPTION_PF, 0
        dw FLAT_KERNEL_CS
        dd {handler}
        db EXCEPTION_UD, 0
        dw FLAT_KERNEL_CS
        dd {handler}
        dd 0, 0
EXCEPTION_PF equ 14
EXCEPTION_UD equ 6
section .text
untranslatable: db 0xf0, 0x0f, 0xab, 0xc0
section .bss
stack:  reserve 3000000
stack_top:
"""
_PV_STORMS: Final = {
    "handlers where nothing is": 0x70000000,
    "handlers that can't be translated": "untranslatable",
}


def run(source: str, paging: Paging | None, options: dict[str, str]) -> None:
    plans = [
        GuestConfig(assemble(source).elf, name="storm", memory=8, paging=paging),
        GuestConfig(assemble(_NEIGHBOUR).elf, name="neighbour", memory=4),
    ]
    with Machine(plans, machine_memory=48, **options) as machine:  # type: ignore[arg-type]
        began = machine.hypervisor.system_time()
        result = machine.run(SECONDS)
        assert result.outcome is Outcome.DEADLINE, machine.log_lines
        assert result.nanoseconds - began < SECONDS * 1000 * MILLISECOND + _LATE
        running = [guest.domain.vcpus[0].runstate.times[0] for guest in machine.guests]
        # Turns are of 10 ms, the storm has the first.
        assert min(running) > 9 * MILLISECOND, machine.log_lines
        Auditor(machine.hypervisor).audit()


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("storm", _HVM_STORMS)
def test_a_storm_in_an_hvm_guest_takes_no_more_than_its_time(
    storm: str, paging: Paging, machine_options: dict[str, str]
) -> None:
    parts = {"prepare": "", "handler": "jmp handler", "gate": "handler", **_HVM_STORMS[storm]}
    run(_HVM.format(**parts), paging, machine_options)


@pytest.mark.parametrize("storm", _PV_STORMS)
def test_a_storm_in_a_pv_guest_takes_no_more_than_its_time(
    storm: str, machine_options: dict[str, str]
) -> None:
    run(_PV.format(handler=_PV_STORMS[storm]), None, machine_options)
