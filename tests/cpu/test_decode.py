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
_judges = {
    16: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_16),
    32: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32),
    64: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64),
}
_judge = _judges[32]
_DECODERS = {bits: Decoder(bits) for bits in _judges}


def decode(code: bytes, bits: int = 32) -> Instruction | None:
    return _DECODERS[bits].decode(0, code)


@pytest.mark.parametrize("bits", _judges)
@given(st.binary(min_size=1, max_size=15))
def test_length_and_mnemonic_are_capstones_for_any_bytes(bits: int, code: bytes) -> None:
    judged = next(_judges[bits].disasm(code, 0, 1), None)
    decoded = decode(code, bits)
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


@pytest.mark.parametrize(
    ("bits", "code", "operand_size", "address_size"),
    [
        (16, b"\x89\x07", 2, 2),
        (16, b"\x66\x67\x89\x07", 4, 4),
        (32, b"\x89\x07", 4, 4),
        (32, b"\x66\x89\x07", 2, 4),
        (32, b"\x67\x89\x07", 4, 2),
        (64, b"\x89\x07", 4, 8),
        (64, b"\x66\x89\x07", 2, 8),
        (64, b"\x66\x48\x89\x07", 8, 8),
        (64, b"\x67\x48\x89\x07", 8, 4),
    ],
)
def test_mode_and_prefixes_give_the_sizes_of_operands_and_addresses(
    bits: int, code: bytes, operand_size: int, address_size: int
) -> None:
    decoded = decode(code, bits)
    assert decoded is not None
    assert (decoded.operand_size, decoded.address_size) == (operand_size, address_size)
    assert (decoded.operands[0].kind, decoded.operands[0].size) == ("memory", operand_size)


@pytest.mark.parametrize(
    ("code", "repeat"),
    [
        (b"\xa5", ""),
        (b"\xf3\xa5", "rep"),
        (b"\xf2\xa5", "repne"),
        (b"\xf2\xf3\xa5", "rep"),
        (b"\xf3\x66\xf2\xa5", "repne"),
        (b"\x67\xf2\x26\xa7", "repne"),
    ],
)
def test_the_last_repeat_prefix_counts(code: bytes, repeat: str) -> None:
    decoded = decode(code)
    assert decoded is not None
    assert decoded.repeat == repeat


@pytest.mark.parametrize(
    ("bits", "code", "base", "index"),
    [
        (16, b"\x89\x00", layout.RBX, layout.RSI),
        (16, b"\x89\x46\x02", layout.RBP, None),
        (64, b"\x43\x89\x04\x88", 8, 9),
        (64, b"\x42\x89\x04\x20", layout.RAX, 12),
        (64, b"\x89\x04\x20", layout.RAX, None),
        (64, b"\x67\x45\x89\x3f", 15, None),
    ],
)
def test_addresses_of_other_modes_name_their_registers(
    bits: int, code: bytes, base: int, index: int | None
) -> None:
    decoded = decode(code, bits)
    assert decoded is not None
    assert (decoded.operands[0].base, decoded.operands[0].index_register) == (base, index)


@pytest.mark.parametrize(
    ("code", "register"),
    [
        (b"\x40\x88\x30", (6, False)),
        (b"\x88\x30", (2, True)),
        (b"\x44\x88\x38", (15, False)),
        (b"\x66\x44\x89\x08", (9, False)),
        (b"\x4c\x89\x00", (8, False)),
    ],
)
def test_rex_chooses_among_all_registers(code: bytes, register: tuple[int, bool]) -> None:
    decoded = decode(code, 64)
    assert decoded is not None
    source = decoded.operands[1]
    assert (source.kind, source.number, source.high) == ("general", *register)


def test_an_address_may_count_from_the_next_instruction() -> None:
    relative, absolute = decode(b"\x89\x05\x10\0\0\0", 64), decode(b"\x89\x05\x10\0\0\0", 32)
    assert relative is not None
    assert absolute is not None
    assert (relative.operands[0].relative, relative.operands[0].displacement) == (True, 16)
    assert (absolute.operands[0].relative, absolute.operands[0].displacement) == (False, 16)


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
