"""What a front end relies on: sizes that do not move, fixups that say where numbers are, jumps that reach."""

import capstone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_strategies import ADDRESS, instructions

from guestkit.x86.encoder import (
    EncodeError,
    Fixup,
    encode,
    has_near_form,
    has_short_form,
    mnemonics,
    takes_target,
)
from guestkit.x86.notation import Form
from guestkit.x86.operands import REGISTERS, Far, Immediate, Memory, Operand, Relative, Value

_EAX, _RAX = REGISTERS["eax"], REGISTERS["rax"]


def _with_symbols(operand: Operand, number: int | None = None) -> Operand:
    """An operand whose numbers all depend on symbols, and all are ``number`` now, if that is given."""

    def symbol(value: Value) -> Value:
        return Value(value.number if number is None else number, known=False)

    match operand:
        case Immediate(value=value, size=size):
            return Immediate(symbol(value), size)
        case Relative(value=value, distance=distance):
            return Relative(symbol(value), distance)
        case Far(selector=selector, offset=offset):
            return Far(symbol(selector), symbol(offset))
        case Memory():
            return Memory(
                operand.size,
                operand.base,
                operand.index,
                operand.scale,
                symbol(operand.displacement),
                operand.segment,
                operand.address_size,
                operand.rip_relative,
                operand.far,
            )
        case _:
            return operand


@settings(max_examples=500, deadline=None)
@given(instructions(), st.integers(-(1 << 63), (1 << 64) - 1))
def test_the_size_does_not_depend_on_a_number_that_is_not_known(
    instruction: tuple[int, Form, tuple[Operand, ...]], number: int
) -> None:
    bits, form, operands = instruction
    if form.operands in (("3",),) or "1" in form.operands:
        return
    one = encode(bits, form.mnemonic, [_with_symbols(operand) for operand in operands])
    other = encode(bits, form.mnemonic, [_with_symbols(operand, number) for operand in operands])
    assert (len(one.code), one.fixups) == (len(other.code), other.fixups)


@settings(max_examples=500, deadline=None)
@given(instructions())
def test_fixups_say_where_the_numbers_are(instruction: tuple[int, Form, tuple[Operand, ...]]) -> None:
    bits, form, operands = instruction
    symbolic = [_with_symbols(operand) for operand in operands]
    encoded = encode(bits, form.mnemonic, symbolic, address=ADDRESS)
    blank = encode(bits, form.mnemonic, [_with_symbols(operand, 0) for operand in operands], address=ADDRESS)
    code = bytearray(blank.code)
    for fixup in blank.fixups:
        number = _number(symbolic[fixup.operand_index], fixup)
        if fixup.kind == "relative":
            number -= ADDRESS + len(code)
        code[fixup.offset : fixup.offset + fixup.size] = (number % (1 << 8 * fixup.size)).to_bytes(
            fixup.size, "little"
        )
    assert bytes(code) == encoded.code


def _number(operand: Operand, fixup: Fixup) -> int:
    match operand:
        case Far(selector=selector, offset=offset):
            return selector.number if fixup.size == 2 else offset.number
        case Memory(displacement=value) | Immediate(value=value) | Relative(value=value):
            return value.number
        case _:
            raise AssertionError(f"a register has no fixup: {operand}")


_OVERFLOWS: list[tuple[int, str, list[Operand], list[Operand]]] = [
    (32, "mov", [REGISTERS["al"]], [Immediate(Value(256, known=False))]),
    (32, "shl", [_EAX], [Immediate(Value(-129, known=False))]),
    (32, "mov", [_EAX], [Immediate(Value(1 << 32, known=False))]),
    (32, "mov", [_EAX], [Memory(base=_EAX, displacement=Value(1 << 32, known=False))]),
    (64, "mov", [_RAX], [Memory(base=_RAX, displacement=Value(1 << 31, known=False))]),
    (64, "add", [_RAX], [Immediate(Value(1 << 31, known=False))]),
    (32, "jmp", [], [Relative(Value(1000, known=False), "short")]),
    (64, "call", [], [Relative(Value(1 << 40, known=False))]),
    (64, "lea", [_RAX], [Memory(displacement=Value(1 << 40, known=False), rip_relative=True)]),
]


@pytest.mark.parametrize(("bits", "mnemonic", "registers", "symbols"), _OVERFLOWS)
def test_a_number_that_may_move_is_checked_once_it_is_final(
    bits: int, mnemonic: str, registers: list[Operand], symbols: list[Operand]
) -> None:
    operands = [*registers, *symbols]
    assert encode(bits, mnemonic, operands).fixups
    with pytest.raises(EncodeError) as caught:
        encode(bits, mnemonic, operands, final=True)
    assert caught.value.operand_index == len(registers)


def test_an_address_in_the_upper_half_fits_where_the_processor_extends_the_sign() -> None:
    top = Value(0xFFFF_FFFF_8000_1000, known=False)
    encoded = encode(64, "push", [Immediate(top)], final=True)
    assert encoded.code == b"\x68\x00\x10\x00\x80"


_JUMPS = sorted(mnemonic for mnemonic in mnemonics() if has_short_form(mnemonic) and has_near_form(mnemonic))


@given(st.sampled_from(_JUMPS), st.integers(0, 0xFFFF_FFFF), st.integers(-300, 300))
def test_a_known_target_takes_the_short_form_exactly_where_it_reaches(
    mnemonic: str, address: int, distance: int
) -> None:
    target = (address + distance) % (1 << 32)
    code = encode(32, mnemonic, [Relative(Value(target))], address=address).code
    assert (len(code) == 2) == (-128 <= distance - 2 <= 127)
    (found,) = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32).disasm(code, address)
    assert int(found.op_str, 16) == target


@pytest.mark.parametrize("mnemonic", _JUMPS)
def test_a_target_that_is_not_known_takes_the_near_form_unless_asked_otherwise(mnemonic: str) -> None:
    target = Relative(Value(0, known=False))
    assert encode(32, mnemonic, [target]).fixups[0].size == 4
    assert encode(32, mnemonic, [target], distance="near").fixups[0].size == 4
    assert encode(32, mnemonic, [target], distance="short").fixups[0].size == 1
    assert encode(32, mnemonic, [Relative(target.value, "near")], distance="short").fixups[0].size == 4


def test_the_forms_of_a_jump_are_told() -> None:
    told = {name: (takes_target(name), has_short_form(name), has_near_form(name)) for name in mnemonics()}
    assert told["jmp"] == told["jne"] == (True, True, True)
    assert told["call"] == (True, False, True)
    assert told["loop"] == told["jecxz"] == (True, True, False)
    assert told["mov"] == told["ret"] == (False, False, False)
    assert not takes_target("no such thing")
