"""Structures: those of Xen's ABI by name, and a program's own, laid out as a C compiler does."""

import shutil
import subprocess
from pathlib import Path

import pytest
from assembling import code, doublewords, problems
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.vocabulary import structures

_POINT = """
struct point
    x: u8
    y: u32
    name: 5
    z: u16[3]
    big: u64
endstruct
"""


def test_fields_are_offsets_and_sizeof_takes_structures_fields_and_types() -> None:
    source = "dd point.x, point.y, point.name, point.z, point.z[2], point.big, sizeof(point)"
    assert doublewords(_POINT + source) == [0, 4, 8, 14, 18, 20, 28]
    assert doublewords(
        _POINT + "dd sizeof(point.z), sizeof(point.z[1]), sizeof(u16), sizeof(point.name)"
    ) == [
        6,
        2,
        2,
        5,
    ]


def test_the_word_decides_the_layout() -> None:
    source = "struct s\na: u8\nb: ulong\nc: u64\nendstruct\ndd s.b, s.c, sizeof(s)"
    assert doublewords(source) == [4, 8, 16]
    assert code(source, 64) == b"".join(n.to_bytes(4, "little") for n in (8, 16, 24))


def test_a_packed_structure_has_no_padding() -> None:
    assert doublewords("struct g, packed\nlimit: u16\nbase: u32\nendstruct\ndd g.base, sizeof(g)") == [2, 6]


def test_structures_nest_in_each_other_and_hold_those_of_the_abi() -> None:
    source = """
    struct inner
        a: u8
        b: u16
    endstruct
    struct outer
        first: u8
        pair: inner[2]
        trap: trap_info
    endstruct
    """
    values = "dd outer.pair[1].b, outer.trap.cs, sizeof(outer), outer[3].trap"
    assert doublewords(source + values) == [2 + 4 + 2, 10 + 2 + 2, 20, 60 + 12]


@pytest.mark.parametrize("word", [4, 8])
def test_every_field_of_the_abi_has_its_offset(word: int) -> None:
    leaves = [
        (f"{name}.{leaf.path}", leaf.offset)
        for name, structure in structures().items()
        for leaf in structure.paths(word)
    ]
    data = code("\n".join(f"dd {path}" for path, _ in leaves), word * 8)
    found = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
    assert found == [offset for _, offset in leaves]


def test_a_field_of_the_abi_works_as_a_displacement() -> None:
    assert code("cmp byte [ebx + shared_info.vcpu_info[0].evtchn_upcall_mask], 1") == bytes.fromhex(
        "807b0101"
    )


_TYPES = {"u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "s16": "int16_t"}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (on Debian: apt install gcc)")
@pytest.mark.parametrize("bits", [32, 64])
def test_layouts_are_those_of_a_c_compiler(bits: int, tmp_path: Path) -> None:
    fields = [
        ("a", "u8", 0),
        ("b", "u16", 3),
        ("c", "u64", 0),
        ("d", "u8", 5),
        ("e", "u32", 2),
        ("f", "s16", 0),
    ]
    declared = "".join(f"{_TYPES[kind]} {name}{f'[{n}]' if n else ''};" for name, kind, n in fields)
    ours = "".join(f"{name}: {kind}{f'[{n}]' if n else ''}\n" for name, kind, n in fields)
    data = code(
        f"struct s\n{ours}endstruct\ndd sizeof(s)" + "".join(f", s.{name}" for name, *_ in fields), bits
    )
    numbers = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
    checks = f'_Static_assert(sizeof(struct s) == {numbers[0]}, "");' + "".join(
        f'_Static_assert(__builtin_offsetof(struct s, {name}) == {number}, "");'
        for (name, *_), number in zip(fields, numbers[1:], strict=True)
    )
    source = tmp_path / "layout.c"
    source.write_text(f"#include <stdint.h>\nstruct s {{ {declared} }};\n{checks}\n")
    subprocess.run(["gcc", f"-m{bits}", "-ffreestanding", "-fsyntax-only", str(source)], check=True)


@given(st.lists(st.sampled_from(["u8", "u16", "u32"]), min_size=1, max_size=8))
def test_a_packed_structure_is_as_large_as_its_fields(kinds: list[str]) -> None:
    fields = "\n".join(f"f{number}: {kind}" for number, kind in enumerate(kinds))
    total = sum(int(kind[1:]) // 8 for kind in kinds)
    assert doublewords(f"struct s, packed\n{fields}\nendstruct\ndd sizeof(s)") == [total]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("struct s\nx: u8\nx: u8\nendstruct", "s already has a field x"),
        ("struct s\nx: s\nendstruct", "s can't contain itself"),
        ("struct s\nx: frob[2]\nendstruct", "frob is no type; types are"),
        ("struct s\nx: frob\nendstruct", "frob is not defined above this line"),
        ("struct s\nnop\nendstruct", "expected a colon, found the end of the line"),
        ("struct s\nx: u8", "what begins here has no endstruct"),
        ("endstruct", "this endstruct has no struct above it"),
        ("struct s, frob\nendstruct", 'a structure may be "packed", frob is unknown'),
        ("dd start_info.frob", "start_info has no field 'frob'; it has: magic, nr_pages"),
        ("dd shared_info.vcpu_info[32].time", "shared_info.vcpu_info[32]: vcpu_info has 32 elements"),
        ("dd shared_info.vcpu_info.time", "shared_info.vcpu_info is an array; write vcpu_info[0].time"),
        ("struct s\nx: u8[2]\nendstruct\ndd s.x[2]", "s.x has 2 elements"),
        ("struct s\nx: u8\nendstruct\ndd s.x[0]", "s.x is not an array"),
        ("struct s\nx: u8\nendstruct\ndd s.x.y", "s.x is no structure: it has no field 'y'"),
        ("struct s\nendstruct\ndd s.x", "s has no field 'x'; it has: none"),
        ("struct trap_info\nendstruct", "trap_info is a structure of Xen's ABI"),
        ("mov eax, ebx[4]", "ebx is no structure; memory is written [ebx + ...]"),
        ("struct s\nx: 1 << 30\nendstruct", "the size of a field is 0 to 67108864, not 1073741824"),
    ],
)
def test_a_wrong_structure_is_explained(source: str, message: str) -> None:
    (said,) = problems(source)
    assert said.startswith(message)
