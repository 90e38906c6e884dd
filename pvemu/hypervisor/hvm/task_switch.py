"""An event through a task gate: the processor's state goes into one TSS and comes out of another.

Rules: Intel's manual, volume 3, section 7.3, and volume 2, INT n. The guest's own far jumps, calls
and returns to a task are the engine's affair, but for `finish_task_switch`.
"""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.mode import CR0_PG, CR0_TS, derive_engine_flags
from pvemu.cpu.segments import DPL_SHIFT, NOT_SYSTEM, PRESENT, TYPE_ACCESSED, TYPE_WRITABLE
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.hvm.event import Event, event_of
from pvemu.hypervisor.hvm.handler_entry import push, shown_flags
from pvemu.hypervisor.hvm.protected_gate import TASK_GATE, Gate, check_gate
from pvemu.hypervisor.hvm.segment_registers import (
    ERROR_SELECTOR,
    LOCAL,
    RPL,
    Fault,
    Found,
    SegmentRegister,
    SystemMemory,
    find_descriptor,
    mark_accessed,
    read_segment,
    write_segment,
)
from pvemu.memory.guest_walk import GuestPageFault

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_EIP, _EIP32, _EFLAGS, _HFLAGS = layout.EIP // 8, layout.EIP // 4, layout.EFLAGS // 8, layout.HFLAGS // 4
_CR3: Final = layout.CR // 8 + 3
_GENERAL: Final = range(8)
_SEGMENTS: Final = (layout.ES, layout.CS, layout.SS, layout.DS, layout.FS, layout.GS)
_LOAD_ORDER: Final = (layout.CS, layout.SS, layout.ES, layout.DS, layout.FS, layout.GS)
#: Attributes of every segment in virtual-8086 mode: data of ring 3 with a limit of 64 KiB.
_VM86_DATA: Final = PRESENT | NOT_SYSTEM | TYPE_WRITABLE | TYPE_ACCESSED | 3 << DPL_SHIFT

_BUSY: Final = 1 << 9
_WIDE: Final = 1 << 11
_TYPE_SHIFT, _AVAILABLE_TYPES = 8, (0x1, 0x9)
_LDT: Final = PRESENT | 0x2 << _TYPE_SHIFT


class _Form(NamedTuple):
    """A TSS of 16 or 32 bits: bytes of a word, and where what lies that changes with the task."""

    word: int
    last: int  #: the least limit
    cr3: int | None
    saved: int  #: EIP; EFLAGS and the general registers follow
    segments: int
    segment_size: int
    segment_count: int
    ldt: int
    state: struct.Struct


_NARROW_FORM: Final = _Form(2, 0x2B, None, 0x0E, 0x22, 2, 4, 0x2A, struct.Struct("<10H"))
_WIDE_FORM: Final = _Form(4, 0x67, 0x1C, 0x20, 0x48, 4, 6, 0x60, struct.Struct("<10I"))


class _Task(NamedTuple):
    """What a TSS holds of a task."""

    cr3: int | None
    eip: int
    eflags: int
    general: tuple[int, ...]
    segments: tuple[int, ...]
    ldt: int


def enter_task(vcpu: "Vcpu", event: Event, gate: Gate) -> Event | None:
    """Switch to the task of a gate; the exception that its registers raise, which is the new task's own.

    Raises:
        Fault, GuestPageFault: the task can't be entered; nothing has changed.
    """
    window, memory = vcpu.domain.hypervisor.cpu.window, vcpu.hvm.linear_memory
    check_gate(gate, event, window.u32[_HFLAGS] & layout.HF_CPL, gate.type == TASK_GATE)
    found = _task_descriptor(window, memory, gate.selector)
    old = read_segment(window, layout.TR)
    new = found.loaded(gate.selector)._replace(attributes=found.descriptor.high | _BUSY)
    form = _form(new)
    if new.limit < form.last:
        raise Fault(exits.TS, gate.selector & ERROR_SELECTOR)
    task = _read_task(memory, new.base, form)
    _save_task(window, memory, old, shown_flags(window, event.is_fault))
    memory.write(new.base, old.selector.to_bytes(2, "little"))
    memory.write(found.address + 4, (found.descriptor.high | _BUSY).to_bytes(4, "little"))
    write_segment(window, layout.TR, new)
    hvm = vcpu.hvm
    hvm.cr0 |= CR0_TS
    if task.cr3 is not None and hvm.cr0 & CR0_PG:
        hvm.cr3 = task.cr3
        vcpu.domain.hvm.paging.root_changed(vcpu)
    return _become(window, memory, task._replace(eflags=task.eflags | flags.NT), form, event)


