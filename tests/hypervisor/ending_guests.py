"""Guests that come to an end, or leave the processor, while something is pending: every pair of two tables.

Run as a program it plays pairs of one kind of guest, each beside a guest that has work of its own, and prints
how the first ended. Whoever starts it has a watch.

ending_guests.py KIND WINDOW CLOCK FIRST STEP: from the FIRST pair on each STEPth
"""

import ctypes
import sys
from typing import Final, NamedTuple

from guestkit import assemble
from pvemu.abi.sched import (
    SHUTDOWN_crash,
    SHUTDOWN_poweroff,
    SHUTDOWN_reboot,
    SHUTDOWN_suspend,
    SHUTDOWN_watchdog,
)
from pvemu.cpu import layout
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.toolstack.guest_config import Action, GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Machine

AS_IT_SHOULD: Final = "as it should"
MILLISECOND: Final = 1_000_000
_MEMORY: Final = 4
_MACHINE: Final = 32
#: When the machine is stopped for what is done from outside: the first guest is in its first turn.
_STOP: Final = 2 * MILLISECOND
_END: Final = 20 * MILLISECOND
#: Until then watchdogs bite; who still runs is stopped before.
_LAST: Final = 1100 * MILLISECOND

#: It goes over several turns, with hypercalls in between, and powers off only if it has lost nothing.
_NEIGHBOUR: Final = """
guest "neighbour"
section .text
start:  mov edi, 5
.turn:  mov ecx, 200000
        xor ebp, ebp
.work:  inc ebp
        dec ecx
        jnz .work
        cmp ebp, 200000
        jne .wrong
        hypercall sched_op, SCHEDOP_yield, 0
        dec edi
        jnz .turn
        hypercall sched_op, SCHEDOP_shutdown, whole
.wrong: hypercall sched_op, SCHEDOP_shutdown, broken
section .rodata
whole:  dd SHUTDOWN_poweroff
broken: dd SHUTDOWN_crash
"""


class Pending(NamedTuple):
    """What waits: code that brings it about, and what is done last, before the end; that keeps registers."""

    prepare: str = ""
    last: str = ""


class Ending(NamedTuple):
    """How the guest ends or leaves the processor: registers, an instruction, and why it may have ended.

    None: it need not end. What goes on behind the instruction powers off.
    """

    registers: str
    act: str
    reasons: frozenset[int | None] = frozenset({SHUTDOWN_poweroff})


class Kind(NamedTuple):
    """One kind of guest: its source around the cases, and the two tables."""

    source: str
    pending: dict[str, Pending]
    endings: dict[str, Ending]
    paging: Paging | None = None


_CRASH: Final = frozenset({SHUTDOWN_crash})
_SUSPEND: Final = frozenset({SHUTDOWN_suspend})
_EITHER: Final = frozenset({SHUTDOWN_poweroff, None})

# --- HVM -----------------------------------------------------------------------------------------

