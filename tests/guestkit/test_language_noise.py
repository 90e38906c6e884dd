"""Noise: whatever the text, the assembler makes an image or says what is wrong, and comes to an end."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestkit import AssemblyError, assemble

_WORDS = re.findall(
    r"\S+",
    r"""
    mov eax ebx [ ] + - * ( ) , : . ; 0x10 1 2 255 -1 foo bar .loc x: .l: equ db dw dd dq asciz reserve align
    times incbin bits section .text .bss .data struct endstruct u8 u32[3] ulong macro endmacro if elif else
    endif ifdef ifndef rept endrept include "a" "t error warning guest note hypercall trap_table trap end
    sched_op console_io memory_op update_va_mapping &x & | ^ ~ ! == != < > <= >= << >> && || ? % / jmp short
    near far jz loop call push pop word byte dword qword ptr rel fs fs: lock rep fep movsb $ $$ sizeof defined
    strlen align_up lo32 hi32 start_info start_info.nr_pages shared_info.vcpu_info[0] %%l %0 {a} { } a b=3
    rest... packed = align=16 none bits=32 bits=64 entry=x dpl=3 mask virt_base=0 st(1) st0 xmm0 cr3 @ # \ `
    99999999999999999999 0x 08 'abc' 'ab
    """,
)
_CORPUS = [
    line
    for path in sorted((Path(__file__).parent.parent / "asm").glob("*.asm"))
    for line in path.read_text().splitlines()
]

_word_lines = st.lists(st.sampled_from(_WORDS), max_size=8).map(" ".join)
_corpus_lines = st.sampled_from(_CORPUS)


@st.composite
def _damaged_lines(draw: st.DrawFn) -> str:
    line = draw(_corpus_lines)
    at = draw(st.integers(0, len(line)))
    end = at + draw(st.integers(0, 3))
    return line[:at] + draw(st.one_of(st.just(""), st.sampled_from(_WORDS), st.text(max_size=2))) + line[end:]


def _assemble(text: str) -> None:
    try:
        image = assemble(text)
    except AssemblyError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
    else:
        image.listing()


@given(st.text(max_size=300))
def test_any_text_is_assembled_or_refused(text: str) -> None:
    _assemble(text)


@given(st.lists(_word_lines, max_size=15))
def test_any_words_are_assembled_or_refused(lines: list[str]) -> None:
    _assemble("\n".join(lines))


@given(st.lists(st.one_of(_corpus_lines, _damaged_lines()), max_size=20))
def test_any_damaged_program_is_assembled_or_refused(lines: list[str]) -> None:
    _assemble("\n".join(lines))


@pytest.mark.parametrize(
    "text",
    [
        "dd " + "(" * 3000 + "1" + ")" * 3000,
        "dd " + "1 + " * 3000 + "1",
        "dd " + "[" * 3000,
        "rept 200000\nendrept\n" * 3,
        "\n".join(
            [
                "macro m0\n\nendmacro",
                *(f"macro m{n}\nm{n - 1}\nm{n - 1}\nendmacro" for n in range(1, 25)),
                "m24",
            ]
        ),
        "macro d a\nd {a + a}\nendmacro\nd 1",
        "times 60000000 db 1\n" * 9,
        "section .bss\n" + "reserve 60000000\n" * 9,
        "\n".join(f"x{n} equ x{n + 1} + x{n + 1}" for n in range(2000)) + "\ndd x0",
        "\n".join(
            ["x0 equ l", *(f"x{n} equ x{n - 1} + x{n - 1} - x{n - 1}" for n in range(1, 1000)), "l: dd x999"]
        ),
        "\n".join(f"jmp u{n}" for n in range(5000)),
        "if 1\n" * 5000,
        "\n".join(f"section .s{n}\nnop" for n in range(1000)),
        "struct s0\nx: u8[60000]\nendstruct\n"
        + "\n".join(f"struct s{n}\nx: s{n - 1}[60000]\nendstruct" for n in range(1, 50)),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_made_to_exhaust_comes_to_an_end(text: str) -> None:
    _assemble(text)
