"""The notation of the instruction table: how a row is read, and which mistakes in it are found."""

import pytest

from guestkit.x86.notation import CONDITIONS, parse
from guestkit.x86.table import forms_by_mnemonic


def test_a_row_with_v_is_one_form_for_each_operand_size() -> None:
    forms = list(parse("add\n    r/mv, rv | 01 /r\n"))
    assert [(form.operands, sorted(form.prefixes), form.rex_w, form.modes) for form in forms] == [
        (("r/m32", "r32"), [], False, (32, 64)),
        (("r/m64", "r64"), [], True, (64,)),
        (("r/m16", "r16"), [0x66], False, (32, 64)),
    ]


def test_a_row_of_64_bit_default_size_has_no_32_bit_form_in_64_bit_code() -> None:
    forms = list(parse("push\n    rv | 50+r | d64\n"))
    assert [(form.operands, form.rex_w, form.modes) for form in forms] == [
        (("r32",), False, (32,)),
        (("r64",), False, (64,)),
        (("r16",), False, (32, 64)),
    ]


def test_a_heading_numbers_its_mnemonics() -> None:
    forms = list(parse("rol - rcl/other\n    r/m8, 1 | D0 /n\n\nclc stc\n    | F8+n\n"))
    assert [(form.mnemonic, form.opcode, form.digit) for form in forms] == [
        ("rol", b"\xd0", 0),
        ("rcl", b"\xd0", 2),
        ("other", b"\xd0", 2),
        ("clc", b"\xf8", None),
        ("stc", b"\xf9", None),
    ]


def test_a_heading_with_cc_is_the_sixteen_conditions_with_their_other_names() -> None:
    opcodes = {form.mnemonic: form.opcode[-1] for form in parse("set{cc}\n    r/m8 | 0F 90+n /0\n")}
    assert len(CONDITIONS.split()) == 16
    assert sorted(set(opcodes.values())) == list(range(0x90, 0xA0))
    assert opcodes["setc"] == opcodes["setb"] == opcodes["setnae"] == 0x92


@pytest.mark.parametrize(
    "row",
    [
        "r/m8, imm8 | 80 /0",  # the field of the immediate is missing
        "r/m8, imm8 | 80 /0 id",  # it has the wrong size
        "r/m8, r8 | 88",  # nothing says where the operands go
        "r32 | 0F A2 cd",  # a field that no operand fills
        "| 0F A2 | v64",  # no such validity
    ],
)
def test_a_row_whose_operands_do_not_fit_its_opcode_is_refused(row: str) -> None:
    with pytest.raises(ValueError, match=r"operands|fields|v64"):
        list(parse(f"mov\n    {row}\n"))


def test_no_two_forms_of_a_mnemonic_take_the_same_operands_in_one_mode() -> None:
    for forms in forms_by_mnemonic().values():
        for bits in (32, 64):
            seen = [form.operands for form in forms if bits in form.modes]
            assert len(seen) == len(set(seen)), forms[0].mnemonic
