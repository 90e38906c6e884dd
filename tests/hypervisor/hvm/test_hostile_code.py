"""No HVM guest takes the process down by what it does with devices and the processor.

Each guest here comes to a defined end: it goes on to power off, shuts down by a triple fault (a reboot), is
crashed with a reason, or runs until its time is up. Counts and shadows are right after each of them.
"""

from typing import Final

import pytest
from hostile_guest import (
    ENDS,
    HOLE,
    HOLE_FRAME,
    LAPIC,
    LAPIC_FRAME,
    MEMORY,
    ROOT,
    UNMAPPED,
    Hostile,
    Options,
    every_variant,
)
from page_table_guest import Code, Run, Variant
from page_table_kernel import DATA, FIRST, SHARED

from guestkit import assemble
from pvemu.abi import sched
from pvemu.cpu import exits
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Machine, Outcome

# --- devices -------------------------------------------------------------------------------------

_STRINGS: Final = """
        cld
        lea $si, [$bp + 0xff8]          ; from memory over the edge into what is none, and back
        mov $di, $dx
        mov ecx, 0x20
        rep movsb
        mov $si, $dx
        lea $di, [$bp + 0x100]
        mov ecx, 0x40
        rep movsd
        mov $di, $dx
        mov ecx, 0x500
        mov eax, ecx
        rep stosd
        mov $di, $dx
        mov ecx, 0x10
        repne scasb
        mov $si, $dx
        mov $di, $dx
        mov ecx, 0x10
        repe cmpsw
        std
        lea $si, [$bp + 0x400]
        lea $di, [$bp + 0xffc]
        mov ecx, 0x480
        rep movsd
        cld
        mov eax, 1
        ret
"""


