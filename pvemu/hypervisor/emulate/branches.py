"""Near jumps, calls and returns whose target or stack is in memory, and LEAVE."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import exits, layout
from pvemu.cpu.segments import is_canonical
from pvemu.hypervisor.emulate.memory import InstructionFault, Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.stack import popping, pushing, stack_pointer, stack_size
from pvemu.hypervisor.emulate.translation import ALL, Get, Put, Run, Translation, mask, register, set_register

_EIP: Final = layout.EIP // 8
_CS_LIMIT: Final = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.LIMIT) // 4


def _target(translation: Translation) -> tuple[Callable[[int], None], Put]:
    """Refuses an address that code can't have, with #GP(0); and goes to one."""
    u32, u64 = translation.window.u32, translation.window.u64
    length, is_long = translation.instruction.length, translation.mode.bits == 64

    def check(address: int) -> None:
        if not is_canonical(address) if is_long else address > u32[_CS_LIMIT]:
            raise InstructionFault(exits.GP)

    def go(address: int) -> None:
        u64[_EIP] = address - length & ALL  # the step goes over the instruction's length, wherever it is

    return check, go


def _jmp(translation: Translation) -> Run:
    size = _size(translation)
    load = _loading(translation, size)
    check, go = _target(translation)

    def jump(memory: Memory) -> bool:
        address = load(memory)
        check(address)
        go(address)
        return False

    return jump


def _call(translation: Translation) -> Run:
    size = _size(translation)
    load, following = _loading(translation, size), _following(translation, size)
    check, go = _target(translation)
    wanted = 0

    def value(memory: Memory) -> bytes:
        nonlocal wanted
        wanted = load(memory)
        check(wanted)
        return following().to_bytes(size, "little")

    push = pushing(translation, size, value)

    def call(memory: Memory) -> bool:
        push(memory)
        go(wanted)
        return False

    return call


def _size(translation: Translation) -> int:
    """Bytes of an instruction pointer: in 64-bit mode eight, and processors do not agree about a prefix."""
    size = stack_size(translation)
    if translation.mode.bits == 64 and size != 8:
        raise translation.unemulated()
    return size


def _loading(translation: Translation, size: int) -> Callable[[Memory], int]:
    """Where a branch goes: what an operand holds, or how far the instruction says."""
    operand = translation.operands[0]
    if operand.kind == "immediate":
        u64, ones = translation.window.u64, mask(size)
        return lambda memory: u64[_EIP] + operand.number & ones
    return translation.load(operand, size)


def _following(translation: Translation, size: int) -> Get:
    u64, length, ones = translation.window.u64, translation.instruction.length, mask(size)
    return lambda: u64[_EIP] + length & ones


def _ret(translation: Translation) -> Run:
    size = _size(translation)
    pointer, set_pointer, ones = stack_pointer(translation)
    linear = translation.linear(layout.SS, size)
    released = size + (translation.operands[0].number & 0xFFFF if translation.operands else 0)
    check, go = _target(translation)

    def return_(memory: Memory) -> bool:
        stack = pointer()
        address = int.from_bytes(memory.read(linear(stack), size), "little")
        check(address)
        set_pointer(stack + released & ones)
        go(address)
        return False

    return return_


def _leave(translation: Translation) -> Run:
    size, window = stack_size(translation), translation.window
    frame = register(window, layout.RBP, translation.mode.stack_bits // 8)
    return popping(translation, size, set_register(window, layout.RBP, size), frame)


BRANCHES: Final[dict[str, Translate]] = {"jmp": _jmp, "call": _call, "ret": _ret, "leave": _leave}
