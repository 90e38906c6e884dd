"""Decoding of the one instruction at which a guest trapped, by capstone, cached by place and bytes."""

import itertools
from dataclasses import dataclass
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
_LOW_BYTES: Final = ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil")
_HIGH_BYTES: Final = ("ah", "ch", "dh", "bh")
_SEGMENTS: Final = {
    "es": layout.ES,
    "cs": layout.CS,
    "ss": layout.SS,
    "ds": layout.DS,
    "fs": layout.FS,
    "gs": layout.GS,
}
_MODES: Final = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
_NEXT: Final = ("rip", "eip")
_REX_W: Final = 8
_OPERAND_SIZE: Final = 0x66
LEGACY_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")

Repeat = Literal["", "rep", "repne"]
_REPEATS: Final[dict[int, Repeat]] = {0xF2: "repne", 0xF3: "rep"}
Kind = Literal["general", "control", "debug", "segment", "vector", "immediate", "memory", "other"]
_NUMBERED: Final[dict[str, Kind]] = {"cr": "control", "dr": "debug", "xmm": "vector"}


class Operand(NamedTuple):
    """One operand.

    `number` is the register's number or the immediate (which has a sign when it is extended by it); the
    other fields describe a memory operand. `size` is in bytes. `high` is set for AH, CH, DH and BH, whose
    number is that of the whole register. A `relative` address counts from the next instruction.
    """

    kind: Kind
    size: int
    number: int = 0
    base: int | None = None
    index_register: int | None = None
    scale: int = 1
    displacement: int = 0
    segment: int = layout.DS
    high: bool = False
    relative: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Instruction:
    """One decoded instruction.

    Two are equal only if they are the same object, so that tables may be keyed by them at no cost.

    Attributes:
        mnemonic: in lower case, without prefixes.
        length: in bytes.
        prefixes: those before the mnemonic, as a disassembler prints them.
        operand_size: 2, 4 or 8: what mode, operand-size prefix and REX.W make of it.
        address_size: 2, 4 or 8 bytes.
        repeat: "rep" is REPE, too; empty when neither prefix is there.
    """

    mnemonic: str
    length: int
    operands: tuple[Operand, ...]
    prefixes: frozenset[str]
    operand_size: int
    address_size: int
    repeat: Repeat


class Decoder:
    """Decodes for one mode: 16, 32 or 64 bits; remembers what it has seen at each machine address."""

    def __init__(self, bits: int = 32) -> None:
        self._bits = bits
        self._capstone = capstone.Cs(capstone.CS_ARCH_X86, _MODES[bits])
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
        # The disassembler forgets prefixes that might belong to an opcode: REPNE of MOVSD, for one.
        legacy = list(itertools.takewhile(LEGACY_PREFIXES.__contains__, code))
        repeats = [_REPEATS[byte] for byte in legacy if byte in _REPEATS]
        size = 8 if decoded.rex & _REX_W else 2 if (self._bits == 16) != (_OPERAND_SIZE in legacy) else 4
        if size == 8 and decoded.imm_size in (2, 4):  # of PUSH with both prefixes it says 2, and means 4
            operands = tuple(map(_sign_extended, operands))
        return Instruction(
            mnemonic,
            decoded.size,
            operands,
            frozenset(prefixes),
            size,
            decoded.addr_size,
            repeats[-1] if repeats else "",
        )

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
                relative=self._name(memory.base) in _NEXT,
            )
        name = self._name(operand.reg)
        digits = name.lstrip("abcdefghijklmnopqrstuvwxyz")
        kind = _NUMBERED.get(name.removesuffix(digits))
        if kind is not None and digits:
            return Operand(kind, operand.size, int(digits))
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


def _sign_extended(operand: Operand) -> Operand:
    """An immediate of 32 bits as the 64 that it stands for."""
    if operand.kind != "immediate":
        return operand
    return operand._replace(number=((operand.number & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000)
