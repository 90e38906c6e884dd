"""Decoding of trapped instructions, judged by capstone's own text."""

import re

import capstone
import pytest
from bare_guest import assembled
from hypothesis import given
from hypothesis import strategies as st

from pvemu.cpu import layout
from pvemu.cpu.decode import Decoder, Instruction, Operand

_NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_SEGMENT_NAMES = {
    layout.ES: "es",
    layout.CS: "cs",
    layout.SS: "ss",
    layout.DS: "ds",
    layout.FS: "fs",
    layout.GS: "gs",
}
_judge = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)


def decode(code: bytes) -> Instruction | None:
    return Decoder().decode(0, code)


@given(st.binary(min_size=1, max_size=15))
def test_length_and_mnemonic_are_capstones_for_any_bytes(code: bytes) -> None:
    judged = next(_judge.disasm(code, 0, 1), None)
    decoded = decode(code)
    assert (decoded is None) == (judged is None)
    if decoded is not None and judged is not None:
        assert decoded.length == judged.size
        assert judged.mnemonic.split()[-1] == decoded.mnemonic
        assert set(judged.mnemonic.split()[:-1]) == decoded.prefixes


_REGISTER = st.sampled_from(_NAMES)
_INDEX = st.sampled_from([name for name in _NAMES if name != "esp"])


@given(_REGISTER, _REGISTER, _INDEX, st.sampled_from([1, 2, 4, 8]), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_memory_operand_names_its_parts(
    value: str, base: str, index: str, scale: int, displacement: int
) -> None:
    code = assembled(f"mov [{base} + {index} * {scale} + {displacement}], {value}").section_bytes(".text")
    decoded = decode(code)
    assert decoded is not None
    memory, register = decoded.operands
    assert (register.kind, register.number, register.size) == ("general", _NAMES.index(value), 4)
    assert (memory.kind, memory.size) == ("memory", 4)
    text = next(_judge.disasm(code, 0, 1)).op_str
    if memory.base is not None:
        assert _NAMES[memory.base] in text
    if memory.index_register is not None:
        assert f"{_NAMES[memory.index_register]}" in text
        assert memory.scale == 1 or f"*{memory.scale}" in text
    number = re.search(r"([+-] |\[)(0x[0-9a-f]+|\d+)\]", text)
    assert abs(memory.displacement) == (int(number[2], 0) if number else 0)


@pytest.mark.parametrize(
    ("source", "segment"),
    [
        ("mov eax, [ebx]", layout.DS),
        ("mov eax, [ebp]", layout.SS),
        ("mov eax, [esp + 4]", layout.SS),
        ("mov eax, [ebp + ebx * 2]", layout.SS),
        ("mov eax, [ebx + ebp * 2]", layout.DS),
        ("mov eax, [fs:ebp]", layout.FS),
        ("mov eax, [es:ebx]", layout.ES),
        ("mov eax, [0x1234]", layout.DS),
    ],
)
def test_a_memory_operand_lies_in_the_segment_of_its_base(source: str, segment: int) -> None:
    decoded = decode(assembled(source).section_bytes(".text"))
    assert decoded is not None
    assert decoded.operands[1].segment == segment


@pytest.mark.parametrize(
    ("source", "operands"),
    [
        ("mov eax, cr0", [("general", 0), ("control", 0)]),
        ("mov cr3, edi", [("control", 3), ("general", 7)]),
        ("mov dr7, esp", [("debug", 7), ("general", 4)]),
        ("mov ebx, dr6", [("general", 3), ("debug", 6)]),
        ("mov ds, eax", [("segment", layout.DS), ("general", 0)]),
        ("in al, 0x60", [("general", 0), ("immediate", 0x60)]),
        ("clts", []),
        ("rdmsr", []),
    ],
)
def test_special_registers_are_told_apart(source: str, operands: list[tuple[str, int]]) -> None:
    decoded = decode(assembled(source).section_bytes(".text"))
    assert decoded is not None
    assert [(operand.kind, operand.number) for operand in decoded.operands] == operands


@pytest.mark.parametrize(
    ("source", "mnemonic"),
    [
        ("call far [ebx]", "lcall"),
        ("jmp far fs:[0x1234]", "ljmp"),
        ("call [ebx]", "call"),
        ("jmp [ebx]", "jmp"),
        ("call 8:0x1234", "lcall"),
        ("jmp 8:0x1234", "ljmp"),
    ],
)
def test_far_calls_and_jumps_are_told_from_near_ones(source: str, mnemonic: str) -> None:
    decoded = decode(assembled(source).section_bytes(".text"))
    assert decoded is not None
    assert decoded.mnemonic == mnemonic


@pytest.mark.parametrize("prefix", ["lock", "rep", "repne"])
def test_prefixes_are_kept_beside_the_mnemonic(prefix: str) -> None:
    source = {"lock": "lock inc dword [eax]", "rep": "rep movsb", "repne": "repne scasb"}[prefix]
    decoded = decode(assembled(source).section_bytes(".text"))
    assert decoded is not None
    assert decoded.prefixes == {prefix}
    assert decoded.mnemonic == source.split()[1]


def test_what_was_decoded_at_a_place_is_decoded_anew_when_its_bytes_change() -> None:
    decoder = Decoder()
    names = [decoder.decode(0x1000, code) for code in (b"\x0f\x06", b"\x0f\x09", b"\x0f\x06")]
    assert [decoded.mnemonic for decoded in names if decoded] == ["clts", "wbinvd", "clts"]


def test_the_decoder_remembers_a_bounded_number_of_places() -> None:
    decoder = Decoder()
    for address in range(10_000):
        decoder.decode(address, b"\x0f\x06")
    assert len(decoder._cache) <= 4096


def test_operands_do_not_lose_the_methods_of_a_tuple() -> None:
    assert Operand("other", 4).index("other") == 0
