"""What a person reads when the source is wrong: the place, what was expected, and every mistake at once."""

from pathlib import Path

import pytest
from assembling import complaint, problems

from guestkit import AssemblyError, assemble
from pvemu.abi.errors import PvemuError


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "    mov eax,   ; nothing",
            """\
t.asm:1:13: expected an operand (a register, a number, a symbol or [memory]), found the end of the line
        mov eax,   ; nothing
                ^""",
        ),
        (
            "\tmov eax ebx",
            """\
t.asm:1:10: expected a comma, a colon, an operator or the end of the line, found "ebx"
    \tmov eax ebx
    \t        ^""",
        ),
        (
            "mov eax, [ebx + 4",
            """\
t.asm:1:18: expected a colon, "]" or an operator, found the end of the line
    mov eax, [ebx + 4
                     ^""",
        ),
        (
            'db "no end',
            """\
t.asm:1:4: the closing " is missing
    db "no end
       ^""",
        ),
        (
            "nop\n    mvo eax, 1",
            """\
t.asm:2:5: there is no instruction or macro mvo; did you mean mov?
        mvo eax, 1
        ^""",
        ),
        (
            "xx equ yy\ndd 1, xx",
            """\
t.asm:1:8: yy is not defined
    xx equ yy
           ^""",
        ),
    ],
)
def test_a_mistake_is_shown_with_its_place_and_a_caret(source: str, text: str) -> None:
    assert complaint(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("db", "expected a string or a value, found the end of the line"),
        ("db 1 2", 'expected a comma, an operator or the end of the line, found "2"'),
        ('db \'abc\', "d" "e"', 'expected a comma or the end of the line, found ""e""'),
        ("section", "expected a name, found the end of the line"),
        ("include foo", 'expected a string in double quotes, found "foo"'),
        ("include 'foo'", "a string stands in double quotes; single quotes are for characters as numbers"),
        ("times 3", "expected an instruction, a directive or an operator, found the end of the line"),
        ("rep", "expected an instruction, found the end of the line"),
        ("]", 'expected an instruction, a directive, a label or the end of the line, found "]"'),
        ("mov eax, `", "the character '`' has no meaning here"),
        ("mov eax, 1 ? 2", "expected a colon or an operator, found the end of the line"),
        ("mov eax, (1", 'expected ")" or an operator, found the end of the line'),
        ('guest "x", bits', 'expected "=", found the end of the line'),
        ("hypercall 3", 'expected a name, found "3"'),
        ("lable nop", "there is no instruction or macro lable; a label needs a colon, lable:"),
        ("mov eax, byte word [ebx]", '"byte" and "word" contradict each other'),
        ("mov byte eax, 1", "eax is not a byte"),
        ("mov eax, [eax + ebx + ecx]", "an address has at most a base and an index register, both added"),
        ("mov eax, [eax - ebx]", "an address has at most a base and an index register, both added"),
        (
            "mov eax, [eax * 3 + ebx * 2]",
            "an index register is multiplied by 1, 2, 4 or 8, a base by nothing",
        ),
        ("mov eax, [eax * ebx]", "eax is a register; a number is needed here"),
        ("mov eax, [eax | 4]", "registers in an address can only be added and multiplied by a number"),
        ("mov eax, [fs]", "fs can't be part of an address"),
        ("mov eax, [foo:4]\nfoo:", "a segment register is needed before the colon"),
        ("mov eax, fs:[gs:4]", "a memory operand has one segment, not two"),
        (
            "mov eax, [rel x]\nx:",
            "only 64-bit code has addresses relative to rip; write the address without rel",
        ),
        ("bits 64\nmov eax, [rel rbx]", "an address relative to rip has no other registers"),
        ("jmp far x\nx:", "a far target needs a selector, as in: jmp far 0xe019:target"),
        ("mov short eax, 1", '"short" has no meaning for this operand'),
        ("mov eax, &ebx", 'expected an operand (a register, a number, a symbol or [memory]), found "&"'),
        ("x" * 20000, "a line has at most 16384 characters, this one has 20000"),
    ],
)
def test_a_malformed_line_says_what_was_expected(source: str, message: str) -> None:
    assert problems(source) == [message]