@every_variant
def test_string_instructions_may_go_over_devices(variant: Variant, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.map_frame(MEMORY + 1, HOLE_FRAME)
        guest.map_frame(MEMORY - 1, HOLE_FRAME)
        for page in (HOLE, LAPIC, MEMORY + 1):
            places = f"mov $bp, {guest.at(MEMORY):#x}\nmov $dx, {guest.at(page):#x}\n"
            guest.call(places + _STRINGS)
        assert guest.end() in ENDS, run.machine.log_lines


@every_variant
def test_no_device_has_code(variant: Variant, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        # The last of them begins in memory.
        places = (guest.at(HOLE), guest.at(HOLE) + 0xFFF, guest.at(HOLE) - 1)
        guest.kernel.map(FIRST, HOLE - 1, DATA[3], SHARED)
        guest.write(run.frames[DATA[3]], 0xFFF, b"\x0f")
        at = []
        for number in (LAPIC_FRAME, HOLE_FRAME, 0xFEC00, 0xFFFFF):
            guest.map_frame(HOLE, number)
            guest.do(Code.FLUSH_ALL)
            at += [guest.do(code, place) for code in (Code.KERNEL_FETCH, Code.USER_FETCH) for place in places]
        assert guest.end() is Outcome.POWEROFF
        assert {(run.results[each].vector, run.results[each].error_code) for each in at} == {(exits.GP, 0)}


_PORTS: Final = {
    "in": "xor edx, edx\n.next:\nin al, dx\nin eax, dx\nadd edx, 7\ncmp edx, 0x10000\njb .next",
    "out": "xor edx, edx\nmov eax, 0x5a\n.next:\nout dx, al\nout dx, eax\nadd edx, 7\ncmp edx, 0x10000\n"
    "jb .next",
    "ins": "xor edx, edx\n.next:\nmov $di, $bp\nmov ecx, 9\nrep insd\nmov ecx, 9\nrep insb\nadd edx, 31\n"
    "cmp edx, 0x10000\njb .next",
    "outs": "xor edx, edx\n.next:\nmov $si, $bp\nmov ecx, 9\nrep outsd\nmov ecx, 9\nrep outsw\nadd edx, 31\n"
    "cmp edx, 0x10000\njb .next",
    "into devices": "mov edx, 0x40\nlea $di, [$bp - 8]\nmov ecx, 9\nrep insd",
    "out of devices": "mov edx, 0x80\nlea $si, [$bp - 0x1000]\nmov ecx, 9\nrep outsd",
}


@pytest.mark.parametrize("storm", _PORTS)
@every_variant
def test_a_storm_on_all_ports_passes(variant: Variant, storm: str, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.map_frame(MEMORY - 1, HOLE_FRAME)
        guest.call(f"mov $bp, {guest.at(MEMORY):#x}\n{_PORTS[storm]}\nmov eax, 1\nret")
        outcome = guest.end(1.0)
        assert outcome in ENDS
        assert storm not in ("in", "ins") or outcome is Outcome.POWEROFF, run.machine.log_lines


# --- ends ----------------------------------------------------------------------------------------

_LOOPS: Final = {
    "nothing": ".again: jmp .again",
    "a device": ".again: mov [$bp], eax\njmp .again",
    "loads of cr3": "mov $ax, cr3\n.again: mov cr3, $ax\njmp .again",
    "flushes": ".again: invlpg [$bp]\nmov eax, [$bx]\njmp .again",
    "switches of cr0.wp": "mov $ax, cr0\n.again: xor eax, 0x10000\nmov cr0, $ax\njmp .again",
    "writes to a table": "lea $di, [$dx + 0x600]\n.again: inc dword [$di]\njmp .again",
}


@pytest.mark.parametrize("loop", _LOOPS)
@every_variant
def test_an_endless_loop_ends_with_its_time(variant: Variant, loop: str, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        places = f"mov $bp, {guest.at(HOLE):#x}\nmov $dx, {guest.at(ROOT):#x}\n"
        guest.call(places + _LOOPS[loop])
        assert guest.end(0.002) is Outcome.DEADLINE


#: Every exception returns to the instruction that has made it.
_FAULT_FOREVER: Final = {
    32: """
        lea edi, [ebx + 0x200]
        lea eax, [ebx + handler]
        mov edx, eax
        and eax, 0xffff
        or eax, 0x80000
        and edx, 0xffff0000
        or edx, 0x8e00
        mov ecx, 32
.gate:  mov [edi], eax
        mov [edi + 4], edx
        add edi, 8
        loop .gate
        sub esp, 8
        mov word [esp], 0xff
        lea eax, [ebx + 0x200]
        mov [esp + 2], eax
        lidt [esp]
        mov eax, [ebp]
        ud2
handler: add esp, 4
        iret
""",
    64: """
        lea rdi, [rbx + 0x200]
        lea rax, [rbx + handler]
        mov edx, eax
        and eax, 0xffff
        or eax, 0x80000
        and edx, 0xffff0000
        or edx, 0x8e00
        mov ecx, 32
.gate:  mov [rdi], eax
        mov [rdi + 4], edx
        mov qword [rdi + 8], 0
        add rdi, 16
        loop .gate
        sub rsp, 16
        mov word [rsp], 0x1ff
        lea rax, [rbx + 0x200]
        mov [rsp + 2], rax
        lidt [rsp]
        mov eax, [rbp]
        ud2
handler: add rsp, 8
        iretq
""",
}


@every_variant
def test_a_fault_that_comes_again_for_ever_ends_with_its_time(
    variant: Variant, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.call(f"mov $bp, {guest.at(UNMAPPED):#x}\n{_FAULT_FOREVER[guest.bits]}")
        assert guest.end(0.002) is Outcome.DEADLINE


@every_variant
def test_a_triple_fault_is_a_reboot(variant: Variant, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.call("sub $sp, 16\nmov word [$sp], 0\nlidt [$sp]\nud2")
        assert guest.end() is Outcome.REBOOT
        log = list(run.machine.log_lines)
        assert "Triple fault - invoking HVM shutdown action 1" in log[0]
        state = "\n".join(log[1:])
        assert f"{'r' if guest.bits == 64 else 'e'}sp: " in state
        assert ("r15: " in state) is (guest.bits == 64)
        assert all(f"cr{number}: " in state for number in (0, 2, 3, 4))
        assert "Guest stack trace" in state


# --- ends ----------------------------------------------------------------------------------------

_ENDS_BEFORE_AN_INTERRUPT: Final = """
guest "ends before an interrupt", target=hvm32
include "start.gk"
section .text
main:   cli
        mov dword [0xfee000f0], 0x1ff   ; the local APIC is on
        mov dword [0xfee00300], 0x40040 ; a fixed interrupt to itself
        mov eax, __HYPERVISOR_sched_op
        mov ebx, SCHEDOP_shutdown
        mov ecx, reason
        sti                             ; the interrupt may come only behind the next instruction
        vmmcall
        hlt
section .data
reason: dd {reason}
"""


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (sched.SHUTDOWN_poweroff, Outcome.POWEROFF),
        (sched.SHUTDOWN_reboot, Outcome.REBOOT),
        (sched.SHUTDOWN_crash, Outcome.CRASH),
    ],
)
@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
def test_a_guest_that_ends_takes_no_interrupt_any_more(
    paging: Paging, reason: int, outcome: Outcome, machine_options: Options
) -> None:
    image = assemble(_ENDS_BEFORE_AN_INTERRUPT.format(reason=reason)).elf
    with Machine([GuestConfig(image, memory=8, paging=paging)], **machine_options) as machine:
        assert machine.run(1).outcome is outcome
