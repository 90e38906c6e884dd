"""Decoding of the one instruction at which a guest trapped, by capstone, cached by place and bytes."""

from typing import Any, Final, Literal, NamedTuple

import capstone
from capstone import x86 as cs_x86

from pvemu.cpu import layout

#: The longest instruction, in bytes.
LONGEST: Final = 15
_CACHE_LIMIT: Final = 4096

#: Calls and jumps through memory; the disassembler has one name for the near and the far ones.
_GROUP_5: Final = 0xFF
_FAR_GROUP_5: Final = {3: "lcall", 5: "ljmp"}

_GENERAL: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_LOW_BYTES: Final = ("al", "cl", "dl", "bl")
_HIGH_BYTES: Final = ("ah", "ch", "dh", "bh")
_SEGMENTS: Final = {
    "es": layout.ES,
    "cs": layout.CS,
    "ss": layout.SS,
    "ds": layout.DS,
    "fs": layout.FS,
    "gs": layout.GS,
}


class Operand(NamedTuple):
    """One operand.

    `kind` is "general", "control", "debug", "segment", "immediate", "memory" or "other"; `number` is the
    register's number or the immediate; the other fields describe a memory operand. `size` is in bytes.
    `high` is set for AH, CH, DH and BH, whose number is that of the whole register.
    """

    kind: Literal["general", "control", "debug", "segment", "immediate", "memory", "other"]
    size: int
    number: int = 0
    base: int | None = None
    index_register: int | None = None
    scale: int = 1
    displacement: int = 0
    segment: int = layout.DS
    high: bool = False


class Instruction(NamedTuple):
    """One decoded instruction: its mnemonic in lower case, without prefixes, and its length in bytes."""

    mnemonic: str
    length: int
    operands: tuple[Operand, ...]
    prefixes: frozenset[str]


class Decoder:
    """Decodes for one mode (32 or 64 bits); remembers what it has seen at each machine address."""

    def __init__(self, bits: int = 32) -> None:
        self._capstone = capstone.Cs(
            capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32
        )
        self._capstone.detail = True
        self._cache: dict[tuple[int, bytes], Instruction | None] = {}

    def decode(self, machine_address: int, code: bytes) -> Instruction | None:
        """The instruction that `code` (up to 15 bytes, found at a machine address) begins with; or None."""
        key = (machine_address, code)
        instruction = self._cache.get(key)
        if instruction is None and key not in self._cache:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            instruction = self._cache[key] = self._decode(code)
        return instruction

    def _decode(self, code: bytes) -> Instruction | None:
        decoded = next(self._capstone.disasm(code, 0, 1), None)
        if decoded is None:
            return None
        *prefixes, mnemonic = decoded.mnemonic.split()
        if decoded.opcode[0] == _GROUP_5:
            mnemonic = _FAR_GROUP_5.get(decoded.modrm >> 3 & 7, mnemonic)
        operands = tuple(self._operand(operand) for operand in decoded.operands)
        return Instruction(mnemonic, decoded.size, operands, frozenset(prefixes))

    def _operand(self, operand: Any) -> Operand:
        if operand.type == cs_x86.X86_OP_IMM:
            return Operand("immediate", operand.size, operand.imm)
        if operand.type == cs_x86.X86_OP_MEM:
            memory = operand.mem
            base = self._general(memory.base)
            stack = base in (layout.RSP, layout.RBP)
            segment = self._name(memory.segment)
            return Operand(
                "memory",
                operand.size,
                base=base,
                index_register=self._general(memory.index),
                scale=memory.scale,
                displacement=memory.disp,
                segment=_SEGMENTS.get(segment, layout.SS if stack else layout.DS),
            )
        name = self._name(operand.reg)
        for prefix, kind in (("cr", "control"), ("dr", "debug")):
            if name.startswith(prefix) and name[2:].isdigit():
                return Operand(kind, operand.size, int(name[2:]))  # type: ignore[arg-type]
        if name in _SEGMENTS:
            return Operand("segment", operand.size, _SEGMENTS[name])
        if name in _LOW_BYTES:
            return Operand("general", operand.size, _LOW_BYTES.index(name))
        if name in _HIGH_BYTES:
            return Operand("general", operand.size, _HIGH_BYTES.index(name), high=True)
        number = self._general(operand.reg)
        return Operand("other", operand.size) if number is None else Operand("general", operand.size, number)

    def _name(self, register: int) -> str:
        return str(self._capstone.reg_name(register) or "") if register else ""

    def _general(self, register: int) -> int | None:
        """The number of a general register of 16 bits or more; None for any other register."""
        name = self._name(register)
        if name[:1] == "r" and name[1:].rstrip("dwb").isdigit():
            return int(name[1:].rstrip("dwb"))
        name = name[1:] if name[:1] in ("e", "r") else name
        return _GENERAL.index(name) if name in _GENERAL else None
