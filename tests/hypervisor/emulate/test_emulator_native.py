"""The emulator against the engine: one instruction, the same state before, the same state behind it."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instruction_samples import Form, Sample, samples
from native_rig import NativeRig, difference

_LONG: Final = (64,)
_LEGACY: Final = (16, 32)
_ALU: Final = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
_CONDITIONS: Final = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
_SHIFTS: Final = ("rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar")


def _op(*bytes_: int) -> bytes:
    return bytes(bytes_)


def _byte_and_wide(name: str, opcode: int, **more: object) -> list[Form]:
    return [
        Form(name, _op(opcode), width=1, **more),  # type: ignore[arg-type]
        Form(name, _op(opcode + 1), **more),  # type: ignore[arg-type]
    ]


MOVES: Final = [
    *_byte_and_wide("mov m, r", 0x88),
    *_byte_and_wide("mov r, m", 0x8A),
    Form("mov m, imm", _op(0xC6), 0, "b", width=1),
    Form("mov m, imm", _op(0xC7), 0, "z"),
    *_byte_and_wide("mov acc, moffs", 0xA0, kind="moffs"),
    *_byte_and_wide("mov moffs, acc", 0xA2, kind="moffs"),
    *(Form("mov m, sreg", _op(0x8C), digit) for digit in range(6)),
    *(Form("mov m, sreg", _op(0x8C), digit, modes=_LONG) for digit in range(4, 6)),
    Form("movzx r, m8", _op(0x0F, 0xB6)),
    Form("movzx r, m16", _op(0x0F, 0xB7)),
    Form("movsx r, m8", _op(0x0F, 0xBE)),
    Form("movsx r, m16", _op(0x0F, 0xBF)),
    Form("movsxd r, m32", _op(0x63), width="q", modes=_LONG),
    Form("movnti m, r", _op(0x0F, 0xC3), width="d"),
    # In 16-bit code the engine takes the operand-size prefix of MOVBE the wrong way round.
    Form("movbe r, m", _op(0x0F, 0x38, 0xF0), modes=(32, 64)),
    Form("movbe m, r", _op(0x0F, 0x38, 0xF1), modes=(32, 64)),
    *_byte_and_wide("xchg m, r", 0x86),
]
CONDITIONAL: Final = [
    *(Form(f"set{name} m", _op(0x0F, 0x90 + at), 0, width=1) for at, name in enumerate(_CONDITIONS)),
    *(Form(f"cmov{name} r, m", _op(0x0F, 0x40 + at)) for at, name in enumerate(_CONDITIONS)),
]
ARITHMETIC: Final = [
    *(form for at, name in enumerate(_ALU) for form in _byte_and_wide(f"{name} m, r", 8 * at)),
    *(form for at, name in enumerate(_ALU) for form in _byte_and_wide(f"{name} r, m", 8 * at + 2)),
    *(Form(f"{name} m, imm8", _op(0x80), at, "b", width=1) for at, name in enumerate(_ALU)),
    *(Form(f"{name} m, imm", _op(0x81), at, "z") for at, name in enumerate(_ALU)),
    *(Form(f"{name} m, imm8", _op(0x83), at, "b") for at, name in enumerate(_ALU)),
    *(Form(f"lock {name} m, r", _op(8 * at + 1), prefix=b"\xf0") for at, name in enumerate(_ALU[:-1])),
    *_byte_and_wide("test m, r", 0x84),
    Form("test m, imm", _op(0xF6), 0, "b", width=1),
    Form("test m, imm", _op(0xF7), 0, "z"),
    *_byte_and_wide("inc m", 0xFE, digit=0),
    *_byte_and_wide("dec m", 0xFE, digit=1),
    *_byte_and_wide("not m", 0xF6, digit=2),
    *_byte_and_wide("neg m", 0xF6, digit=3),
    Form("xadd m, r", _op(0x0F, 0xC0), width=1),
    Form("xadd m, r", _op(0x0F, 0xC1)),
    Form("cmpxchg m, r", _op(0x0F, 0xB0), width=1),
    Form("cmpxchg m, r", _op(0x0F, 0xB1)),
    Form("lock cmpxchg m, r", _op(0x0F, 0xB1), prefix=b"\xf0"),
    Form("arpl m, r", _op(0x63), modes=_LEGACY),
]
PRODUCTS: Final = [
    *(
        form
        for at, name in enumerate(("mul", "imul", "div", "idiv"))
        for form in _byte_and_wide(f"{name} m", 0xF6, digit=4 + at)
    ),
    Form("imul r, m", _op(0x0F, 0xAF)),
    Form("imul r, m, imm8", _op(0x6B), immediate="b"),
    Form("imul r, m, imm", _op(0x69), immediate="z"),
]
SCANS: Final = [
    Form("bsf r, m", _op(0x0F, 0xBC)),
    Form("bsr r, m", _op(0x0F, 0xBD)),
    Form("tzcnt r, m", _op(0x0F, 0xBC), prefix=b"\xf3"),
    Form("lzcnt r, m", _op(0x0F, 0xBD), prefix=b"\xf3"),
    # Of POPCNT it takes the operand-size prefix the wrong way round, too, and it prefers that to REX.W.
    Form("popcnt r, m", _op(0x0F, 0xB8), prefix=b"\xf3", modes=(32,)),
    Form("popcnt r, m", _op(0x0F, 0xB8), width="d", prefix=b"\xf3", modes=_LONG),
]
PAIRS: Final = [
    Form("cmpxchg8b m", _op(0x0F, 0xC7), 1),
    Form("lock cmpxchg8b m", _op(0x0F, 0xC7), 1, prefix=b"\xf0"),
    Form("cmpxchg16b m", _op(0x0F, 0xC7), 1, width="q", modes=_LONG),
]
SHIFTS: Final = [
    *(form for at, name in enumerate(_SHIFTS) for form in _byte_and_wide(f"{name} m, 1", 0xD0, digit=at)),
    *(form for at, name in enumerate(_SHIFTS) for form in _byte_and_wide(f"{name} m, cl", 0xD2, digit=at)),
    *(Form(f"{name} m, imm", _op(0xC0), at, "b", width=1) for at, name in enumerate(_SHIFTS)),
    *(Form(f"{name} m, imm", _op(0xC1), at, "b") for at, name in enumerate(_SHIFTS)),
    Form("shld m, r, imm", _op(0x0F, 0xA4), immediate="b", may_be_relative=False),
    Form("shld m, r, cl", _op(0x0F, 0xA5)),
    Form("shrd m, r, imm", _op(0x0F, 0xAC), immediate="b", may_be_relative=False),
    Form("shrd m, r, cl", _op(0x0F, 0xAD)),
]
BITS: Final = [
    *(
        Form(f"{name} m, r", _op(0x0F, 0xA3 + 8 * at), kind="bits")
        for at, name in enumerate(("bt", "bts", "btr", "btc"))
    ),
    *(
        Form(f"{name} m, imm", _op(0x0F, 0xBA), 4 + at, "b")
        for at, name in enumerate(("bt", "bts", "btr", "btc"))
    ),
]
STRINGS: Final = [
    form._replace(prefix=prefix, kind="string")
    for prefix in (b"", b"\xf3", b"\xf2")
    for name, opcode in (("movs", 0xA4), ("cmps", 0xA6), ("stos", 0xAA), ("lods", 0xAC), ("scas", 0xAE))
    for form in _byte_and_wide(name, opcode)
]
STACK: Final = [
    Form("push m", _op(0xFF), 6, kind="stack"),
    Form("pop m", _op(0x8F), 0, kind="stack"),
    Form("push imm8", _op(0x6A), immediate="b", kind="stack", has_memory=False),
    Form("push imm", _op(0x68), immediate="z", kind="stack", has_memory=False),
    Form("pushf", _op(0x9C), kind="stack", has_memory=False),
    *(Form("push r", _op(0x50 + number), kind="stack", has_memory=False) for number in range(8)),
    *(Form("pop r", _op(0x58 + number), kind="stack", has_memory=False) for number in range(8)),
    *(
        Form("push sreg", _op(code), kind="stack", modes=_LEGACY, has_memory=False)
        for code in (6, 0xE, 0x16, 0x1E)
    ),
    *(Form("push sreg", _op(0x0F, code), kind="stack", has_memory=False) for code in (0xA0, 0xA8)),
]
_NONE, _66, _F3, _F2 = b"", b"\x66", b"\xf3", b"\xf2"
VECTORS: Final = [
    Form(
        name,
        _op(0x0F, opcode),
        width="d" if name == "movd" else 4,
        kind="vector",
        prefix=prefix,
        modes=(32, 64),
    )
    for name, prefix, *opcodes in (
        ("movups", _NONE, 0x10, 0x11),
        ("movupd", _66, 0x10, 0x11),
        ("movss", _F3, 0x10, 0x11),
        ("movsd", _F2, 0x10, 0x11),
        ("movlps", _NONE, 0x12, 0x13),
        ("movlpd", _66, 0x12, 0x13),
        ("movhps", _NONE, 0x16, 0x17),
        ("movhpd", _66, 0x16, 0x17),
        ("movaps", _NONE, 0x28, 0x29),
        ("movapd", _66, 0x28, 0x29),
        ("movntps", _NONE, 0x2B),
        ("movntpd", _66, 0x2B),
        ("movd", _66, 0x6E, 0x7E),
        ("movdqa", _66, 0x6F, 0x7F),
        ("movdqu", _F3, 0x6F, 0x7F),
        ("movq", _F3, 0x7E),
        ("movq", _66, 0xD6),
        ("movntdq", _66, 0xE7),
        ("lddqu", _F2, 0xF0),
    )
    for opcode in opcodes
]
FAMILIES: Final = {
    "moves": MOVES,
    "conditional": CONDITIONAL,
    "arithmetic": ARITHMETIC,
    "products": PRODUCTS,
    "scans": SCANS,
    "pairs": PAIRS,
    "shifts": SHIFTS,
    "bits": BITS,
    "strings": STRINGS,
    "stack": STACK,
    "vectors": VECTORS,
}


# A family has dozens of forms, so it gets more examples than a law of one function.
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=4 * settings.default.max_examples)
@given(st.data())
def test_an_emulated_instruction_does_what_the_processor_does(
    rig: NativeRig, family: str, data: st.DataObject
) -> None:
    sample: Sample = data.draw(st.sampled_from(FAMILIES[family]).flatmap(samples))
    native = rig.native(sample.code, sample.state)
    assert difference(native, rig.emulated(sample.code, sample.state)) == []
