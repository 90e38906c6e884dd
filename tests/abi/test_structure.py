"""The layout engine: laid out as a C compiler does, read and written without loss, clear about mistakes."""

from types import SimpleNamespace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvemu.abi.structure import Field, ScalarName, Structure, Union
from pvemu.abi.vocabulary import structures
from pvemu.abi.word import WORDS, PerWord

C_NAMES = {
    "u8": "uint8_t",
    "u16": "uint16_t",
    "u32": "uint32_t",
    "u64": "uint64_t",
    "u64a": "uint64_aligned_t",
    "s8": "int8_t",
    "s16": "int16_t",
    "s32": "int32_t",
    "s64": "int64_t",
    "ulong": "unsigned long",
    "long": "long",
    "char": "char",
}

point = Structure("point", Field("x", "u16"), Field("y", "s32"))
sample = Structure(
    "sample",
    Field("tag", "char", 4),
    Field("wide", "u64"),
    Field("points", point, 3),
    Field("either", Union("either", Field("low", "u16"), Field("all", "u32"))),
    Field("counts", "u8", PerWord(2, 4)),
    Field("only_64", "u32", only=8),
)


def resolve(value, path):
    for step in path.replace("[", ".[").split("."):
        value = value[int(step[1:-1])] if step.startswith("[") else getattr(value, step)
    return value


@st.composite
def random_structures(draw, depth=2):
    number = draw(st.integers(1, 6))
    fields = []
    for index in range(number):
        kind = draw(st.sampled_from(get_args(ScalarName)))
        if depth and draw(st.integers(0, 3)) == 0:
            kind = draw(random_structures(depth=depth - 1))
        count = draw(st.one_of(st.none(), st.integers(1, 5)))
        fields.append(Field(f"f{index}", kind, count))
    return draw(st.sampled_from([Structure, Union]))("random", *fields)


def c_body(structure):
    lines = []
    for field in structure.fields:
        kind = C_NAMES.get(field.type) if isinstance(field.type, str) else c_body(field.type)
        lines.append(f"{kind} {field.name}{'' if field.count is None else f'[{field.count}]'};")
    return f"{'union' if structure.overlaid else 'struct'} {{ {' '.join(lines)} }}"


@settings(max_examples=6, deadline=None)
@given(drawn=st.lists(random_structures(), min_size=20, max_size=20))
def test_any_structure_lies_as_a_compiler_lays_it(gcc, drawn):
    source = "#include <stdint.h>\n#include <stddef.h>\n"
    source += "typedef uint64_t uint64_aligned_t __attribute__((aligned(8)));\n"
    for word in WORDS:
        lines = []
        for number, structure in enumerate(drawn):
            lines.append(f"typedef {c_body(structure)} t{number};")
            facts = [f"sizeof(t{number}) == {structure.size(word)}"]
            facts += [f"_Alignof(t{number}) == {structure.alignment(word)}"]
            facts += [f"offsetof(t{number}, {leaf.path}) == {leaf.offset}" for leaf in structure.paths(word)]
            lines += [f'_Static_assert({fact}, "{fact}");' for fact in facts]
        gcc(source + "\n".join(lines), word)


@settings(deadline=None)
@given(drawn=random_structures(), word=st.sampled_from(WORDS), data=st.data())
def test_reading_what_was_written_gives_it_back(drawn, word, data):
    noise = data.draw(st.binary(min_size=drawn.size(word), max_size=drawn.size(word)))
    read = drawn.unpack(word, noise)
    assert drawn.unpack(word, drawn.pack(word, **vars(read))) == read


@settings(deadline=None)
@given(name=st.sampled_from(sorted(structures())), word=st.sampled_from(WORDS), seed=st.randoms())
def test_every_structure_of_the_abi_survives_a_round_trip(name, word, seed):
    structure = structures()[name]
    read = structure.unpack(word, seed.randbytes(structure.size(word)))
    assert structure.unpack(word, structure.pack(word, **vars(read))) == read


