"""Prefixes: read back by capstone, in the order in which GNU as writes them."""

from pathlib import Path

import capstone
import pytest
from gnu_assembler import assemble, needs_gnu_as

from guestkit.x86.encoder import encode
from guestkit.x86.operands import REGISTERS, Memory, Operand

_EAX, _EBX = REGISTERS["eax"], REGISTERS["ebx"]
_AT_EBX, _AT_FS_BX = Memory(base=_EBX), Memory(base=REGISTERS["bx"], segment=REGISTERS["fs"])
_STRINGS = [f"{stem}{size}" for stem in ("movs", "stos", "lods", "ins", "outs") for size in "bwd"]
_COMPARES = [f"{stem}{size}" for stem in ("cmps", "scas") for size in "bwd"]


def _read_back(code: bytes, bits: int = 32) -> tuple[str, str]:
    mode = capstone.CS_MODE_32 if bits == 32 else capstone.CS_MODE_64
    (found,) = capstone.Cs(capstone.CS_ARCH_X86, mode).disasm(code, 0)
    assert found.size == len(code)
    return found.mnemonic, found.op_str


@pytest.mark.parametrize("mnemonic", _STRINGS)
def test_rep_repeats_a_string_instruction(mnemonic: str) -> None:
    assert _read_back(encode(32, mnemonic, [], prefixes=["rep"]).code)[0] == f"rep {mnemonic}"


@pytest.mark.parametrize("mnemonic", _COMPARES)
@pytest.mark.parametrize(
    ("prefix", "shown"), [("repe", "repe"), ("repz", "repe"), ("repne", "repne"), ("repnz", "repne")]
)
def test_a_compare_is_repeated_while_equal_or_not(mnemonic: str, prefix: str, shown: str) -> None:
    assert _read_back(encode(32, mnemonic, [], prefixes=[prefix]).code)[0] == f"{shown} {mnemonic}"


@pytest.mark.parametrize(
    ("mnemonic", "operands"),
    [
        ("add", [_AT_EBX, _EAX]),
        ("inc", [Memory(32, _EBX)]),
        ("xadd", [_AT_EBX, _EAX]),
        ("xchg", [_EAX, _AT_EBX]),
        ("cmpxchg", [_AT_EBX, _EAX]),
        ("cmpxchg8b", [_AT_EBX]),
        ("btr", [_AT_EBX, _EAX]),
    ],
)
def test_lock_makes_a_change_of_memory_atomic(mnemonic: str, operands: list[Operand]) -> None:
    assert _read_back(encode(32, mnemonic, operands, prefixes=["lock"]).code)[0] == f"lock {mnemonic}"


@pytest.mark.parametrize("segment", ["es", "cs", "ss", "fs", "gs"])
def test_a_segment_name_before_a_string_instruction_overrides_its_source(segment: str) -> None:
    _, operands = _read_back(encode(32, "lodsb", [], prefixes=[segment]).code)
    assert operands == f"al, byte ptr {segment}:[esi]"


def test_an_address_size_prefix_changes_the_registers_of_a_string_instruction() -> None:
    assert "[si]" in _read_back(encode(32, "lodsb", [], prefixes=["a16"]).code)[1]
    assert "[esi]" in _read_back(encode(64, "lodsb", [], prefixes=["a32"]).code, 64)[1]


def test_fep_writes_xens_forced_emulation_prefix_first() -> None:
    assert encode(32, "cpuid", [], prefixes=["fep"]).code == b"\x0f\x0bxen" + encode(32, "cpuid", []).code


@needs_gnu_as
def test_prefixes_stand_in_the_order_of_gnu_as(tmp_path: Path) -> None:
    instructions: dict[str, tuple[list[str], str, list[Operand]]] = {
        "rep movsw": (["rep"], "movsw", []),
        "fs rep movsw": (["fs", "rep"], "movsw", []),
        "rep gs outsw": (["rep", "gs"], "outsw", []),
        "addr16 fs rep movsw": (["a16", "fs", "rep"], "movsw", []),
        "lock add fs:[bx], ax": (["lock"], "add", [_AT_FS_BX, REGISTERS["ax"]]),
        "popcnt ax, fs:[bx]": ([], "popcnt", [REGISTERS["ax"], _AT_FS_BX]),
        "movdqu xmm0, fs:[bx]": ([], "movdqu", [REGISTERS["xmm0"], _AT_FS_BX]),
        "fstcw fs:[bx]": ([], "fstcw", [_AT_FS_BX]),
    }
    ours = {
        line: encode(32, mnemonic, operands, prefixes=prefixes).code
        for line, (prefixes, mnemonic, operands) in instructions.items()
    }
    assert ours == dict(zip(instructions, assemble(32, list(instructions), tmp_path), strict=True))
