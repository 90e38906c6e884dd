"""Where in the address space an instruction stores, worked out from its operands."""

from typing import Final

from pvemu.cpu import layout
from pvemu.cpu.decode import Instruction
from pvemu.hypervisor.pv.emul_gate_op import linear_address
from pvemu.hypervisor.pv.store_form import read_operand
from pvemu.hypervisor.vcpu import Vcpu

_PUSHES: Final = {"push": 4, "pushf": 2, "pushfd": 4}
_BIT_STORES: Final = frozenset({"bts", "btr", "btc"})
_LOW: Final = 0xFFFFFFFF


def store_place(vcpu: Vcpu, instruction: Instruction) -> int | None:
    """The linear address of the first byte that an instruction of STORES writes; None if it writes none.

    A page fault does not always tell: of a store across two pages it names the one that may not be written.
    """
    operands = instruction.operands
    if instruction.mnemonic in _PUSHES:
        size = operands[0].size if operands else _PUSHES[instruction.mnemonic]
        return (vcpu.domain.hypervisor.cpu.window.u64[layout.RSP] - size) & _LOW
    memory = next((operand for operand in operands if operand.kind == "memory"), None)
    if memory is None:
        return None
    place = linear_address(vcpu, memory)
    if instruction.mnemonic in _BIT_STORES and operands[1].kind == "general":
        bits = 8 * memory.size
        offset = read_operand(vcpu, operands[1])
        signed = offset - (offset >> bits - 1 << bits)
        place += signed // bits * memory.size
    return place & _LOW
