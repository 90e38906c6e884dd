"""Expressions: precedence and values as in C, symbols, functions, and what can't be evaluated."""

import pytest
from assembling import code, doublewords, problems
from hypothesis import given
from hypothesis import strategies as st

from guestkit import assemble


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 - 2 - 1", 4),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("1 << 4 + 1", 32),
        ("6 & 3 == 3", 6 & 1),
        ("1 | 6 ^ 2 & 3", 1 | (6 ^ (2 & 3))),
        ("~5", -6),
        ("!5 + !0", 1),
        ("3 > 2 && 2 > 3 || 1", 1),
        ("0 ? 1 : 2 ? 3 : 4", 3),
        ("2 >= 2 != 0", 1),
        ("- - 3", 3),
        ("0x1F + 0b1_01 + 0o17 + 1_000", 31 + 5 + 15 + 1000),
        ("'a'", 0x61),
        ("'ab'", 0x6261),
        ("'\\n'", 10),
        ("'\\''", 39),
        ("align_up(4097, 4096)", 8192),
        ("hi32(0x123456789a)", 0x12),
        ("lo32(0x1_0000_0001)", 1),
        ('strlen("a\\n\\x41")', 3),
        ("defined(EPERM) + defined(nothing)", 1),
        ("0 && 1 / 0", 0),
        ("1 || nothing", 1),
    ],
)
def test_an_expression_has_the_value_that_c_gives_it(text: str, value: int) -> None:
    assert doublewords(f"dd {text}") == [value]


@given(
    st.recursive(
        st.integers(0, 1000).map(str),
        lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "&", "|", "^", "<", ">="]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        max_leaves=8,
    )
)
def test_fully_bracketed_arithmetic_agrees_with_python(text: str) -> None:
    value = int(eval(text))
    assert code(f"dq {text}") == (value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")


def test_a_constant_may_be_used_before_it_is_defined() -> None:
    assert doublewords("dd late + 1\nlate equ other * 2\nother equ 20") == [41]


def test_here_is_the_address_of_the_statement() -> None:
    assert doublewords("dd 0, $, $ + 1\ndd $, $$") == [0, 0, 1, 12, 0]


def test_the_section_start_is_that_of_its_own_section() -> None:
    image = assemble("nop\nsection .data\ndb 1\ndd $$, $ - $$")
    assert image.section_bytes(".data")[1:] == (0x1000).to_bytes(4, "little") + (1).to_bytes(4, "little")


def test_a_distance_in_data_is_a_plain_number_at_once() -> None:
    source = 'text: db "hello"\nlength equ $ - text\nif length == 5\nadd ecx, length\nendif'
    assert code(source) == b"hello" + bytes.fromhex("83c105")


def test_a_distance_over_code_is_right_but_not_known_while_reading() -> None:
    source = "first: nop\njmp first\nlast: dd last - first"
    assert code(source)[-4:] == (3).to_bytes(4, "little")
    assert problems("first: nop\nlast:\nif last - first\nendif") == [
        "a condition must be a plain number, and this depends on an address"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dd 1 / 0", "division by zero"),
        ("dd 1 % (2 - 2)", "division by zero"),
        ("dd 1 << 128", "a shift is by 0 to 127 bits, not 128"),
        ("dd 1 << -1", "a shift is by 0 to 127 bits, not -1"),
        ("x equ 1 << 100\ndd x * x", "the value has more than 128 bits"),
        ("dd 08", "08 begins with 0; write 0o8 for octal, or leave the 0 out"),
        ("dd 0x", "0x is no number; write 0x1f, 0b101, 0o17 or 31 (underscores may separate)"),
        ("dd 1f", "1f is no number; write 0x1f, 0b101, 0o17 or 31 (underscores may separate)"),
        ("dd eax", "eax is a register; a number is needed here"),
        ("dd start_info", "start_info is a structure; write start_info.FIELD or sizeof(start_info)"),
        ('dd 1 + strlen("a") + "b"', 'expected a value, found ""b""'),
        ("dd frob(1)", "there is no function frob; there are sizeof, defined, strlen, align_up, lo32, hi32"),
        ("dd align_up(1)", "align_up takes 2 arguments, not 1"),
        ("dd align_up(1, 0)", "an alignment is at least 1, not 0"),
        ("dd strlen(1)", "strlen takes a string in double quotes"),
        ("dd sizeof(1)", "sizeof takes the name of a structure, of a field or of a type"),
        ("a equ a", "a is defined by itself"),
        ("dd SCHEDOP_shutdwon", "SCHEDOP_shutdwon is not defined; did you mean SCHEDOP_shutdown?"),
        ("dd '123456789'", "a character constant has at most 8 bytes, not 9; a string has double quotes"),
        ("dd '\\q'", "there is no escape \\q; there are"),
        ("dd " + "-" * 300 + "1", "this expression is nested more than 150 deep; split it with equ"),
    ],
)
def test_an_expression_without_value_is_explained(text: str, message: str) -> None:
    (said,) = problems(text)
    assert said.startswith(message)


def test_numbers_beyond_the_field_are_refused_and_both_signs_taken() -> None:
    assert code("db 255, -128\ndw 0xffff, -0x8000") == bytes.fromhex("ff80ffff0080")
    assert problems("db 256") == ["0x100 does not fit into 1 byte"]
    assert problems("dw -0x8001") == ["-0x8001 does not fit into 2 bytes"]


def test_a_definition_from_outside_is_a_constant() -> None:
    assert (
        assemble("if VERSION > 2\ndb VERSION\nendif", defines={"VERSION": 3}).section_bytes(".text") == b"\3"
    )
