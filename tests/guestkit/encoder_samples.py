"""Operands for every operand name of the instruction table: the plain ones, the odd ones and the edges."""

from collections.abc import Iterator
from itertools import cycle

from guestkit.x86.notation import Form
from guestkit.x86.operands import REGISTERS, Far, Immediate, Memory, Operand, Relative, Value
from guestkit.x86.table import forms_by_mnemonic

_REGISTERS_32 = {
    "r8": "al cl bh dl ah",
    "r16": "ax bx bp si",
    "r32": "eax ecx ebx esp ebp edi",
    "Sreg": "ds es fs gs",
    "CRn": "cr0 cr3 cr4",
    "DRn": "dr0 dr3 dr7",
    "STi": "st1 st0 st7",
    "mm": "mm0 mm3 mm7",
    "xmm": "xmm0 xmm5 xmm7",
}
_REGISTERS_64 = _REGISTERS_32 | {
    "r8": "al spl bl dil r8b r13b",
    "r16": "ax bx r8w r13w sp",
    "r32": "eax ebx r9d r12d esp r15d",
    "r64": "rax rbx rsp rbp r8 r12 r13 r15",
    "CRn": "cr0 cr3 cr8",
    "xmm": "xmm0 xmm7 xmm8 xmm15",
}
_NUMBERS = {
    "imm8": (0, 1, 2, 5, 127, 128, 255, -1, -128),
    "imm16": (0, 1, 127, 128, 0xFF80, 0xFFFF, 0x7FFF, -1, -128, -129, 0x1234),
    "imm32": (0, 1, 127, 128, 0xFFFFFF80, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, -1, -129, 0x12345678),
    "simm32": (0, 1, 127, 128, -1, -128, -129, 0x7FFFFFFF, -0x80000000, 0x12345678),
    "imm64": (0, -1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF80000000, 0x123456789ABCDEF0, -0x80000001),
    "simm8:16": (0, -1, 127, -128, 0xFF80, 0xFFFF),
    "simm8:32": (0, -1, 127, -128, 0xFFFFFF80, 0xFFFFFFFF),
    "simm8:64": (0, -1, 127, -128, 0xFFFFFFFFFFFFFF80),
    "known32": (0, -1, 0x7FFFFFFF, -0x80000000, 0xFFFFFFFF80001000),
    "1": (1,),
    "3": (3,),
}
# base, index, scale, displacement
_ADDRESSES_32 = (
    ("ebx", "", 1, 0),
    ("ebp", "", 1, 0),
    ("esp", "", 1, 0),
    ("", "", 1, 0x12345678),
    ("eax", "", 1, 127),
    ("ecx", "", 1, 128),
    ("esi", "", 1, -128),
    ("edi", "", 1, -129),
    ("ebx", "", 1, 0xFFFFFFFC),
    ("eax", "esi", 4, 0),
    ("ebp", "ecx", 2, 0),
    ("esp", "ebp", 8, 5),
    ("", "edx", 4, 0),
    ("", "ebp", 1, 0xC0100000),
    ("esp", "eax", 1, 0x1000),
    ("bx", "si", 1, 0),
    ("bp", "", 1, 0),
    ("di", "", 1, 0x1234),
    ("bp", "di", 1, -3),
)
_ADDRESSES_64 = (
    ("rbx", "", 1, 0),
    ("rbp", "", 1, 0),
    ("r13", "", 1, 0),
    ("rsp", "", 1, 0),
    ("r12", "", 1, 0),
    ("", "", 1, 0x12345678),
    ("", "", 1, -0x1000),
    ("rax", "", 1, 127),
    ("r9", "", 1, 128),
    ("rsi", "", 1, -129),
    ("rax", "r12", 4, 0),
    ("r13", "rcx", 2, 0),
    ("rsp", "r15", 8, 5),
    ("", "rdx", 4, 0),
    ("", "r13", 1, 0x7FFFFFFF),
    ("r12", "r12", 1, -0x80000000),
    ("ebx", "", 1, 4),
    ("r8d", "r9d", 2, 0xFFFFFFFC),
    ("rip", "", 1, 0x4000),
)
_SEGMENTS = (None, None, None, None, None, "fs", None, "gs")
# How fast each operand walks through its samples: primes that divide no number of samples, so all are met.
_STRIDES = (1, 13, 17)
_MEMORY_SIZES = {"m16:16": 16, "m16:32": 32, "m16:64": 64, "m": None}


def _samples(mnemonic: str, name: str, bits: int) -> list[Operand]:
    """The operands to try for one operand name of a mnemonic, in code of so many bits."""
    registers = _REGISTERS_32 if bits == 32 else _REGISTERS_64
    if name in registers:
        return [REGISTERS[register] for register in registers[name].split()]
    if name.isupper():
        return [REGISTERS[name.lower()]]
    if name in _NUMBERS:
        # PUSH is the one instruction that only the keyword of an immediate makes a 16-bit one.
        size = 16 if mnemonic == "push" and name in ("simm8:16", "imm16") else None
        return [Immediate(Value(number), size) for number in _NUMBERS[name]]
    if name.startswith("rel"):
        return [Relative(Value(number), "short" if name == "rel8" else "near") for number in (0, 5, 100)]
    if name == "ptr16:32":
        return [Far(Value(0xE019), Value(number)) for number in (0x12345678, 0xFFFFFFFF)]
    if name.startswith("moffs"):
        numbers = (0x1234, 0xC0101234) if bits == 32 else (0x1122334455667788, 0xFFFF800000000000)
        return [Memory(size=int(name[5:]), displacement=Value(number)) for number in numbers]
    if name == "m" or name.startswith("m16:") or (name[0] == "m" and name[1:].isdigit()):
        return list(_memory(name, bits))
    register, memory = name.split("/m")
    register_name = f"r{memory}" if register == "r" else register
    pairs = zip(cycle(_samples(mnemonic, register_name, bits)), _memory(f"m{memory}", bits), strict=False)
    return [operand for pair in pairs for operand in pair]


def _memory(name: str, bits: int) -> Iterator[Memory]:
    size = _MEMORY_SIZES[name] if name in _MEMORY_SIZES else int(name[1:])
    for number, (base, index, scale, displacement) in enumerate(
        _ADDRESSES_32 if bits == 32 else _ADDRESSES_64
    ):
        segment = _SEGMENTS[number % len(_SEGMENTS)]
        yield Memory(
            size=size,
            base=REGISTERS.get(base),
            index=REGISTERS.get(index),
            scale=scale,
            displacement=Value(displacement),
            segment=None if segment is None else REGISTERS[segment],
            rip_relative=base == "rip",
            far=name.startswith("m16:"),
        )


def instructions(bits: int) -> Iterator[tuple[Form, tuple[Operand, ...]]]:
    """Every form of the table with enough combinations that each sample of each operand is met."""
    for forms in forms_by_mnemonic().values():
        for form in forms:
            if bits in form.modes:
                columns = [_samples(form.mnemonic, name, bits) for name in form.operands]
                for step in range(max([1, *(len(column) for column in columns)])):
                    yield (
                        form,
                        tuple(
                            column[step * stride % len(column)]
                            for column, stride in zip(columns, _STRIDES, strict=False)
                        ),
                    )
