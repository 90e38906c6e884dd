"""Events through the IDT of protected mode: gates of 8 bytes, 16-bit and 32-bit frames, stacks from the TSS.

Rules: Intel's manual, volume 2, INT n ("Operation"), which is more exact about error codes than AMD's (AMD64
Architecture Programmer's Manual volume 2, section 8.7).
"""

import struct
from typing import Final, NamedTuple

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.hvm.event import Event, Source
from pvemu.hypervisor.hvm.handler_entry import HANDLER_CLEARS, enter, push, shown_flags
from pvemu.hypervisor.hvm.segment_registers import (
    ERROR_SELECTOR,
    Fault,
    Found,
    SegmentRegister,
    SystemMemory,
    handler_code,
    handler_stack,
    mark_accessed,
    read_segment,
)

_EIP32, _ESP32 = layout.EIP // 4, 2 * layout.RSP
_HFLAGS = layout.HFLAGS // 4
_GATE: Final = struct.Struct("<HHHH")
#: Bit of an error code: it names an IDT entry.
IDT: Final = 2
_PRESENT: Final = 1 << 15
_NULL: Final = SegmentRegister(0, 0, 0, 0)
_DROPPED_BY_VM86: Final = (layout.GS, layout.FS, layout.DS, layout.ES)

TASK_GATE: Final = 5
#: Type of a gate -> (bytes of a pushed word, flags that it clears).
_GATES: Final = {
    0x6: (2, HANDLER_CLEARS | flags.IF),
    0x7: (2, HANDLER_CLEARS),
    0xE: (4, HANDLER_CLEARS | flags.IF),
    0xF: (4, HANDLER_CLEARS),
}


class Gate(NamedTuple):
    """An entry of the IDT. `type` has bit 4 set for what is no gate."""

    type: int
    dpl: int
    present: bool
    selector: int
    offset: int
    stack: int = 0


def check_gate(gate: Gate, event: Event, cpl: int, known: bool) -> None:
    """The checks of every gate, whatever its mode.

    Raises:
        Fault: #GP or #NP; the error code names the vector.
    """
    error_code = event.vector << 3 | IDT
    if not known or (event.source is Source.SOFTWARE and gate.dpl < cpl):
        raise Fault(exits.GP, error_code)
    if not gate.present:
        raise Fault(exits.NP, error_code)


def read_gate(window: StateWindow, memory: SystemMemory, vector: int) -> Gate:
    """The gate of a vector.

    Raises:
        Fault: #GP, beyond the IDT's limit.
        GuestPageFault: the IDT is not mapped there.
    """
    table = read_segment(window, layout.IDTR)
    if vector * 8 + 7 > table.limit:
        raise Fault(exits.GP, vector << 3 | IDT)
    raw = memory.read(table.base + vector * 8 & 0xFFFFFFFF, 8)
    low, selector, access, high = _GATE.unpack(raw)
    return Gate(access >> 8 & 0x1F, access >> 13 & 3, bool(access & _PRESENT), selector, low | high << 16)


def enter_protected_handler(window: StateWindow, memory: SystemMemory, event: Event, gate: Gate) -> None:
    """Enter the handler that an interrupt or trap gate names.

    Raises:
        Fault, GuestPageFault: it can't be entered; nothing has changed.
    """
    u32 = window.u32
    cpl = u32[_HFLAGS] & layout.HF_CPL
    from_vm86 = bool(window.u64[layout.EFLAGS // 8] & flags.VM)
    check_gate(gate, event, cpl, gate.type in _GATES)
    size, cleared = _GATES[gate.type]
    code = handler_code(window, memory, gate.selector, cpl)
    inner = code.descriptor.dpl if not code.descriptor.is_conforming else cpl
    if from_vm86 and inner:
        raise Fault(exits.GP, gate.selector & ERROR_SELECTOR)
    old_code, old_stack = read_segment(window, layout.CS), read_segment(window, layout.SS)
    words = [shown_flags(window, event.is_fault), old_code.selector, u32[_EIP32]]
    if event.error_code is not None:
        words.append(event.error_code)
    new_code = code.loaded(gate.selector & ~3 | inner)
    offset = gate.offset if size == 4 else gate.offset & 0xFFFF
    if not new_code.contains(offset, 1):
        raise Fault(exits.GP, 0)
    segments = {layout.CS: new_code}
    if inner == cpl:
        top, new_stack, found = u32[_ESP32], old_stack, None
        pointer = push(memory, new_stack, top, words, size, 0)
    else:
        selector, top, found = _inner_stack(window, memory, inner)
        new_stack = found.loaded(selector)
        words[:0] = [old_stack.selector, u32[_ESP32]]
        if from_vm86:
            words[:0] = [read_segment(window, register).selector for register in _DROPPED_BY_VM86]
            segments |= dict.fromkeys(_DROPPED_BY_VM86, _NULL)
        pointer = push(memory, new_stack, top, words, size, selector & ERROR_SELECTOR)
        segments[layout.SS] = new_stack
    for descriptor in (code, found):
        if descriptor is not None:
            mark_accessed(memory, descriptor)
    mask = new_stack.stack_mask
    enter(window, offset, top & ~mask | pointer, segments, cleared)


def _inner_stack(window: StateWindow, memory: SystemMemory, ring: int) -> tuple[int, int, Found]:
    """The selector, stack pointer and descriptor of an inner ring's stack, from a 32-bit or 16-bit TSS.

    Raises:
        Fault: #TS or #SS.
    """
    task = read_segment(window, layout.TR)
    wide = task.attributes >> 11 & 1
    place, size = (ring * 8 + 4, 6) if wide else (ring * 4 + 2, 4)
    if place + size - 1 > task.limit:
        raise Fault(exits.TS, task.selector & ERROR_SELECTOR)
    raw = memory.read(task.base + place & 0xFFFFFFFF, size)
    pointer, selector = int.from_bytes(raw[:-2], "little"), int.from_bytes(raw[-2:], "little")
    return selector, pointer, handler_stack(window, memory, selector, ring)