_HVM: Final = """
guest "ends", target=hvm32
include "start.gk"
include "ports.gk"
include "traps.gk"
include "xen.gk"
LAPIC equ 0xfee00000
COMMAND equ LAPIC + 0x300
TO_SELF equ 0x40040
NMI_TO_SELF equ 0x44400
INIT_ALL equ 0x84500
section .text
main:   call traps_open
        call xen_open
        set_handler EXCEPTION_DB, over
        set_handler EXCEPTION_UD, over
        set_handler EXCEPTION_GP, over
        set_handler 2, in_nmi
        set_handler 0x20, on_interrupt
        set_handler 0x40, on_interrupt
        mov dword [LAPIC + 0xf0], 0x1ff
        mov eax, HVM_PARAM_CALLBACK_IRQ
        mov edx, HVM_PARAM_CALLBACK_TYPE_VECTOR << 24
        mov ecx, 0x40
        call set_xen_param
        mov eax, [start_info_address]
        mov eax, [eax + hvm_start_info.cmdline_paddr]
        movzx ecx, byte [eax]
        movzx edx, byte [eax + 1]
        imul ecx, ENDINGS
        lea ecx, [ecx + edx - 'A' * ENDINGS - 'A']
        jmp [cases + ecx*4]
over:   mov ax, SLEEP_S5
        mov dx, PM1A_CONTROL_OF_XEN
        out dx, ax
        jmp over
in_nmi: mov dword [COMMAND], NMI_TO_SELF        ; it waits for the end of this one
        jmp [go_on]
on_interrupt:
        mov byte [shared_info_page + shared_info.vcpu_info[0].evtchn_upcall_pending], 0
        mov dword [LAPIC + 0xb0], 0
        out_byte PIC1_COMMAND, 0x20
        ret
macro to_xen number, first, second
        mov eax, __HYPERVISOR_{number}
        mov ebx, first
        mov ecx, second
        xor edx, edx
endmacro
{cases}
section .data
align 4
go_on:  dd 0
no_gates: dd 0, 0
poweroff: dd SHUTDOWN_poweroff
crash:  dd SHUTDOWN_crash
suspend: dd SHUTDOWN_suspend
{table}
"""
_MESSAGE: Final = "cli\nmov dword [COMMAND], TO_SELF"
_UPCALL: Final = """cli
        mov byte [shared_info_page + shared_info.vcpu_info[0].evtchn_upcall_pending], 1
        mov eax, HVM_PARAM_CALLBACK_IRQ         ; chosen anew, it is looked at anew
        mov edx, HVM_PARAM_CALLBACK_TYPE_VECTOR << 24
        mov ecx, 0x40
        call set_xen_param"""
_STEP: Final = "pushfd\nor dword [esp], EFLAGS_TF\npopfd"
#: Pulses of the timer wait at the 8259, whose mask is lifted last, by a port access in the block of the end.
_LINE: Final = """
        out_byte PIC1_COMMAND, PIC_ICW1
        out_byte PIC1_DATA, 0x20
        out_byte PIC1_DATA, 1 << IRQ_CASCADE
        out_byte PIC1_DATA, PIC_ICW4_8086
        out_byte PIC1_DATA, 0xff
        out_byte PIT_COMMAND, 0x34
        out_byte PIT_CHANNEL0, 20
        out_byte PIT_CHANNEL0, 0
        mov ecx, 20000
        loop $
        sti
        nop"""
_UNMASK: Final = "push eax\nmov al, 0xfe\nout PIC1_DATA, al\npop eax"
_TIMER: Final = "cli\nmov dword [LAPIC + 0x320], {mode:#x}40\nmov dword [LAPIC + 0x380], 1"

