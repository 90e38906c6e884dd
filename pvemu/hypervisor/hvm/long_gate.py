"""Events through the IDT of long mode: gates of 16 bytes, interrupt stacks, a frame that always has SS:RSP.

Rules: AMD64 Architecture Programmer's Manual volume 2, section 8.9, and Intel's volume 2, INT n.
"""

import struct
from typing import Final

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.segments import BIG, DPL_SHIFT, LONG, is_canonical
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.hvm.event import Event
from pvemu.hypervisor.hvm.handler_entry import HANDLER_CLEARS, enter, push_frame, shown_flags
from pvemu.hypervisor.hvm.protected_gate import IDT, Gate, check_gate
from pvemu.hypervisor.hvm.segment_registers import (
    ERROR_SELECTOR,
    Fault,
    SegmentRegister,
    SystemMemory,
    handler_code,
    mark_accessed,
    read_segment,
)

_EIP, _RSP, _HFLAGS = layout.EIP // 8, layout.RSP, layout.HFLAGS // 4
_GATE: Final = struct.Struct("<HHHHII")
#: By the number of words: without and with an error code.
_FRAMES: Final = {number: struct.Struct(f"<{number}Q") for number in (5, 6)}
_WORD: Final = 0xFFFF_FFFF_FFFF_FFFF
_PRESENT: Final = 1 << 15
_STACK_ALIGNMENT: Final = 16
_CLEARED: Final = {0xE: HANDLER_CLEARS | flags.IF, 0xF: HANDLER_CLEARS}
#: Where a 64-bit TSS has the stack pointers of the rings, and those of the interrupt stack table.
_RING_STACKS: Final = 4
_INTERRUPT_STACKS: Final = 0x1C


def read_long_gate(window: StateWindow, memory: SystemMemory, vector: int) -> Gate:
    """The gate of a vector.

    Raises:
        Fault: #GP, beyond the IDT's limit, or for an upper half that is none.
        GuestPageFault: the IDT is not mapped there.
    """
    table = read_segment(window, layout.IDTR)
    if vector * 16 + 15 > table.limit:
        raise Fault(exits.GP, vector << 3 | IDT)
    raw = memory.read(table.base + vector * 16 & _WORD, 16)
    low, selector, access, middle, high, last = _GATE.unpack(raw)
    if last & 0x1F00:
        raise Fault(exits.GP, vector << 3 | IDT)
    offset = low | middle << 16 | high << 32
    return Gate(access >> 8 & 0x1F, access >> 13 & 3, bool(access & _PRESENT), selector, offset, access & 7)


def enter_long_handler(window: StateWindow, memory: SystemMemory, event: Event, gate: Gate) -> None:
    """Enter the handler of an interrupt or trap gate.

    Raises:
        Fault, GuestPageFault: it can't be entered; nothing has changed.
    """
    u64, hflags = window.u64, window.u32[_HFLAGS]
    cpl = hflags & layout.HF_CPL
    check_gate(gate, event, cpl, gate.type in _CLEARED)
    code = handler_code(window, memory, gate.selector, cpl)
    if code.descriptor.high & (LONG | BIG) != LONG:
        raise Fault(exits.GP, gate.selector & ERROR_SELECTOR)
    ring = cpl if code.descriptor.is_conforming else code.descriptor.dpl
    size = _WORD if hflags & layout.HF_CS64 else 0xFFFFFFFF
    old_pointer = u64[_RSP] & size
    if gate.stack:
        top = _stack_of_task(window, memory, _INTERRUPT_STACKS + 8 * gate.stack)
    elif ring < cpl:
        top = _stack_of_task(window, memory, _RING_STACKS + 8 * ring)
    else:
        top = old_pointer
    if not is_canonical(gate.offset):
        raise Fault(exits.GP, 0)
    frame = [] if event.error_code is None else [event.error_code]
    frame += [u64[_EIP] & size, read_segment(window, layout.CS).selector]
    frame += [shown_flags(window, event.is_fault), old_pointer, read_segment(window, layout.SS).selector]
    pointer = (top & -_STACK_ALIGNMENT) - 8 * len(frame) & _WORD
    if not (is_canonical(pointer) and is_canonical(top)):
        raise Fault(exits.SS, 0)
    push_frame(memory, pointer, _FRAMES[len(frame)].pack(*frame), 8)
    mark_accessed(memory, code)
    segments = {layout.CS: code.loaded(gate.selector & ~3 | ring)}
    if ring < cpl:
        segments[layout.SS] = SegmentRegister(ring, 0, 0, ring << DPL_SHIFT)
    enter(window, gate.offset, pointer, segments, _CLEARED[gate.type])


def _stack_of_task(window: StateWindow, memory: SystemMemory, place: int) -> int:
    """A stack pointer from the 64-bit TSS.

    Raises:
        Fault: #TS, beyond its limit.
    """
    task = read_segment(window, layout.TR)
    if place + 7 > task.limit:
        raise Fault(exits.TS, task.selector & ERROR_SELECTOR)
    return int.from_bytes(memory.read(task.base + place & _WORD, 8), "little")
