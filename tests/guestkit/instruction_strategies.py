"""Hypothesis strategies for whole instructions, drawn from the rows of the instruction table."""

from functools import cache

from hypothesis import strategies as st

from guestkit.x86.notation import Form
from guestkit.x86.operands import REGISTERS, Far, Immediate, Memory, Operand, Register, Relative, Value
from guestkit.x86.table import forms_by_mnemonic

ADDRESS = 0x40_1000  # where the instructions stand

_REGISTER_KINDS = {
    "r8": "gpr8", "r16": "gpr16", "r32": "gpr32", "r64": "gpr64", "STi": "st", "mm": "mm", "xmm": "xmm",
}  # fmt: skip
# Of these kinds not every number exists, and CS cannot be loaded.
_NAMED_REGISTERS = {"CRn": "cr0 cr2 cr3 cr4", "DRn": "dr0 dr1 dr2 dr3 dr6 dr7", "Sreg": "es ss ds fs gs"}
# Bits of the operand, and of the field if the processor extends it.
_IMMEDIATES = {
    "imm8": (8, 8), "imm16": (16, 16), "imm32": (32, 32), "imm64": (64, 64), "simm8:16": (16, 8),
    "simm8:32": (32, 8), "simm8:64": (64, 8), "simm32": (64, 32), "known32": (64, 32),
}  # fmt: skip
_SEGMENTS = st.sampled_from([None, REGISTERS["fs"], REGISTERS["gs"]])
_OFFSETS = st.sampled_from([0, 1, 127, 128, -128, -129]) | st.integers(-(1 << 31), (1 << 31) - 1)


@st.composite
def instructions(draw: st.DrawFn) -> tuple[int, Form, tuple[Operand, ...]]:
    """(bits, form, operands) of an instruction that stands at ADDRESS."""
    bits = draw(st.sampled_from([32, 64]))
    form = draw(st.sampled_from(_forms(bits)))
    operands = [draw(_operands(name, bits)) for name in form.operands]
    if form.mnemonic == "push" and form.operands in (("simm8:16",), ("imm16",)):
        # PUSH is the one instruction that only the keyword of an immediate makes a 16-bit one.
        operands = [Immediate(operand.value, 16) for operand in operands if isinstance(operand, Immediate)]
    if form.mnemonic == "enter" or form.mnemonic.startswith("ret"):
        # Their numbers are counts of bytes.
        operands = [
            Immediate(Value(abs(operand.value.number) // 2))
            for operand in operands
            if isinstance(operand, Immediate)
        ]
    if bits == 64 and len(operands) > 1:
        # AH to BH exclude whatever needs a REX prefix; alone or in 32-bit code they are drawn freely.
        operands = [
            REGISTERS["bl"] if isinstance(operand, Register) and operand.no_rex else operand
            for operand in operands
        ]
    return bits, form, tuple(operands)


@cache
def _forms(bits: int) -> list[Form]:
    return [form for forms in forms_by_mnemonic().values() for form in forms if bits in form.modes]


def immediate_bits(name: str) -> int:
    """How many bits the operand has that an immediate of this name becomes."""
    return _IMMEDIATES[name][0] if name in _IMMEDIATES else 8


def _operands(name: str, bits: int) -> st.SearchStrategy[Operand]:
    if name in _REGISTER_KINDS or name in _NAMED_REGISTERS:
        return _registers(name, bits)
    if name.isupper():
        return st.just(REGISTERS[name.lower()])
    if name.isdigit():
        return st.just(Immediate(Value(int(name))))
    if name in _IMMEDIATES:
        return _numbers(*_IMMEDIATES[name]).map(lambda number: Immediate(Value(number)))
    if name.startswith("rel"):
        reach = 100 if name == "rel8" else 1 << 30
        return st.integers(-reach, reach).map(lambda distance: Relative(Value(ADDRESS + distance)))
    if name == "ptr16:32":
        selectors, offsets = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
        return st.builds(Far, selectors.map(Value), offsets.map(Value))
    if name.startswith("moffs"):
        return st.integers(0, (1 << bits) - 1).map(lambda at: Memory(int(name[5:]), displacement=Value(at)))
    if name == "m":
        return _memories(None, bits)
    if name.startswith("m16:"):
        return _memories(int(name[4:]), bits, far=True)
    if name[0] == "m" and name[1:].isdigit():
        return _memories(int(name[1:]), bits)
    register, _, memory = name.partition("/m")
    register_name = f"r{memory}" if register == "r" else register
    return _registers(register_name, bits) | _memories(int(memory), bits)


def _registers(name: str, bits: int) -> st.SearchStrategy[Register]:
    if name in _NAMED_REGISTERS:
        return st.sampled_from([REGISTERS[register] for register in _NAMED_REGISTERS[name].split()])
    return st.sampled_from(_registers_of_kind(_REGISTER_KINDS[name], bits))


def _registers_of_kind(kind: str, bits: int) -> list[Register]:
    return [
        register
        for register in REGISTERS.values()
        if register.kind == kind and (bits == 64 or (register.number < 8 and not register.needs_rex))
    ]


def _numbers(wide: int, field: int) -> st.SearchStrategy[int]:
    """Numbers that an immediate can hold, written as signed or as unsigned ones."""
    if wide == field:
        return st.integers(-(1 << (wide - 1)), (1 << wide) - 1)
    half = 1 << (field - 1)
    return st.integers(-half, half - 1) | st.integers((1 << wide) - half, (1 << wide) - 1)


@st.composite
def _memories(draw: st.DrawFn, size: int | None, bits: int, *, far: bool = False) -> Memory:
    width = 32 if bits == 32 else draw(st.sampled_from([64, 64, 32]))
    general = _registers_of_kind(f"gpr{width}", bits)
    base = draw(st.none() | st.sampled_from(general))
    index = draw(st.none() | st.sampled_from([register for register in general if register.number != 4]))
    offset, segment = draw(_OFFSETS), draw(_SEGMENTS)
    if base is None and index is None:
        relative = bits == 64 and draw(st.booleans())
        target = Value(ADDRESS + offset // 2 if relative else offset)
        return Memory(size, displacement=target, segment=segment, rip_relative=relative, far=far)
    scale = 1 if index is None else draw(st.sampled_from([1, 2, 4, 8]))
    written = offset % (1 << width) if draw(st.booleans()) else offset
    return Memory(size, base, index, scale, Value(written), segment, far=far)
