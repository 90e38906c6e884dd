"""The law of jumps: each reaches its label, and none is longer than it must be."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import capstone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestkit import assemble

_JUMPS = ["jmp", "jz", "jne", "jo", "jle"]
_LABELS = 6

# A program is a list of pieces: a label and its number, a jump and its label, so many nops, an alignment.
_jump = st.tuples(st.sampled_from(_JUMPS), st.integers(0, _LABELS - 1))
_nops = st.one_of(st.integers(0, 300), st.sampled_from([120, 122, 123, 124, 125, 126, 127, 128]))
Piece = tuple[str, int]


def _programs(*extra: st.SearchStrategy[Piece]) -> st.SearchStrategy[list[Piece]]:
    piece = st.one_of(_jump, _jump, _nops.map(lambda count: ("nops", count)), *extra)

    def with_labels(pieces: list[Piece], places: list[int]) -> list[Piece]:
        result = list(pieces)
        for number, place in enumerate(places):
            result.insert(place % (len(result) + 1), ("label", number))
        return result

    places = st.lists(st.integers(0, 100), min_size=_LABELS, max_size=_LABELS)
    return st.builds(with_labels, st.lists(piece, max_size=40), places)


def _source(pieces: list[Piece], forms: dict[str, str]) -> str:
    lines = []
    for kind, number in pieces:
        lines.append(forms[kind].format(number) if kind in forms else f"{kind} l{number}")
    return "\n".join(lines) + "\n"


_OURS = {"nops": "times {} nop", "label": "l{}:", "align": "align {}"}
_GNU = {"nops": ".skip {}, 0x90", "label": "l{}:"}


def _jumps_of(code: bytes, bits: int) -> list[tuple[int, int, int]]:
    """Address, size and target of every jump, as capstone reads them."""
    mode = capstone.CS_MODE_32 if bits == 32 else capstone.CS_MODE_64
    return [
        (instruction.address, instruction.size, int(instruction.op_str, 0))
        for instruction in capstone.Cs(capstone.CS_ARCH_X86, mode).disasm(code, 0)
        if instruction.mnemonic.startswith("j")
    ]


@pytest.mark.parametrize("bits", [32, 64])
@given(pieces=_programs(st.sampled_from([4, 16, 64]).map(lambda step: ("align", step))))
def test_every_jump_reaches_its_label(bits: int, pieces: list[Piece]) -> None:
    image = assemble(f"bits {bits}\n" + _source(pieces, _OURS))
    targets = [target for _, _, target in _jumps_of(image.section_bytes(".text"), bits)]
    assert targets == [image.symbols[f"l{number}"] for kind, number in pieces if kind in _JUMPS]


@given(pieces=_programs())
def test_no_jump_is_near_where_short_would_reach(pieces: list[Piece]) -> None:
    code = assemble(_source(pieces, _OURS)).section_bytes(".text")
    for address, size, target in _jumps_of(code, 32):
        # A backward displacement would be counted from the end of the short form, a forward one moves along.
        displacement = target - (address + 2) if target <= address else target - (address + size)
        assert (size == 2) == (-128 <= displacement <= 127)


@pytest.mark.skipif(
    shutil.which("as") is None, reason="GNU as is not installed (on Debian: apt install binutils)"
)
@given(pieces=_programs())
@settings(max_examples=25)
def test_jumps_are_as_long_as_those_of_gnu_as(pieces: list[Piece]) -> None:
    with TemporaryDirectory() as folder:
        target, flat = Path(folder) / "jumps.o", Path(folder) / "jumps.bin"
        source = _source(pieces, _GNU)
        subprocess.run(["as", "--32", "-o", str(target), "-"], input=source.encode(), check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", str(target), str(flat)], check=True)
        theirs = flat.read_bytes()
    assert assemble("nop\n" + _source(pieces, _OURS)).section_bytes(".text")[1:] == theirs


def test_an_explicit_distance_is_kept() -> None:
    code = assemble("x: jmp near x\njmp short x\njz near x\ncall x").section_bytes(".text")
    assert code == bytes.fromhex("e9fbffffff ebf9 0f84f3ffffff e8eeffffff")


def test_growth_that_makes_others_grow_ends() -> None:
    # Each jump is just within reach, until the one inside its span grows.
    count = 60
    lines = [f"l{n}: jmp l{n + 2}\ntimes 122 nop" for n in range(count)]
    source = "\n".join([*lines, f"l{count}: nop", f"l{count + 1}: nop"])
    image = assemble(source)
    jumps = _jumps_of(image.section_bytes(".text"), 32)
    assert [target for _, _, target in jumps] == [image.symbols[f"l{n + 2}"] for n in range(count)]


def test_a_jump_to_a_number_knows_where_it_stands() -> None:
    image = assemble('guest "k"\nstart: jmp 0xc0100000\njmp 0xc0200000\ncall 0xc0100000')
    assert image.section_bytes(".text")[:12] == bytes.fromhex("ebfe e9f9ff0f00 e8f4ffffff")
