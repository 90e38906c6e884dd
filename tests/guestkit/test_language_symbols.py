"""Labels, local labels, constants, and names that a program can't define."""

import pytest
from assembling import doublewords, problems

from guestkit import assemble


def test_local_labels_belong_to_the_label_above() -> None:
    source = """
    one: nop
    .loop: jmp .loop
    two: nop
    .loop: jmp .loop
    three: jmp one.loop
    """
    symbols = assemble(source).symbols
    assert (symbols["one.loop"], symbols["two.loop"]) == (1, 4)


def test_a_constant_does_not_begin_a_scope() -> None:
    assert assemble("a: nop\nn equ 3\n.b: jmp .b").symbols["a.b"] == 1


def test_a_line_may_have_several_labels_and_labels_may_be_called_like_directives() -> None:
    symbols = assemble("error: end: .x: nop\nnote:\njmp error\njmp end.x").symbols
    assert (symbols["error"], symbols["end"], symbols["end.x"], symbols["note"]) == (0, 0, 0, 1)


def test_symbols_are_case_sensitive_and_instructions_are_not() -> None:
    assert doublewords("a equ 1\nA equ 2\ndd a, A\nMOV EAX, [Ebx]\nDD 5")[:2] == [1, 2]


def test_the_end_of_the_image_has_a_symbol() -> None:
    image = assemble("nop\nsection .data\ndd _end\nsection .bss\nreserve 10")
    assert image.symbols["_end"] == image.segments[-1].address + image.segments[-1].memory_size
    assert image.section_bytes(".data") == image.symbols["_end"].to_bytes(4, "little")
    assert assemble("_end: nop").symbols["_end"] == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a:\na:", "a is already defined at <text>:1; choose another name"),
        ("a:\na equ 1", "a is already defined at <text>:1; choose another name"),
        ("eax:", "eax is a register, so it can't be defined; choose another name"),
        ("byte:", '"byte" is a keyword among operands, so it can\'t be defined; choose another name'),
        (
            "SCHEDOP_yield equ 7",
            "SCHEDOP_yield is a constant of Xen's ABI (sched.h), so it can't be defined; choose another name",
        ),
        (
            "__HYPERVISOR_sched_op equ 7",
            "__HYPERVISOR_sched_op is a constant of Xen's ABI (xen.h), so it can't be defined; "
            "choose another name",
        ),
        (
            "ENOSYS equ 7",
            "ENOSYS is a constant of Xen's ABI (errno.h), so it can't be defined; choose another name",
        ),
        (
            "shared_info: reserve 4096",
            "shared_info is a structure of Xen's ABI (xen.h), so it can't be defined; choose another name",
        ),
        (".x:", "there is no label above that .x could belong to"),
        ("jmp .x", "there is no label above that .x could belong to"),
        ("a: jmp .x\nb:\n.x:", "there is no local label .x below a"),
        ("a.b:", "a label has no dot inside; a local label begins with it"),
        ("jmp frob", "frob is not defined"),
        ("frob: jmp frbo", "frbo is not defined; did you mean frob?"),
    ],
)
def test_a_wrong_symbol_is_explained(source: str, message: str) -> None:
    assert problems(source) == [message]