_HVM_PENDING: Final = {
    "nothing": Pending("cli"),
    "an interrupt, interrupts off": Pending(_MESSAGE),
    "an interrupt, in the shadow of STI": Pending(_MESSAGE, "sti"),
    "an upcall, interrupts off": Pending(_UPCALL),
    "an upcall, in the shadow of STI": Pending(_UPCALL, "sti"),
    "an interrupt of this block": Pending(_LINE, _UNMASK),
    "an NMI in the handler of another": Pending(
        "cli\nmov dword [go_on], .nmi\nmov dword [COMMAND], NMI_TO_SELF\njmp over\n.nmi:"
    ),
    "an NMI and an interrupt": Pending(
        f"{_MESSAGE}\nmov dword [go_on], .nmi\nmov dword [COMMAND], NMI_TO_SELF\njmp over\n.nmi:", "sti"
    ),
    "a timer, interrupts off": Pending(_TIMER.format(mode=0)),
    "a fast timer, in the shadow of STI": Pending(_TIMER.format(mode=0x200), "sti"),
    "a single step": Pending("cli", _STEP),
    "a single step and an interrupt": Pending(_MESSAGE, f"sti\n{_STEP}"),
}
_HVM_ENDINGS: Final = {
    "power-off": Ending("to_xen sched_op, SCHEDOP_shutdown, poweroff", "vmmcall"),
    "crash": Ending("to_xen sched_op, SCHEDOP_shutdown, crash", "vmmcall", _CRASH),
    "suspend": Ending("to_xen sched_op, SCHEDOP_shutdown, suspend", "vmmcall", _SUSPEND),
    "yield": Ending("to_xen sched_op, SCHEDOP_yield, 0", "vmmcall"),
    "block": Ending("to_xen sched_op, SCHEDOP_block, 0", "vmmcall", _EITHER),
    "down": Ending("to_xen vcpu_op, VCPUOP_down, 0", "vmmcall", _EITHER),
    "its own NMI": Ending("to_xen vcpu_op, VCPUOP_send_nmi, 0\nmov dword [go_on], over", "vmmcall"),
    # Behind an NMI's handler, which the interrupt's IRET ends, comes the next one, and nothing wakes that.
    "halt": Ending("", "hlt", _EITHER),
    "triple fault": Ending("lidt [no_gates]", "ud2", frozenset({SHUTDOWN_reboot})),
    "switched off": Ending("mov ax, SLEEP_S5\nmov dx, PM1A_CONTROL_OF_XEN", "out dx, ax"),
    "INIT": Ending("", "mov dword [COMMAND], INIT_ALL"),
    "a fault held to the end of the block": Ending("", "syscall"),
    "the same of SYSENTER": Ending("xor eax, eax", "sysenter"),
    "an invalid instruction": Ending("", "ud2"),
    "a block that can't be translated": Ending("", "db 0xf0, 0x0f, 0xab, 0xc0"),
    "stopped at any time": Ending("", "jmp $", _EITHER),
    "stopped in a device": Ending(
        "mov edi, LAPIC\nmov ecx, -1\nxor eax, eax", "rep stosd", frozenset({*_EITHER, 1})
    ),
}

# --- PV ------------------------------------------------------------------------------------------

_PV: Final = """
guest "ends"
include "start.gk"
include "traps.gk"
vcpu_place equ shared_info_page + shared_info.vcpu_info[0]
section .text
main:   call traps_open
        mov dword [trap_handlers + EXCEPTION_DB*4], over
        mov dword [trap_handlers + EXCEPTION_UD*4], over
        mov dword [trap_handlers + 2*4], in_nmi
        hypercall set_callbacks, FLAT_KERNEL_CS, on_event, FLAT_KERNEL_CS, over
        hypercall event_channel_op, EVTCHNOP_bind_virq, timer
        mov eax, [start_info_address]
        movzx ecx, byte [eax + start_info.cmd_line]
        movzx edx, byte [eax + start_info.cmd_line + 1]
        imul ecx, ENDINGS
        lea ecx, [ecx + edx - 'A' * ENDINGS - 'A']
        jmp [cases + ecx*4]
over:   hypercall sched_op, SCHEDOP_shutdown, poweroff
        jmp over
in_nmi: hypercall vcpu_op, VCPUOP_send_nmi, 0, 0
        jmp [go_on]
on_event:
        mov byte [vcpu_place + vcpu_info.evtchn_upcall_pending], 0
        hypercall iret
{cases}
section .data
align 4
go_on:  dd 0
poweroff: dd SHUTDOWN_poweroff
crash:  dd SHUTDOWN_crash
suspend: dd SHUTDOWN_suspend
timer:  dd VIRQ_TIMER, 0, 0
all_ports: dd 0, 0, 0, 0
dog:    dd 0, 1
calls:  dd __HYPERVISOR_sched_op, 0, SCHEDOP_yield, 0, 0, 0, 0, 0
        dd __HYPERVISOR_sched_op, 0, SCHEDOP_shutdown, poweroff, 0, 0, 0, 0
        dd __HYPERVISOR_sched_op, 0, SCHEDOP_block, 0, 0, 0, 0, 0
{table}
section .bss
LONG equ 4000
long_list: reserve LONG * 32
"""
_MASK: Final = "mov byte [vcpu_place + vcpu_info.evtchn_upcall_mask], {}"
_RING: Final = "mov byte [vcpu_place + vcpu_info.evtchn_upcall_pending], 1"
_PASSED: Final = "hypercall set_timer_op, 1"
_LONG_LIST: Final = """
        cld
        mov edi, long_list
        mov ecx, LONG * 8
        xor eax, eax
        rep stosd
        mov ecx, LONG
        mov edi, long_list
.fill_{name}:
        mov dword [edi], __HYPERVISOR_xen_version
        add edi, 32
        loop .fill_{name}"""

