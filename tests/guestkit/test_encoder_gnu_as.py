"""The encoder against GNU as: the bytes of every form of the table, the relocations for symbols."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from encoder_samples import instructions
from gnu_assembler import assemble, gnu_operand, needs_gnu_as, relocations

from guestkit.x86.encoder import encode
from guestkit.x86.notation import Form
from guestkit.x86.operands import REGISTERS, Immediate, Memory, Operand, Register, Relative, Value

pytestmark = needs_gnu_as

_GNU_NAMES_32 = {"icebp": "int1", "retn": "ret"}
_GNU_NAMES_64 = {
    **_GNU_NAMES_32,
    "retf": "retfd",
    "iret": "iretd",
    "sysret": "sysretd",
    "sysexit": "sysexitd",
}
# LAR with a 64-bit and a 32-bit register is how the manual writes it.
_UNKNOWN_TO_GNU_AS = {("salc", ()), ("lar", ("r64", "r32")), ("lsl", ("r64", "r32"))}


def _in_gnu_syntax(bits: int, form: Form, operands: Sequence[Operand], end: int) -> str:
    """An instruction with the prefixes that GNU as needs where its Intel syntax has no word for a size."""
    names = form.operands
    words = [(_GNU_NAMES_32 if bits == 32 else _GNU_NAMES_64).get(form.mnemonic, form.mnemonic)]
    if names in (("simm8:16",), ("imm16",)) and form.mnemonic == "push":
        words = ["pushw"]
    if "rel32" in names:
        words.insert(0, "{disp32}")
    if names == ("m16:16",):
        words.insert(0, "data16")
    if "m16:64" in names:
        words.insert(0, "rex.w")
        operands = [_narrow(operand) for operand in operands]
    elif names == ("m16:16",):
        operands = [replace(operand, size=32) for operand in operands if isinstance(operand, Memory)]
    return f"{' '.join(words)} {', '.join(gnu_operand(operand, end) for operand in operands)}"


def _narrow(operand: Operand) -> Operand:
    if isinstance(operand, Register):
        return next(r for r in REGISTERS.values() if (r.kind, r.number) == ("gpr32", operand.number))
    return replace(operand, size=32) if isinstance(operand, Memory) else operand


def _placed(operand: Operand, address: int) -> Operand:
    """A sample as it stands at an address: targets are near it."""
    if isinstance(operand, Relative):
        return Relative(Value(address + operand.value.number), operand.distance)
    return operand


@pytest.mark.parametrize("bits", [32, 64])
def test_every_form_of_the_table_has_the_bytes_of_gnu_as(bits: int, tmp_path: Path) -> None:
    lines, ours, address = [], [], 0
    for form, samples in instructions(bits):
        if (form.mnemonic, form.operands) not in _UNKNOWN_TO_GNU_AS:
            operands = [_placed(operand, address) for operand in samples]
            ours.append(encode(bits, form.mnemonic, operands, address=address).code)
            address += len(ours[-1])
            lines.append(_in_gnu_syntax(bits, form, operands, address))
    assert len(lines) > 15000
    theirs = assemble(bits, lines, tmp_path)
    assert [
        f"{line}: {our.hex(' ')}, GNU as {their.hex(' ')}"
        for line, our, their in zip(lines, ours, theirs, strict=True)
        if our != their
    ] == []


_SYMBOL = Value(0, known=False)
_EBX, _EAX, _CL = REGISTERS["ebx"], REGISTERS["eax"], REGISTERS["cl"]
_RAX, _RBX, _RCX = REGISTERS["rax"], REGISTERS["rbx"], REGISTERS["rcx"]
_SYMBOLIC_32: dict[str, tuple[str, list[Operand]]] = {
    "add eax, offset sym": ("add", [_EAX, Immediate(_SYMBOL)]),
    "add ebx, offset sym": ("add", [_EBX, Immediate(_SYMBOL)]),
    "cmp dword ptr [ebx], offset sym": ("cmp", [Memory(32, _EBX), Immediate(_SYMBOL)]),
    "mov ebx, offset sym": ("mov", [_EBX, Immediate(_SYMBOL)]),
    "mov cl, offset sym": ("mov", [_CL, Immediate(_SYMBOL)]),
    "imul ebx, eax, offset sym": ("imul", [_EBX, _EAX, Immediate(_SYMBOL)]),
    "push offset sym": ("push", [Immediate(_SYMBOL)]),
    "mov eax, sym": ("mov", [_EAX, Memory(displacement=_SYMBOL)]),
    "mov ebx, sym": ("mov", [_EBX, Memory(displacement=_SYMBOL)]),
    "mov ebx, [eax+sym]": ("mov", [_EBX, Memory(base=_EAX, displacement=_SYMBOL)]),
    "mov ebx, [eax*4+sym]": ("mov", [_EBX, Memory(index=_EAX, scale=4, displacement=_SYMBOL)]),
    "mov dword ptr [eax+sym], offset sym": (
        "mov",
        [Memory(32, _EAX, displacement=_SYMBOL), Immediate(_SYMBOL)],
    ),
    "jmp sym": ("jmp", [Relative(_SYMBOL)]),
    "call sym": ("call", [Relative(_SYMBOL)]),
    "jne sym": ("jne", [Relative(_SYMBOL)]),
    "call dword ptr [sym]": ("call", [Memory(displacement=_SYMBOL)]),
}
_SYMBOLIC_64: dict[str, tuple[str, list[Operand]]] = {
    "add rax, offset sym": ("add", [_RAX, Immediate(_SYMBOL)]),
    "mov ebx, offset sym": ("mov", [_EBX, Immediate(_SYMBOL)]),
    "mov rbx, offset sym": ("mov", [_RBX, Immediate(_SYMBOL, 32)]),
    "movabs rbx, offset sym": ("mov", [_RBX, Immediate(_SYMBOL)]),
    "mov qword ptr [rbx], offset sym": ("mov", [Memory(64, _RBX), Immediate(_SYMBOL)]),
    "push offset sym": ("push", [Immediate(_SYMBOL)]),
    "mov rcx, [rbx+sym]": ("mov", [_RCX, Memory(base=_RBX, displacement=_SYMBOL)]),
    "mov rcx, ds:sym": ("mov", [_RCX, Memory(displacement=_SYMBOL)]),
    "mov rax, ds:sym": ("mov", [_RAX, Memory(displacement=_SYMBOL)]),
    "lea rcx, [rip+sym]": ("lea", [_RCX, Memory(displacement=_SYMBOL, rip_relative=True)]),
    "cmp dword ptr [rip+sym], 1": (
        "cmp",
        [Memory(32, displacement=_SYMBOL, rip_relative=True), Immediate(Value(1))],
    ),
    "jmp sym": ("jmp", [Relative(_SYMBOL)]),
    "call sym": ("call", [Relative(_SYMBOL)]),
}


@pytest.mark.parametrize(("bits", "symbolic"), [(32, _SYMBOLIC_32), (64, _SYMBOLIC_64)])
def test_a_number_not_known_leaves_the_relocation_that_gnu_as_leaves(
    bits: int, symbolic: dict[str, tuple[str, list[Operand]]], tmp_path: Path
) -> None:
    encodings = [encode(bits, mnemonic, operands) for mnemonic, operands in symbolic.values()]
    lines = list(symbolic)
    sizes = [len(code) for code in assemble(bits, lines, tmp_path)]
    assert dict(zip(lines, [len(encoded.code) for encoded in encodings], strict=True)) == dict(
        zip(lines, sizes, strict=True)
    )
    ours = [[(fixup.offset, fixup.size, fixup.kind) for fixup in encoded.fixups] for encoded in encodings]
    theirs = relocations(bits, lines, tmp_path)
    assert dict(zip(lines, ours, strict=True)) == dict(zip(lines, theirs, strict=True))
