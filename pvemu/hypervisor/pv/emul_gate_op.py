"""Call gates: a far call or jump through one traps, as its DPL is 0 in the table, and is carried out here.

The guest's DPL for a gate is kept in the RPL of its target selector (pv/descriptor_check.py). A call from an
outer ring switches to the stack that stack_switch named, and copies its parameters there.
"""

import struct
from typing import Final, NamedTuple

from pvemu.cpu import exits, layout
from pvemu.cpu.decode import Instruction, Operand
from pvemu.cpu.segments import Descriptor
from pvemu.hypervisor.pv.bounce import load_ring
from pvemu.hypervisor.pv.descriptors import read_descriptor, segment_base, stack_segment
from pvemu.hypervisor.pv.emul_priv_op import fetch
from pvemu.hypervisor.pv.inject import inject_exception, inject_page_fault
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault
from pvemu.memory.page_tables import FAULT_WRITE

_TYPE_MASK: Final = 0x1F00
_CALL_GATE: Final = 0xC00
_PARAMETERS: Final = 0x1F
_KERNEL_RING: Final = 1
_LOW: Final = 0xFFFFFFFF

_ESP32, _EIP, _EIP32 = 2 * layout.RSP, layout.EIP // 8, layout.EIP // 4
_CS = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE) // 4
_SS = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE) // 4
_SS_BASE = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE + layout.BASE) // 4


class _Refused(Exception):
    """The exception that the guest gets instead."""

    def __init__(self, vector: int, error_code: int) -> None:
        super().__init__()
        self.vector, self.error_code = vector, error_code


class _Transfer(NamedTuple):
    """Where a gate leads: selector without RPL, offset, parameters to copy, and how the guest wants to go."""

    selector: int
    offset: int
    parameters: int
    is_jump: bool
    length: int


def emulate_gate_op(vcpu: Vcpu, error_code: int) -> None:
    """Handle a #GP with a selector: go through its call gate, or give the guest its exception."""
    try:
        _go_through(vcpu, _transfer(vcpu, error_code), error_code)
    except _Refused as refusal:
        inject_exception(vcpu, refusal.vector, refusal.error_code)
    except GuestFault as fault:
        inject_page_fault(vcpu, FAULT_WRITE, fault.address)


def _transfer(vcpu: Vcpu, selector: int) -> _Transfer:
    """What the instruction at EIP asks for, if it is a far call or jump through the gate of a selector."""
    ring = vcpu.domain.hypervisor.cpu.window.u32[_CS] & 3
    gate = read_descriptor(vcpu, selector)
    plain = _Refused(exits.GP, selector)
    if gate is None or gate.high & _TYPE_MASK != _CALL_GATE:
        raise plain
    dpl = gate.low >> 16 & 3
    if dpl < ring:
        raise plain
    if not gate.present:
        raise _Refused(exits.NP, selector)
    instruction = fetch(vcpu)
    if instruction is None or instruction.mnemonic not in ("lcall", "ljmp"):
        raise plain
    named = _named_selector(vcpu, instruction)
    if named & ~3 != selector or dpl < named & 3:
        raise plain
    return _Transfer(
        gate.low >> 16 & ~3,
        gate.low & 0xFFFF | gate.high & 0xFFFF0000,
        gate.high & _PARAMETERS,
        instruction.mnemonic == "ljmp",
        instruction.length,
    )


def _named_selector(vcpu: Vcpu, instruction: Instruction) -> int:
    """The selector in the instruction, or in the memory that it points to, behind the offset."""
    first = instruction.operands[0]
    if first.kind == "immediate":
        return first.number & 0xFFFF
    return vcpu.domain.memory.read_u16(linear_address(vcpu, first) + 4)


def linear_address(vcpu: Vcpu, operand: Operand) -> int:
    """The linear address of a memory operand."""
    window = vcpu.domain.hypervisor.cpu.window
    address = operand.displacement
    if operand.base is not None:
        address += window.u64[operand.base]
    if operand.index_register is not None:
        address += window.u64[operand.index_register] * operand.scale
    base = window.u32[(layout.SEGMENTS + operand.segment * layout.SEGMENT_SIZE + layout.BASE) // 4]
    return ((address & _LOW) + base) & _LOW


def _go_through(vcpu: Vcpu, transfer: _Transfer, gate_selector: int) -> None:
    window = vcpu.domain.hypervisor.cpu.window
    u32, u64 = window.u32, window.u64
    ring = u32[_CS] & 3
    target = _target(vcpu, transfer, ring)
    selector = transfer.selector | (ring if transfer.is_jump or target.dpl >= ring else target.dpl)
    stack_selector, stack, base = u32[_SS] & 0xFFFF, u32[_ESP32], u32[_SS_BASE]
    if not transfer.is_jump:
        frame = [(u32[_EIP32] + transfer.length) & _LOW, u32[_CS] & 0xFFFF]
        if selector & 3 < ring:
            if selector & 3 != _KERNEL_RING:
                raise _Refused(exits.GP, gate_selector)
            if stack_segment(vcpu, vcpu.kernel_selector, _KERNEL_RING) is None:
                raise _Refused(exits.TS, vcpu.kernel_selector & ~3)
            parameters = vcpu.domain.memory.copy_from_guest(stack + base & _LOW, transfer.parameters * 4)
            frame += [*struct.unpack(f"<{transfer.parameters}I", parameters), stack, stack_selector]
            stack_selector, stack = vcpu.kernel_selector, vcpu.kernel_stack
            base = segment_base(vcpu, stack_selector)
        stack = (stack - 4 * len(frame)) & _LOW
        vcpu.domain.memory.copy_to_guest(stack + base & _LOW, struct.pack(f"<{len(frame)}I", *frame))
    u64[layout.RSP], u64[_EIP] = stack, transfer.offset
    load_ring(vcpu, selector, stack_selector)


def _target(vcpu: Vcpu, transfer: _Transfer, ring: int) -> Descriptor:
    """The code segment that a gate leads to, if the running ring may go there."""
    target = read_descriptor(vcpu, transfer.selector)
    if target is None or not target.is_code:
        raise _Refused(exits.GP, transfer.selector)
    # A jump never changes the ring, unless the code conforms to whichever it is called from.
    may_go = target.dpl <= ring if not transfer.is_jump or target.is_conforming else target.dpl == ring
    if not may_go:
        raise _Refused(exits.GP, transfer.selector)
    if not target.present:
        raise _Refused(exits.NP, transfer.selector)
    if transfer.offset > target.limit:
        raise _Refused(exits.GP, 0)
    return target
