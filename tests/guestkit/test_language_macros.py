"""What decides which lines are read: macros, repetitions, conditions and included files."""

from pathlib import Path

import pytest
from assembling import code, complaint, problems

from guestkit import AssemblyError, assemble, assemble_file


def test_parameters_are_replaced_as_words_and_in_braces_anywhere() -> None:
    source = """
    macro put a, b
        db a, "{a}a{b}", b
        label_{a}: db label_{a} - label_{a}
    endmacro
    put 1, 2
    """
    assert code(source) == b"\1" + b"1a2" + b"\2" + b"\0"


def test_a_parameter_is_not_replaced_inside_other_words() -> None:
    assert code("aa equ 7\nmacro put a\ndb aa, a\nendmacro\nput 1") == b"\7\1"


def test_defaults_and_rest_fill_what_a_call_leaves_out() -> None:
    source = """
    macro put a, b=5, rest...
        db %0, a, b
        if %0 > 2
            put rest
        endif
    endmacro
    """
    assert code(source + "put 1") == bytes([1, 1, 5])
    assert code(source + "put 1, 2, 3, 4, 6") == bytes([5, 1, 2, 3, 3, 4, 1, 6, 5])


def test_a_default_in_braces_loses_them_as_an_argument_does() -> None:
    source = "macro put a={db 1, 2}\na\nendmacro\nput\nput {db 3}"
    assert code(source) == bytes([1, 2, 3])


def test_commas_in_brackets_braces_and_strings_do_not_split_arguments() -> None:
    source = (
        "macro put a, b\ndb a\ndb b\nendmacro\nput {1, 2}, align_up(3, 4)\nput \",\", ';' ; comment, here"
    )
    assert code(source) == b"\1\2\4,;"


def test_an_argument_may_be_a_whole_operand() -> None:
    source = "macro load to, from\nmov to, from\nendmacro\nload eax, dword [ebx + 4]"
    assert code(source) == bytes.fromhex("8b4304")


def test_names_with_two_percent_signs_belong_to_one_expansion() -> None:
    source = "macro spin\n%%again: jmp %%again\nendmacro\nfirst: spin\nspin\n.local: jmp .local"
    assert code(source) == b"\xeb\xfe" * 3
    assert set(assemble(source).symbols) == {"first", "first.local", "_end"}


def test_a_label_may_stand_before_a_macro() -> None:
    image = assemble("macro two\nnop\nnop\nendmacro\ntwo\nhere: two\njmp here")
    assert image.symbols["here"] == 2


def test_a_macro_may_define_macros_and_constants() -> None:
    source = "macro make name\nmacro name\ndb 7\nendmacro\nname_of_{name} equ 3\nendmacro\nmake seven\nseven"
    assert code(source + "\ndb name_of_seven") == b"\7\3"


def test_a_macro_can_put_something_into_another_section_and_return() -> None:
    source = """
    macro text_of register, text
        section .rodata
        %%text: asciz text
        section previous
        mov register, %%text
    endmacro
    section .text.late
    text_of eax, "a, b"
    text_of ebx, "c"
    """
    image = assemble(source)
    assert image.section_bytes(".rodata") == b"a, b\0c\0"
    assert image.section_bytes(".text.late") == bytes.fromhex("b800100000 bb05100000")


def test_rept_counts_from_zero() -> None:
    assert code("rept 3, i\ndb i, i * 2\nitem_{i}:\nendrept\ndb item_2") == bytes([0, 0, 1, 2, 2, 4, 6])
    assert code("rept 2\nnop\nendrept\nrept 0\nfrob\nendrept") == b"\x90\x90"


def test_repetitions_nest() -> None:
    assert code("rept 2, i\nrept 2, j\ndb i * 16 + j\nendrept\nendrept") == bytes([0, 1, 0x10, 0x11])


@pytest.mark.parametrize(("number", "byte"), [(0, 10), (1, 11), (2, 12), (3, 13)])
def test_exactly_one_branch_is_read(number: int, byte: int) -> None:
    source = f"""
    n equ {number}
    if n == 0
        db 10
    elif n == 1
        db 11
    elif n == 2
        db 12
    else
        db 13
    endif
    """
    assert code(source) == bytes([byte])


def test_what_is_not_read_may_be_anything_but_must_nest() -> None:
    source = "if 0\n}{ nonsense (\nif nothing\nelse\nendif\nelif 1\ndb 1\nelse\nmore nonsense\nendif"
    assert code(source) == b"\1"


def test_ifdef_asks_for_symbols_macros_structures_and_names_of_the_abi() -> None:
    lines = ["known equ 1", "macro m", "endmacro", "struct s", "endstruct"]
    for name in ("known", "m", "s", "SCHEDOP_yield", "start_info"):
        lines += [f"ifdef {name}", "db 1", "endif", f"ifndef {name}", "db 2", "endif"]
    lines += ["ifdef later", "db 3", "endif", "later equ 1"]
    assert code("\n".join(lines)) == b"\1" * 5


def test_error_and_warning_speak_for_the_program() -> None:
    assert problems('error "no such machine"') == ["no such machine"]
    image = assemble('nop\nwarning "slow"', filename="t.asm")
    assert image.warnings == ('t.asm:2:1: warning: slow\n    warning "slow"\n    ^',)


