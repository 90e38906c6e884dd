"""What a person reads who writes an instruction that the processor does not have."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_strategies import ADDRESS, instructions

from guestkit.x86.encoder import EncodeError, encode, mnemonics
from guestkit.x86.operands import REGISTERS, Far, Immediate, Memory, Operand, Relative, Value
from pvemu.abi.errors import PvemuError


def _r(name: str) -> Operand:
    return REGISTERS[name]


def _i(number: int, size: int | None = None) -> Operand:
    return Immediate(Value(number), size)


_EAX, _EBX, _ESP, _BX, _CX = (REGISTERS[name] for name in ("eax", "ebx", "esp", "bx", "cx"))
_AT_EBX = Memory(base=_EBX)
_FAR_AWAY = Value(1000)

_MESSAGES: list[tuple[int, str, list[Operand], int | None, str]] = [
    (32, "movv", [_EAX], None, "there is no instruction 'movv'"),
    (32, "mov", [_EAX], None, "MOV takes 2 operands, not 1"),
    (32, "nop", [_EAX, _EAX], None, "NOP takes no or 1 operand, not 2"),
    (32, "swapgs", [], None, "SWAPGS exists only in 64-bit code"),
    (64, "pusha", [], None, "PUSHA exists only in 32-bit code"),
    (64, "jmp", [Far(Value(16), Value(0))], 0, "JMP does not take a far address as its first operand"),
    (32, "mov", [_r("r8d"), _EAX], 0, "r8d exists only in 64-bit code"),
    (32, "mov", [_EAX, Memory(base=REGISTERS["rax"])], 1, "rax exists only in 64-bit code"),
    (32, "mov", [_BX, _EAX], 1, "MOV takes operands of one size: bx has 16 bits, eax has 32"),
    (32, "add", [_EAX, Memory(8, _EBX)], 1,
     "ADD takes operands of one size: eax has 32 bits, byte memory has 8"),
    (32, "mov", [_EAX, _i(5, 8)], 1, "MOV does not take byte 5 as its second operand after eax"),
    (32, "mov", [_AT_EBX, _AT_EBX], 1,
     "MOV cannot have two memory operands; load one of them into a register first"),
    (32, "mov", [_AT_EBX, _i(5)], 0,
     "MOV needs the size of this memory operand: write byte, word or dword before it"),
    (64, "inc", [Memory(base=REGISTERS["rax"])], 0,
     "INC needs the size of this memory operand: write byte, word, dword or qword before it"),
    (32, "movzx", [_EAX, _AT_EBX], 1,
     "MOVZX needs the size of this memory operand: write byte or word before it"),
    (32, "fld", [_AT_EBX], 0,
     "FLD needs the size of this memory operand: write dword, qword or tword before it"),
    (32, "mov", [_r("al"), _i(300)], 1, "MOV cannot hold 300; it takes imm8 (from -128 to 255) there"),
    (32, "add", [_BX, _i(0x10000)], 1,
     "ADD cannot hold 65536; it takes imm8 (from -128 to 255) or imm16 (from -0x8000 to 0xffff) there"),
    (64, "add", [_r("rbx"), _i(1 << 31)], 1,
     "ADD cannot hold 2147483648; it takes imm8 (from -128 to 255) or imm32 (from -0x80000000 to"),
    (32, "mov", [_r("cr0"), _i(5)], 1,
     "MOV does not take 5 as its second operand after cr0; it takes r32 there"),
    (32, "out", [_r("dx"), _r("ecx")], 1,
     "OUT does not take ecx as its second operand after dx; it takes AL, AX or EAX there"),
    (32, "lea", [_EAX, _EBX], 1,
     "LEA does not take ebx as its second operand after eax; it takes memory there"),
    (64, "mov", [_r("ah"), _r("r8b")], 0, "ah cannot stand in an instruction with a REX prefix"),
    (32, "call", [Relative(_FAR_AWAY, "short")], 0, "CALL has no short form, only a near one"),
    (32, "loop", [Relative(_FAR_AWAY, "near")], 0, "LOOP has no near form, only a short one"),
    (32, "loop", [Relative(_FAR_AWAY)], 0,
     "the target is 998 bytes away; this form reaches from -128 to 127"),
    (32, "jmp", [Relative(_FAR_AWAY, "short")], 0, "the target is 998 bytes away"),
    (32, "mov", [_EAX, Memory(base=_EBX, index=_EAX, scale=3)], 1,
     "an index is scaled by 1, 2, 4 or 8, not by 3"),
    (32, "mov", [_EAX, Memory(index=_ESP, scale=2)], 1, "esp cannot be an index"),
    (32, "mov", [_EAX, Memory(base=_BX, index=_CX)], 1,
     "a 16-bit address is bx or bp, si or di, or one of each"),
    (32, "mov", [_EAX, Memory(base=_EBX, index=_CX)], 1, "the parts of the address have different sizes"),
    (32, "mov", [_EAX, Memory(base=REGISTERS["al"])], 1, "al cannot be part of an address"),
    (64, "mov", [_EAX, Memory(base=_BX)], 1, "an address in 64-bit code has 64 or 32 bits, not 16"),
    (32, "mov", [_EAX, Memory(rip_relative=True)], 1, "addresses relative to rip exist only in 64-bit code"),
    (32, "mov", [_EBX, Memory(displacement=Value(1 << 32))], 1,
     "0x100000000 does not fit into a 32-bit address"),
    (64, "mov", [_EBX, Memory(base=REGISTERS["rax"], displacement=Value(1 << 31))], 1,
     "0x80000000 does not fit into the signed 32-bit displacement"),
    (64, "mov", [_EBX, Memory(displacement=Value(1 << 40))], 1,
     "MOV cannot reach 0x10000000000 with the signed 32 bits of its displacement"),
]  # fmt: skip


@pytest.mark.parametrize(("bits", "mnemonic", "operands", "index", "message"), _MESSAGES)
def test_an_impossible_instruction_is_explained(
    bits: int, mnemonic: str, operands: list[Operand], index: int | None, message: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(bits, mnemonic, operands)
    assert str(caught.value).startswith(message)
    assert caught.value.operand_index == index


_PREFIX_MESSAGES: list[tuple[int, str, str, list[Operand], str]] = [
    (32, "lock", "mov", [_AT_EBX, _EAX], "lock does not go with MOV, but with adc, add, and, btc"),
    (32, "lock", "add", [_EAX, _AT_EBX], "lock needs a memory operand as the destination"),
    (32, "rep", "mov", [_EAX, _EBX], "rep does not go with MOV, but with the string instructions"),
    (32, "repne", "movsb", [], "repne does not go with MOVSB, but with CMPS and SCAS"),
    (32, "fs", "mov", [_EAX, _AT_EBX], "fs does not go with MOV, but with MOVS, CMPS, LODS, OUTS and XLAT"),
    (64, "a16", "movsb", [], "a16 is a prefix of 32-bit code only"),
    (32, "a32", "movsb", [], "a32 is a prefix of 64-bit code only"),
    (32, "please", "nop", [], "unknown prefix 'please'; there are: fep, lock, rep, repe"),
]


@pytest.mark.parametrize(("bits", "prefix", "mnemonic", "operands", "message"), _PREFIX_MESSAGES)
def test_a_prefix_that_is_out_of_place_is_explained(
    bits: int, prefix: str, mnemonic: str, operands: list[Operand], message: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(bits, mnemonic, operands, prefixes=[prefix])
    assert str(caught.value).startswith(message)


def test_an_encode_error_is_a_mistake_of_the_person() -> None:
    assert issubclass(EncodeError, PvemuError)


_OPERANDS = instructions().flatmap(lambda drawn: st.sampled_from(drawn[2]) if drawn[2] else st.just(_EAX))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([32, 64]), st.sampled_from(sorted(mnemonics())), st.lists(_OPERANDS, max_size=4))
def test_any_mnemonic_with_any_operands_is_encoded_or_explained(
    bits: int, mnemonic: str, operands: list[Operand]
) -> None:
    try:
        encoded = encode(bits, mnemonic, operands, address=ADDRESS)
    except EncodeError as error:
        assert "\n" not in str(error) and str(error)
    else:
        assert 1 <= len(encoded.code) <= 15