def finish_task_switch(vcpu: "Vcpu") -> Event | None:
    """Complete a task switch that the engine has made itself, up to the load of CR3; what faults then.

    For a guest under shadow paging, whose CR3 must not be the processor's: a far jump, a far call or an IRET
    has saved the old task and taken the new one's registers, but nothing can be read through the CR3 that it
    has loaded. The TSS has all that is needed to go on.
    """
    window, memory, hvm = vcpu.domain.hypervisor.cpu.window, vcpu.hvm.linear_memory, vcpu.hvm
    task_register = read_segment(window, layout.TR)
    form = _form(task_register)
    hvm.cr0 |= CR0_TS
    if hvm.cr0 & CR0_PG:
        hvm.cr3 = window.u64[_CR3] & 0xFFFFFFFF
    vcpu.domain.hvm.paging.root_changed(vcpu)
    try:
        task = _read_task(memory, task_register.base, form)
    except GuestPageFault as fault:
        return event_of(fault)
    # A called task has NT set, which is not in its TSS.
    nested = window.u64[_EFLAGS] & flags.NT
    return _become(window, memory, task._replace(eflags=task.eflags | nested), form, None)


def _form(task: SegmentRegister) -> _Form:
    return _WIDE_FORM if task.attributes & _WIDE else _NARROW_FORM


def _task_descriptor(window: StateWindow, memory: SystemMemory, selector: int) -> Found:
    """The descriptor of an available TSS.

    Raises:
        Fault: #GP or #NP.
    """
    error_code = selector & ERROR_SELECTOR
    found = None if selector & LOCAL else find_descriptor(window, memory, selector)
    if found is None or found.descriptor.high >> _TYPE_SHIFT & 0x1F not in _AVAILABLE_TYPES:
        raise Fault(exits.GP, error_code)
    if not found.descriptor.present:
        raise Fault(exits.NP, error_code)
    return found


def _read_task(memory: SystemMemory, base: int, form: _Form) -> _Task:
    raw = memory.read(base, form.last + 1)
    eip, eflags, *general = form.state.unpack_from(raw, form.saved)

    def word(place: int) -> int:
        return int.from_bytes(raw[place : place + 2], "little")

    segments = [word(form.segments + number * form.segment_size) for number in range(form.segment_count)]
    segments += [0] * (len(_SEGMENTS) - len(segments))
    cr3 = None if form.cr3 is None else int.from_bytes(raw[form.cr3 : form.cr3 + 4], "little")
    if form.word == 2:
        general = [value | 0xFFFF0000 for value in general]
    return _Task(cr3, eip, eflags, tuple(general), tuple(segments), word(form.ldt))


def _save_task(window: StateWindow, memory: SystemMemory, task: SegmentRegister, eflags: int) -> None:
    """Put the running task's state into its TSS: all of it, or a fault before the first byte."""
    form, u32 = _form(task), window.u32
    ones = (1 << 8 * form.word) - 1
    words = (u32[_EIP32], eflags, *(u32[2 * number] for number in _GENERAL))
    saved = form.state.pack(*(word & ones for word in words))
    selectors = b"".join(
        read_segment(window, register).selector.to_bytes(form.segment_size, "little")
        for register in _SEGMENTS[: form.segment_count]
    )
    memory.write(task.base + form.saved, saved + selectors)


