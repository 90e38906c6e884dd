"""A machine that understands just the moves before a hypercall, decoded by capstone."""

from dataclasses import dataclass, field

import capstone
from capstone import x86

_PARTS = {
    "eax ebx ecx edx esi edi ebp esp r8d r9d r10d r11d r12d": (
        4,
        "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12",
    ),
    "ax bx cx dx si di bp r8w r10w": (2, "rax rbx rcx rdx rsi rdi rbp r8 r10"),
    "al bl cl dl sil dil r8b r10b": (1, "rax rbx rcx rdx rsi rdi r8 r10"),
}
_PART = {
    part: (size, whole)
    for parts, (size, wholes) in _PARTS.items()
    for part, whole in zip(parts.split(), wholes.split(), strict=True)
}


def memory_at(address: int, size: int) -> int:
    """What the machine's memory holds: a number that tells its address, so that no two places are alike."""
    return (address * 0x9E3779B97F4A7C15 + 0x1234567) & (1 << 8 * size) - 1


@dataclass
class RegisterMachine:
    """Registers by their 64-bit names; memory is never written."""

    bits: int
    registers: dict[str, int] = field(default_factory=dict)

    def get(self, name: str) -> int:
        """The value of a register or a part of one."""
        size, whole = _PART.get(name, (8, name))
        return self.registers[whole] & (1 << 8 * size) - 1

    def run(self, code: bytes) -> str:
        """Run up to the first call, jmp, int or syscall; return its operand as capstone writes it."""
        mode = capstone.CS_MODE_32 if self.bits == 32 else capstone.CS_MODE_64
        decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
        decoder.detail = True
        for instruction in decoder.disasm(code, 0):
            if instruction.mnemonic in ("call", "jmp", "int", "syscall", "push"):
                return str(instruction.op_str)
            self._step(instruction)
        raise AssertionError("the code does not call")

    def _step(self, instruction: capstone.CsInsn) -> None:
        first, second = instruction.operands
        match instruction.mnemonic:
            case "mov" | "movzx" | "movabs":
                self._set(instruction, first, self._value(instruction, second))
            case "lea":
                self._set(instruction, first, self._address(instruction, second))
            case "xor":
                assert first.reg == second.reg
                self._set(instruction, first, 0)
            case "xchg":
                values = self._value(instruction, first), self._value(instruction, second)
                self._set(instruction, first, values[1])
                self._set(instruction, second, values[0])
            case other:
                raise AssertionError(f"{other} is no move")

    def _set(self, instruction: capstone.CsInsn, operand: x86.X86Op, value: int) -> None:
        name = instruction.reg_name(operand.reg)
        size, whole = _PART.get(name, (8, name))
        assert size >= 4, "a part of a register was written"
        self.registers[whole] = value & (1 << 8 * size) - 1

    def _value(self, instruction: capstone.CsInsn, operand: x86.X86Op) -> int:
        if operand.type == x86.X86_OP_REG:
            return self.get(instruction.reg_name(operand.reg))
        if operand.type == x86.X86_OP_IMM:
            return int(operand.imm)
        return memory_at(self._address(instruction, operand), operand.size)

    def _address(self, instruction: capstone.CsInsn, operand: x86.X86Op) -> int:
        memory = operand.mem
        base = self.get(instruction.reg_name(memory.base)) if memory.base else 0
        index = self.get(instruction.reg_name(memory.index)) if memory.index else 0
        return (base + index * memory.scale + memory.disp) % (1 << self.bits)