_PAIRS = "struct pair\nx: u32\nendstruct\nstruct pairs\nboth: pair[2]\nendstruct\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dd " + "1" * 81, "a number has at most 80 digits"),
        ('db "\\400"', "\\400 is more than a byte holds (\\377)"),
        ('db "\ud800"', "this character can't be written as UTF-8; use \\x escapes"),
        ('include ""', "the name of a file is missing"),
        ('incbin "a\0b"', "the name of a file is missing"),
        ('dd lo32("a")', "a string is no number; a character stands in single quotes"),
        ("dd defined(1)", "defined takes a name"),
        ("dd shared_info.vcpu_info[-1]", "a subscript is at least 0, not -1"),
        ("dd shared_info.vcpu_info[0][1]", "a field has one subscript, not two"),
        (_PAIRS + "dd pairs.both.x", "pairs.both is an array; write both[0].x"),
        ("a.b equ 4", "the name of a constant has no dot"),
        ("struct a.b\nendstruct", "the name of a structure has no dot"),
        ("struct a\nb.c: u32\nendstruct", "the name of a field has no dot"),
        ("section .data\nsection previous, align=4", "section previous takes no options"),
        ('guest "x", virt_base=-1\nstart:', "the option virt_base is an address"),
        ('guest "x", virt_base=1 << 64\nstart:', "the option virt_base is an address"),
        ("mov eax, [1 ? ebx : ecx]", "registers in an address can only be added and multiplied by a number"),
        ("mov eax, [esp*2]", "esp cannot be an index"),
        (
            "fadd st(9), st0",
            "there is no function st; there are sizeof, defined, strlen, align_up, lo32, hi32, target",
        ),
    ],
)
def test_a_statement_that_means_nothing_says_why(source: str, message: str) -> None:
    assert problems(source) == [message]


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        (
            "trap_table one\ntrap_table two\nend\nend",
            [
                "only traps stand between trap_table and end; the table of line 1 is still open",
                "this end has no trap_table above it",
            ],
        ),
        (
            "section .bss\ntrap_table one\nend",
            [".bss is memory without contents", "this end has no trap_table above it"],
        ),
    ],
)
def test_a_table_of_traps_where_none_can_be_is_refused(source: str, messages: list[str]) -> None:
    assert problems(source) == messages


def test_a_program_of_too_many_statements_is_refused() -> None:
    assert problems("rept 9\ntimes 65536 jmp $\nendrept") == ["the program has more than 524288 statements"]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert problems(f'incbin "{large}"') == [f"{large} is larger than 64 MiB"]


def test_what_the_encoder_refuses_is_blamed_on_the_operand() -> None:
    first, _, caret = complaint("add eax, [ebx], 3").splitlines()
    assert first.startswith("t.asm:1:1: ADD takes 2 operands")
    first, _, caret = complaint("    mov eax, bl").splitlines()
    assert first.startswith("t.asm:1:14: MOV")
    assert caret.index("^") == 4 + 13


def test_all_mistakes_are_told_in_the_order_of_the_text() -> None:
    source = "jmp nowhere\nmov eax,\nx equ x\nlabel: mvo eax, 1\njmp label\ndb 300\nmov al, frob"
    assert problems(source) == [
        "nowhere is not defined",
        "expected an operand (a register, a number, a symbol or [memory]), found the end of the line",
        "x is defined by itself",
        "there is no instruction or macro mvo; did you mean mov?",
        "frob is not defined",
    ]


def test_a_malformed_line_still_defines_its_labels() -> None:
    assert problems("one: .two: mov eax,\njmp one\njmp one.two") == [
        "expected an operand (a register, a number, a symbol or [memory]), found the end of the line"
    ]


def test_no_more_than_ten_mistakes_are_told() -> None:
    text = complaint("\n".join(f"jmp nowhere{number}" for number in range(50)))
    assert text.count("is not defined") == 10
    assert text.endswith("and 40 more; correct these first")


def test_a_mistake_in_an_included_line_names_that_file_and_the_way() -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble('nop\n include "nowhere.asm"', filename="deep/t.asm")
    assert str(caught.value).startswith('deep/t.asm:2:10: there is no file "nowhere.asm" in ')


def test_a_short_jump_out_of_reach_is_refused() -> None:
    (message,) = problems("jmp short far_away\ntimes 200 nop\nfar_away:")
    assert "200" in message or "short" in message
    assert len(problems("loop far_away\ntimes 200 nop\nfar_away:")) == 1


def test_an_address_that_does_not_fit_its_operand_is_refused() -> None:
    assert len(problems("mov al, x\ntimes 300 nop\nx:")) == 1
    assert len(problems("int x\ntimes 300 nop\nx:")) == 1


def test_a_long_line_is_shown_around_the_mistake() -> None:
    text = complaint("db " + "1, " * 200 + "frob, " + "1, " * 200 + "1")
    _, shown, caret = text.splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^") :].startswith("frob")


def test_the_error_is_one_of_the_projects_own() -> None:
    with pytest.raises(PvemuError):
        assemble("mov")


@pytest.mark.parametrize("name", ["eax", "a b", "", "1x", "SCHEDOP_yield"])
def test_a_definition_from_outside_is_checked(name: str) -> None:
    with pytest.raises(AssemblyError):
        assemble("nop", defines={name: 1})
