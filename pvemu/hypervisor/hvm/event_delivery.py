"""Real delivery: exceptions, software interrupts and external interrupts through the guest's own IDT.

What faults on the way is delivered in turn, by the rules of double and triple faults (AMD64 Architecture
Programmer's Manual volume 2, section 8.2.9). The guest stands unchanged before the handler that it enters
in the end, but for EIP: a software interrupt that can't be delivered is a fault of its instruction.
"""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.mode import CR0_PE
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.hvm.event import REFUSALS, Event, Source, combine, event_of
from pvemu.hypervisor.hvm.handler_entry import enter, push
from pvemu.hypervisor.hvm.long_gate import enter_long_handler, read_long_gate
from pvemu.hypervisor.hvm.protected_gate import TASK_GATE, enter_protected_handler, read_gate
from pvemu.hypervisor.hvm.segment_registers import Fault, SystemMemory, read_segment
from pvemu.hypervisor.hvm.task_switch import enter_task

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_CR0, _CR2 = layout.CR // 8, layout.CR // 8 + 2
_EIP, _EIP32, _ESP32 = layout.EIP // 8, layout.EIP // 4, 2 * layout.RSP
_HFLAGS, _EFLAGS = layout.HFLAGS // 4, layout.EFLAGS // 8

#: Bit of a selector error code: the fault belongs to an event from outside the program.
_EXTERNAL: Final = 1
_WITH_SELECTOR: Final = frozenset({exits.TS, exits.NP, exits.SS, exits.GP})
_REAL_MODE_CLEARS: Final = flags.IF | flags.TF | flags.AC | flags.RF


def deliver(vcpu: "Vcpu", event: Event) -> None:
    """Make the guest enter its handler of an event, or that of what goes wrong on the way.

    A fault in the delivery of a double fault ends in a triple fault, which shuts the domain down.
    """
    while True:
        if event.vector == exits.PF and event.source is Source.EXCEPTION:
            vcpu.hvm.cr2 = event.address
        second = _attempt(vcpu, event)
        if second is None:
            return
        combined = combine(event, second)
        if combined is None:
            vcpu.hvm.triple_fault()
            return
        if combined is not second and second.vector == exits.PF:
            vcpu.hvm.cr2 = second.address
        event = combined


def _attempt(vcpu: "Vcpu", event: Event) -> Event | None:
    """Enter an event's handler; else the exception that says why that is impossible.

    Nothing has changed then, but that a task switch may have happened, and a software interrupt is as if it
    had not begun.
    """
    window, memory = vcpu.domain.hypervisor.cpu.window, vcpu.hvm.linear_memory
    try:
        if not window.u64[_CR0] & CR0_PE:
            _enter_real_handler(window, memory, event)
        elif window.u32[_HFLAGS] & layout.HF_LMA:
            enter_long_handler(window, memory, event, read_long_gate(window, memory, event.vector))
        else:
            gate = read_gate(window, memory, event.vector)
            if gate.type == TASK_GATE:
                return enter_task(vcpu, event, gate)
            enter_protected_handler(window, memory, event, gate)
        return None
    except REFUSALS as refusal:
        second = event_of(refusal)
        if second.error_code is not None and event.is_external and second.vector in _WITH_SELECTOR:
            second = second._replace(error_code=second.error_code | _EXTERNAL)
    if event.source is Source.SOFTWARE:
        window.u64[_EIP] -= event.length
    return second


def _enter_real_handler(window: StateWindow, memory: SystemMemory, event: Event) -> None:
    """Real mode: four bytes a vector, three words on the stack, no error code, no checks but limits."""
    u32 = window.u32
    table = read_segment(window, layout.IDTR)
    if event.vector * 4 + 3 > table.limit:
        raise Fault(exits.GP, 0)
    place = memory.read(table.base + event.vector * 4 & 0xFFFFFFFF, 4)
    offset, selector = int.from_bytes(place[:2], "little"), int.from_bytes(place[2:], "little")
    code, stack = read_segment(window, layout.CS), read_segment(window, layout.SS)
    words = flags.read_eflags(window), code.selector, u32[_EIP32]
    pointer = push(memory, stack, u32[_ESP32], words, 2, 0)
    mask = stack.stack_mask
    handler = code._replace(selector=selector, base=selector << 4)
    new_pointer = u32[_ESP32] & ~mask | pointer
    enter(window, offset, new_pointer, {layout.CS: handler}, _REAL_MODE_CLEARS)
