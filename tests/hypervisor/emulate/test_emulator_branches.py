"""Branches and the stack: the emulator goes where the engine goes, and refuses what a processor refuses."""

import itertools
from typing import Final

import pytest
from native_rig import AREA, AreaMemory, NativeRig, State, difference

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.laboratory import CODE
from pvemu.hypervisor.emulate import Emulator, InstructionFault, Unemulated

_OPERAND: Final = 0x1000
_STACK: Final = 0x8000
_BITS: Final = (16, 32, 64)
_CS_LIMIT: Final = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.LIMIT) // 4

#: In 16-bit code, and in all other. Each goes to the next instruction.
_CODES: Final = {
    "jmp [bx]": (b"\xff\x27", b"\xff\x23"),
    "call [bx]": (b"\xff\x17", b"\xff\x13"),
    "call bx": (b"\xff\xd3", b"\xff\xd3"),
    "call $+0": (b"\xe8\0\0", b"\xe8\0\0\0\0"),
    "ret": (b"\xc3", b"\xc3"),
    "ret 12": (b"\xc2\x0c\0", b"\xc2\x0c\0"),
    "leave": (b"\xc9", b"\xc9"),
}


def sample(name: str, bits: int, stack_bits: int, *, prefix: bytes = b"") -> tuple[bytes, State]:
    """An instruction, and a register, an operand and a stack that lead to what stands behind it."""
    code = prefix + _CODES[name][bits != 16]
    base = 0 if bits == 64 else CODE if bits == 16 else 0x1230
    following = CODE - base + len(code)
    memory = bytearray(len(AREA))
    for place in (_OPERAND, _STACK):
        memory[place : place + 8] = following.to_bytes(8, "little")
    data = AREA.start if bits != 64 else 0
    registers = [0x1111_1111 * number for number in range(16)]
    registers[layout.RBX] = following if name == "call bx" else AREA.start - data + _OPERAND
    registers[layout.RSP] = registers[layout.RBP] = AREA.start - data + _STACK
    bases = {layout.CS: base, layout.DS: data, layout.SS: data}
    return code, State(registers, flags.IF | flags.FIXED, bytes(memory), bits, stack_bits, bases)


@pytest.mark.parametrize("name", _CODES)
@pytest.mark.parametrize(
    ("bits", "stack_bits"), [(16, 16), (16, 32), (32, 16), (32, 32), (64, 64)], ids=lambda bits: str(bits)
)
def test_a_branch_does_what_the_processor_does(rig: NativeRig, name: str, bits: int, stack_bits: int) -> None:
    code, state = sample(name, bits, stack_bits)
    assert difference(rig.native(code, state), rig.emulated(code, state)) == []


@pytest.mark.parametrize("name", ["ret", "leave"])
@pytest.mark.parametrize("bits", [16, 32])
def test_an_operand_size_prefix_chooses_the_other_width(rig: NativeRig, name: str, bits: int) -> None:
    code, state = sample(name, bits, bits, prefix=b"\x66")
    assert difference(rig.native(code, state), rig.emulated(code, state)) == []


@pytest.mark.parametrize(("name", "bits"), list(itertools.product(["jmp [bx]", "ret"], _BITS)))
def test_code_can_not_be_where_the_segment_ends_or_addresses_have_a_hole(
    rig: NativeRig, name: str, bits: int
) -> None:
    code, state = sample(name, bits, bits)
    memory = bytearray(state.memory)
    for place in (_OPERAND, _STACK):
        memory[place : place + 8] = (1 << 47 if bits == 64 else 0x8000).to_bytes(8, "little")
    rig.prepare(state)
    if bits != 64:
        rig.window.u32[_CS_LIMIT] = 0x7FFF
    before = rig.state(state, bytes(memory))
    with pytest.raises(InstructionFault) as fault:
        Emulator(rig.window).step(AreaMemory(bytes(memory)), code)
    assert fault.value.vector == exits.GP
    assert difference(before, rig.state(state, bytes(memory))) == []


def test_where_processors_do_not_agree_nothing_is_emulated(rig: NativeRig) -> None:
    code, state = sample("ret", 64, 64, prefix=b"\x66")
    rig.prepare(state)
    with pytest.raises(Unemulated):
        Emulator(rig.window).step(AreaMemory(state.memory), code)