_PV_PENDING: Final = {
    "nothing": Pending(_MASK.format(1)),
    "an upcall, masked": Pending(f"{_MASK.format(1)}\n{_RING}"),
    "an upcall that was just unmasked": Pending(f"{_MASK.format(1)}\n{_RING}", _MASK.format(0)),
    "a timer that has passed, masked": Pending(f"{_MASK.format(1)}\n{_PASSED}"),
    "a timer that has passed": Pending(f"{_MASK.format(1)}\n{_PASSED}", _MASK.format(0)),
    "a single step": Pending(_MASK.format(1), _STEP),
    "a single step and an upcall": Pending(f"{_MASK.format(1)}\n{_RING}", f"{_MASK.format(0)}\n{_STEP}"),
    "an NMI in the handler of another": Pending(
        f"{_MASK.format(1)}\nmov dword [go_on], .nmi\n"
        "hypercall vcpu_op, VCPUOP_send_nmi, 0, 0\n.wait: jmp .wait\n.nmi:"
    ),
}
_SCHED: Final = "mov eax, __HYPERVISOR_sched_op\nmov ebx, {}\nmov ecx, {}"
_CALL: Final = "int 0x82"
_PV_ENDINGS: Final = {
    "power-off": Ending(_SCHED.format("SCHEDOP_shutdown", "poweroff"), _CALL),
    "crash": Ending(_SCHED.format("SCHEDOP_shutdown", "crash"), _CALL, _CRASH),
    "suspend": Ending(_SCHED.format("SCHEDOP_shutdown", "suspend"), _CALL, _SUSPEND),
    "yield": Ending(_SCHED.format("SCHEDOP_yield", 0), _CALL),
    "block": Ending(_SCHED.format("SCHEDOP_block", 0), _CALL, _EITHER),
    "poll": Ending(_SCHED.format("SCHEDOP_poll", "all_ports"), _CALL, _EITHER),
    "down": Ending(
        "mov eax, __HYPERVISOR_vcpu_op\nmov ebx, VCPUOP_down\nxor ecx, ecx\nxor edx, edx", _CALL, _EITHER
    ),
    "a watchdog": Ending(
        "hypercall sched_op, SCHEDOP_watchdog, dog\n" + _SCHED.format("SCHEDOP_block", 0),
        _CALL,
        frozenset({SHUTDOWN_poweroff, SHUTDOWN_watchdog}),
    ),
    "a multicall": Ending("mov eax, __HYPERVISOR_multicall\nmov ebx, calls\nmov ecx, 3", _CALL),
    "no room for a frame": Ending("xor esp, esp", "ud2", _CRASH),
    "no frame to return by": Ending("xor esp, esp\nmov eax, __HYPERVISOR_iret", _CALL, _CRASH),
    "no handler": Ending("hypercall set_trap_table, 0", "ud2", _CRASH),
    "an invalid instruction": Ending("", "ud2"),
    "a block that can't be translated": Ending("", "db 0xf0, 0x0f, 0xab, 0xc0"),
    "a fault held to the end of the block": Ending("", "out 0x80, al", _CRASH),
    "stopped at any time": Ending("", "jmp $", _EITHER),
    "stopped in a hypercall": Ending(
        _LONG_LIST,
        "mov eax, __HYPERVISOR_multicall\nmov ebx, long_list\nmov ecx, LONG\nint 0x82\njmp $ - 17",
        _EITHER,
    ),
}