def test_included_files_are_found_beside_the_including_one_then_in_the_given_folders(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "main.asm").write_text('include "inner/a.asm"\ninclude "elsewhere.asm"\n')
    (inner / "a.asm").write_text('include "b.asm"\n')
    (inner / "b.asm").write_text("db 1\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "elsewhere.asm").write_text("db 2\n")
    (other / "b.asm").write_text("db 3\n")
    image = assemble_file(tmp_path / "main.asm", include_paths=[other])
    assert image.section_bytes(".text") == b"\1\2"


def test_a_guarded_file_may_be_included_twice(tmp_path: Path) -> None:
    (tmp_path / "a.asm").write_text('ifndef A\nA equ 1\ndb 1\ninclude "a.asm"\nendif\n')
    assert (
        assemble('include "a.asm"\ninclude "a.asm"', include_paths=[tmp_path]).section_bytes(".text") == b"\1"
    )


def test_files_that_include_each_other_for_ever_are_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.asm").write_text('include "b.asm"\n')
    (tmp_path / "b.asm").write_text('include "a.asm"\n')
    with pytest.raises(AssemblyError, match="nested more than 64 deep") as caught:
        assemble_file(tmp_path / "a.asm")
    assert len(str(caught.value).splitlines()) < 15


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.asm").write_bytes(b"nop\n\xff")
    with pytest.raises(AssemblyError, match=r"is no text in UTF-8 \(byte 4\)"):
        assemble('include "a.asm"', include_paths=[tmp_path])
    with pytest.raises(AssemblyError, match="can't be read"):
        assemble_file(tmp_path)


def test_a_file_name_that_no_system_takes_is_refused() -> None:
    assert "can't be read" in problems(f'include "{"a" * 5000}"')[0]


def test_a_mistake_in_a_macro_shows_the_way_to_it() -> None:
    source = "macro inner x\nmov eax, x\nendmacro\nmacro outer y\nnop\ninner y\nendmacro\nouter bl"
    first, *rest = complaint(source).splitlines()
    assert first.startswith("t.asm:2:10: MOV")
    assert rest == [
        "    mov eax, bl",
        "             ^",
        "  in expansion of inner at t.asm:6",
        "  in expansion of outer at t.asm:8",
    ]


def test_a_mistake_in_a_repetition_is_told_once() -> None:
    assert len(problems("rept 100, i\nmov eax, frob\nendrept")) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "macro a\na\nendmacro\na",
            "macros, repetitions and included files are nested more than 64 deep here",
        ),
        ("rept 1 << 30\nendrept", "a block is repeated 0 to 131072 times, not 1073741824"),
        ("rept 131072\nrept 131072\nendrept\nendrept", "the program unfolds to more than 131072 lines"),
        (
            "macro d a\nd {a, a}\nendmacro\nd 1",
            "with its parameters replaced this line has more than 16384 characters",
        ),
        ("macro m a, b=2\nendmacro\nm", "the argument a is missing: m a, b=2"),
        ("macro m a, b=2\nendmacro\nm 1, 2, 3", "m a, b=2 takes at most 2 arguments, not 3"),
        ("macro m\nendmacro\nm 1", "m takes no arguments, not 1"),
        ("macro m a\nendmacro\nm (1", 'the closing ")" is missing'),
        ("macro m a\nendmacro\nm 1)", 'this ")" closes nothing'),
        (
            "macro m a, b\nendmacro\nm 1,",
            "an argument is missing before or after this comma; write {} for an empty one",
        ),
        ("macro m a, a\nendmacro", "a is a parameter twice"),
        ("macro m a..., b\nendmacro", "a... takes all arguments, so it must be last"),
        ("macro m 1\nendmacro", "'1' is no parameter; write NAME, NAME=DEFAULT or NAME..."),
        ("macro\nendmacro", "a macro begins with: macro NAME parameter, parameter=default, rest..."),
        (
            "macro m\nendmacro\nmacro m\nendmacro",
            "the macro m is already defined at <text>:1; choose another name",
        ),
        ("macro mov\nendmacro", "mov is an instruction, so it can't be a macro; choose another name"),
        ("macro m", "this macro has no endmacro"),
        ("endmacro", "this endmacro has no macro above it"),
        ("rept 2", "this rept has no endrept"),
        ("if 1", "this condition has no endif"),
        ("if 1\nelse\nelse\nendif", "this else comes after else"),
        ("if 1\nelse\nelif 1\nendif", "this elif comes after else"),
        ("elif 1", "this elif has no if above it"),
        ("else", "this else has no if above it"),
        ("endif", "this endif has no if above it"),
        ("if x\nendif\nx:", "x is not defined above this line"),
        ("x:\nif x\nendif", "a condition must be a plain number, and this depends on an address"),
        ("if\nendif", "expected a value, found the end of the line"),
        ("label: if 1\nendif", "this endif has no if above it"),
    ],
)
def test_a_wrong_control_line_is_explained(source: str, message: str) -> None:
    assert message in problems(source)
