"""The encoder against capstone: what it writes, an independent decoder reads back as the same instruction."""

from functools import cache
from typing import TypeAlias

import capstone
from capstone import x86
from hypothesis import assume, given, settings
from instruction_strategies import ADDRESS, immediate_bits, instructions

from guestkit.x86.encoder import encode
from guestkit.x86.notation import Form
from guestkit.x86.operands import REGISTERS, Far, Immediate, Memory, Operand, Register, Relative

Reading: TypeAlias = tuple[str | int, ...]

# What capstone calls things that have several names: ours on the left, its own on the right.
_CONDITIONS = "c=b nae=b nb=ae nc=ae z=e nz=ne na=be nbe=a pe=p po=np nge=l nl=ge ng=le nle=g"
_NAMES = {
    "sal": "shl", "xlat": "xlatb", "retn": "ret", "icebp": "int1", "loopz": "loope", "loopnz": "loopne",
    "retfw": "retf", "iretw": "iret", "iret": "iretd", "pushfw": "pushf", "popfw": "popf",
    "pusha": "pushal", "pushad": "pushal", "popa": "popal", "popad": "popal",
    "fucomip": "fucompi", "fcomip": "fcompi", "fwait": "wait",
}  # fmt: skip
for _pair in _CONDITIONS.split():
    _ours, _theirs = _pair.split("=")
    _NAMES |= {stem + _ours: stem + _theirs for stem in ("j", "set", "cmov")}
_NAMES_OF_MODE = {32: {"pushf": "pushfd", "popf": "popfd"}, 64: {"pushf": "pushfq", "popf": "popfq"}}
# Encodings that have a name and operands of their own: 90 is NOP before it is XCHG, CC is INT3 before INT 3.
_SPECIAL = {b"\x90": "nop", b"\x66\x90": "nop", b"\xcc": "int3"}

# capstone 5 decodes UD0 and UD1 without the ModRM byte that the manual gives them.
_DECODED_WRONGLY = {"ud0", "ud1"}
# capstone 5 is older than this one.
_NOT_DECODED = {"serialize"}
# The register of a selector: 16 bits count, and the same bytes have the name of any size.
_SELECTORS = {"sldt", "str", "lar", "lsl"}
_SYMMETRIC = {"xchg", "test"}
_WAIT = b"\x9b"


@settings(max_examples=1500, deadline=None)
@given(instructions())
def test_capstone_reads_back_what_was_encoded(instruction: tuple[int, Form, tuple[Operand, ...]]) -> None:
    bits, form, operands = instruction
    assume(form.mnemonic not in _DECODED_WRONGLY | _NOT_DECODED)
    code = encode(bits, form.mnemonic, operands, address=ADDRESS).code
    mnemonic, address = form.mnemonic, ADDRESS
    if code.startswith(_WAIT) and len(code) > 1:
        # FSAVE and the like are WAIT and FNSAVE, which capstone shows as two instructions.
        code, address, mnemonic = code[1:], ADDRESS + 1, "fn" + mnemonic[1:]
    decoded = list(_decoder(bits).disasm(code, address))
    assert [found.size for found in decoded] == [len(code)], code.hex(" ")
    found = decoded[0]
    assert found.mnemonic in _names(mnemonic, code, operands, bits)
    if form.operands and code not in _SPECIAL:
        expected = [
            reading
            for operand, name in zip(operands, form.operands, strict=True)
            for reading in _read(operand, name, bits, address + len(code))
        ]
        assert _plain(form, _reported(found, bits)) == _plain(form, expected)


def _names(mnemonic: str, code: bytes, operands: tuple[Operand, ...], bits: int) -> set[str]:
    """What capstone may call an instruction."""
    if code in _SPECIAL:
        return {_SPECIAL[code]}
    if any(isinstance(operand, Far) or (isinstance(operand, Memory) and operand.far) for operand in operands):
        return {mnemonic, "l" + mnemonic}
    if mnemonic == "mov" or mnemonic == "movabs":
        return {"mov", "movabs"}
    return {_NAMES.get(mnemonic) or _NAMES_OF_MODE[bits].get(mnemonic, mnemonic)}


def _plain(form: Form, readings: list[Reading]) -> list[Reading]:
    """Operands without what capstone leaves open, or shows in its own way."""
    if "STi" in form.operands:
        return [reading for reading in readings if reading != ("register", "st(0)")]
    if form.mnemonic in _SYMMETRIC:
        return sorted(readings, key=repr)
    if "both" in form.places:
        return [readings[0], readings[-1]]
    if form.mnemonic in _SELECTORS or "Sreg" in form.operands:
        return [(reading[0], _word_register(str(reading[1])), *reading[2:]) for reading in readings]
    return readings


def _word_register(name: str) -> str:
    register = REGISTERS.get(name)
    if register is None or register.kind not in ("gpr32", "gpr64"):
        return name
    return next(r.name for r in REGISTERS.values() if (r.kind, r.number) == ("gpr16", register.number))


@cache
def _decoder(bits: int) -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_32)
    decoder.detail = True
    return decoder


def _read(operand: Operand, name: str, bits: int, end: int) -> list[Reading]:
    """An operand as capstone should show it; ``end`` is the address after the instruction."""
    match operand:
        case Register():
            return [("register", f"st({operand.number})" if operand.kind == "st" else operand.name)]
        case Immediate(value=value):
            return [("number", value.number % (1 << immediate_bits(name)))]
        case Relative(value=value):
            return [("number", value.number % (1 << bits))]
        case Far(selector=selector, offset=offset):
            return [("number", selector.number), ("number", offset.number)]
        case Memory():
            names = [
                register.name if register else ""
                for register in (operand.segment, operand.base, operand.index)
            ]
            offset = operand.displacement.number
            if operand.rip_relative:
                names[1], offset = "rip", offset - end
            # Only an absolute address can have more than the 32 bits of a displacement.
            width = 32 if any(names[1:]) else bits
            return [("memory", *names, operand.scale, offset % (1 << width))]


def _reported(found: capstone.CsInsn, bits: int) -> list[Reading]:
    """The operands as capstone does show them."""
    readings: list[Reading] = []
    for operand in found.operands:
        if operand.type == x86.X86_OP_REG:
            readings.append(("register", found.reg_name(operand.reg)))
        elif operand.type == x86.X86_OP_IMM:
            readings.append(("number", operand.imm % (1 << 8 * (operand.size or 8))))
        else:
            memory = operand.mem
            names = [found.reg_name(number) or "" for number in (memory.segment, memory.base, memory.index)]
            width = 32 if any(names[1:]) else bits
            readings.append(("memory", *names, memory.scale, memory.disp % (1 << width)))
    return readings