@settings(deadline=None)
@given(name=st.sampled_from(sorted(structures())), word=st.sampled_from(WORDS), seed=st.randoms())
def test_the_flat_codec_reads_the_same_values(name, word, seed):
    structure = structures()[name]
    noise = seed.randbytes(structure.size(word))
    read = structure.unpack(word, noise)
    codec = structure.codec(word)
    assert codec.size == structure.size(word)
    flat = dict(zip(structure.codec_paths(word), codec.unpack(noise), strict=True))
    assert flat == {path: resolve(read, path) for path in flat}


@pytest.mark.parametrize("word", WORDS)
def test_offset_and_size_agree_with_the_list_of_leaves(word):
    for structure in structures().values():
        for path, offset, size in structure.paths(word):
            assert structure.offset(path, word) == offset
            assert structure.field_size(path, word) == size


def test_what_is_not_given_is_zero():
    assert sample.pack(4) == bytes(sample.size(4))
    assert sample.pack(4, tag=b"ab", points=[{"x": 1}])[:16] == b"ab\0\0" + bytes(8) + b"\1\0\0\0"


def test_padding_is_written_as_zero():
    assert point.pack(4, x=0xFFFF, y=-1) == b"\xff\xff\0\0\xff\xff\xff\xff"


def test_a_structure_is_read_in_the_middle_of_a_buffer():
    buffer = bytearray(b"\xaa" * 3) + point.pack(8, x=7, y=-9)
    assert point.unpack(8, memoryview(buffer), 3) == SimpleNamespace(x=7, y=-9)


def test_a_union_field_is_seen_through_all_its_names():
    read = sample.unpack(4, sample.pack(4, either={"all": 0x12345678}))
    assert (read.either.low, read.either.all) == (0x5678, 0x12345678)


def test_a_field_of_one_width_does_not_exist_in_the_other():
    assert hasattr(sample.unpack(8, sample.pack(8)), "only_64")
    with pytest.raises(LookupError, match="sample has no field 'only_64'"):
        sample.offset("only_64", 4)


def test_an_array_may_have_another_length_for_each_width():
    assert (sample.field_size("counts", 4), sample.field_size("counts", 8)) == (2, 4)


def test_an_open_array_has_a_place_but_no_size():
    build_id = structures()["xen_build_id"]
    assert (build_id.size(4), build_id.offset("buf", 4), build_id.offset("buf[5]", 4)) == (4, 4, 9)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", r"sample has no field 'nothing'; it has: tag, wide, points, either, counts"),
        ("points[0].z", r"point has no field 'z'; it has: x, y"),
        ("points[3]", r"points has 3 elements"),
        ("wide[0]", r"wide is not an array"),
        ("wide.x", r"sample.wide is a u64: it has no field 'x'"),
        ("points.x", r"write points\[0\].x"),
        ("", r"'' is not a field path"),
        ("points[-1]", r"is not a field path"),
        ("points[0].", r"is not a field path"),
    ],
)
def test_a_path_to_nowhere_is_explained(path, message):
    with pytest.raises(LookupError, match=message):
        sample.offset(path, 4)


@pytest.mark.parametrize(
    "values",
    [
        {"wide": -1},
        {"wide": 1 << 64},
        {"wide": "text"},
        {"counts": [1, 2, 3]},
        {"counts": [256]},
        {"tag": b"12345"},
        {"points": [{}] * 4},
        {"points": [{"x": 65536}]},
    ],
)
def test_a_value_that_does_not_fit_is_refused(values):
    with pytest.raises(ValueError, match=r"(sample|point)\."):
        sample.pack(4, **values)


def test_an_unknown_field_is_refused():
    with pytest.raises(LookupError, match="point has no field 'z'"):
        sample.pack(4, points=[{"z": 1}])


@pytest.mark.parametrize("at", [-1, 1])
def test_a_buffer_that_is_too_short_is_refused(at):
    with pytest.raises(ValueError, match="point has 8 bytes"):
        point.unpack(4, bytes(8), at)


@pytest.mark.parametrize("word", [0, 2, 16])
def test_a_word_is_four_or_eight_bytes(word):
    with pytest.raises(ValueError, match="4 or 8 bytes"):
        point.size(word)
    with pytest.raises(ValueError, match="4 or 8 bytes"):
        PerWord(1, 2).of(word)