KINDS: Final = {
    "hvm-nested": Kind(_HVM, _HVM_PENDING, _HVM_ENDINGS, Paging.NESTED),
    "hvm-shadow": Kind(_HVM, _HVM_PENDING, _HVM_ENDINGS, Paging.SHADOW),
    "pv": Kind(_PV, _PV_PENDING, _PV_ENDINGS),
}


def _cases(kind: Kind) -> tuple[str, str]:
    """The code of all pairs, and the table of their addresses."""
    code, table = [f"ENDINGS equ {len(kind.endings)}"], ["cases:"]
    for first, before in enumerate(kind.pending.values()):
        for second, end in enumerate(kind.endings.values()):
            name = f"case_{first}_{second}"
            registers = end.registers.replace("{name}", name)
            code.append(f"{name}:\n{before.prepare}\n{registers}\n{before.last}\n{end.act}\njmp over")
            table.append(f"dd {name}")
    return "\n".join(code), "\n".join(table)


def image_of(kind: Kind) -> bytes:
    """The kernel with all pairs of a kind; two letters of its command line choose one."""
    cases, table = _cases(kind)
    return assemble(kind.source.replace("{cases}", cases).replace("{table}", table)).elf


def _stop_and_go(machine: Machine, domain: Domain) -> None:
    """Run; in the middle the domain is paused for a while, if it is still there, and in the end destroyed."""
    hypervisor, tools = machine.hypervisor, Domctl(machine.hypervisor)
    hypervisor.run(_STOP)
    tools.pause(domain)
    hypervisor.run(_END // 2)
    tools.unpause(domain)
    hypervisor.run(_END)
    if any(vcpu.runnable for vcpu in domain.vcpus):
        tools.pause(domain)
    hypervisor.run(_LAST)
    if not domain.is_dying:
        tools.destroy(domain)


def play(image: bytes, neighbour: bytes, letters: str, kind: Kind, options: dict[str, str]) -> int | None:
    """Run one pair; the reason with which the first guest has ended.

    Raises:
        AssertionError: something is left of it, or its neighbour has lost something.
    """
    plans = [
        GuestConfig(
            *(image, "ends", _MEMORY),
            command_line=letters,
            paging=kind.paging,
            on_reboot=Action.DESTROY,
        ),
        GuestConfig(neighbour, name="neighbour", memory=_MEMORY),
    ]
    with Machine(plans, machine_memory=_MACHINE, **options) as machine:  # type: ignore[arg-type]
        _stop_and_go(machine, machine.domain)
        Auditor(machine.hypervisor, remembers=False).audit()
        state = machine.hypervisor.cpu.engine.state_address
        assert state is not None
        assert ctypes.c_uint32.from_address(state + layout.INTERRUPT_REQUEST).value == 0
        assert machine.guests[1].reason == SHUTDOWN_poweroff, machine.log_lines
        return machine.domain.shutdown_reason


def main(name: str, window: str, clock: str, first_pair: str, step: str) -> None:
    """Play pairs of a kind, and tell of each whether it ends as the table has it."""
    kind, options = KINDS[name], {"window": window, "clock": clock}
    image, neighbour = image_of(kind), assemble(_NEIGHBOUR).elf
    pairs = [(before, end) for before in kind.pending for end in kind.endings]
    for number in range(int(first_pair), len(pairs), int(step)):
        before, end = pairs[number]
        print(f"{before}; {end}: ", end="", flush=True)
        first, second = divmod(number, len(kind.endings))
        reason = play(image, neighbour, f"{chr(65 + first)}{chr(65 + second)}", kind, options)
        print(AS_IT_SHOULD if reason in kind.endings[end].reasons else f"reason {reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