def _become(
    window: StateWindow, memory: SystemMemory, task: _Task, form: _Form, event: Event | None
) -> Event | None:
    """Take a task's registers. What can fault comes last, as the new task's own doing.

    Args:
        event: what is to be delivered to the task, if anything is; its error code goes on the stack.
    """
    u64 = window.u64
    u64[_EIP] = task.eip
    for number in _GENERAL:
        u64[number] = task.general[number]
    flags.write_eflags(window, task.eflags)
    window.u32[_HFLAGS] &= ~layout.HF_INHIBIT_IRQ
    selectors = dict(zip(_SEGMENTS, task.segments, strict=True))
    cpl = selectors[layout.CS] & RPL
    in_vm86 = bool(task.eflags & flags.VM)
    for register, selector in selectors.items():
        if in_vm86:
            segment = SegmentRegister(selector, selector << 4, 0xFFFF, _VM86_DATA)
        else:
            segment = SegmentRegister(selector, 0, 0, cpl << DPL_SHIFT if register == layout.SS else 0)
        write_segment(window, register, segment)
    write_segment(window, layout.LDTR, SegmentRegister(task.ldt, 0, 0, 0))
    derive_engine_flags(window)
    try:
        _load_local_table(window, memory, task.ldt)
        if not in_vm86:
            for register in _LOAD_ORDER:
                write_segment(window, register, _checked(window, memory, register, selectors[register], cpl))
        derive_engine_flags(window)
        if event is not None and event.error_code is not None:
            stack = read_segment(window, layout.SS)
            top = window.u32[2 * layout.RSP]
            pointer = push(memory, stack, top, (event.error_code,), form.word, 0)
            u64[layout.RSP] = top & ~stack.stack_mask | pointer
        if not read_segment(window, layout.CS).contains(task.eip, 1):
            raise Fault(exits.GP, 0)
    except GuestPageFault as fault:
        return event_of(fault)
    except Fault as fault:
        external = int(event is not None and event.is_external)
        return Event(fault.vector, error_code=(fault.error_code or 0) | external)
    finally:
        derive_engine_flags(window)
    return None


def _load_local_table(window: StateWindow, memory: SystemMemory, selector: int) -> None:
    if not selector & ERROR_SELECTOR:
        return
    found = None if selector & LOCAL else find_descriptor(window, memory, selector)
    if found is None or found.descriptor.high & (PRESENT | 0x1F << _TYPE_SHIFT) != _LDT:
        raise Fault(exits.TS, selector & ERROR_SELECTOR)
    write_segment(window, layout.LDTR, found.loaded(selector)._replace(attributes=found.descriptor.high))


def _checked(
    window: StateWindow, memory: SystemMemory, register: int, selector: int, cpl: int
) -> SegmentRegister:
    """A segment of the new task (volume 3, section 7.3, table 7-1)."""
    error_code = selector & ERROR_SELECTOR
    if not error_code:
        if register in (layout.CS, layout.SS):
            raise Fault(exits.TS, error_code)
        return SegmentRegister(selector, 0, 0, 0)
    found = find_descriptor(window, memory, selector)
    if found is None:
        raise Fault(exits.TS, error_code)
    descriptor = found.descriptor
    if register == layout.CS:
        fits = descriptor.is_code and (
            descriptor.dpl <= cpl if descriptor.is_conforming else descriptor.dpl == cpl
        )
    elif register == layout.SS:
        fits = descriptor.is_writable_data and descriptor.dpl == cpl == selector & RPL
    else:
        fits = descriptor.is_readable and (
            descriptor.is_conforming or descriptor.dpl >= max(cpl, selector & RPL)
        )
    if not fits:
        raise Fault(exits.TS, error_code)
    if not descriptor.present:
        raise Fault(exits.SS if register == layout.SS else exits.NP, error_code)
    mark_accessed(memory, found)
    return found.loaded(selector)
