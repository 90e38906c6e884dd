"""Instructions on the stack: PUSH and POP of registers, numbers and memory, PUSHF."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import flags, layout
from pvemu.cpu.decode import Operand
from pvemu.hypervisor.emulate.memory import Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Get, Put, Run, Translation, mask, register, set_register


def stack_pointer(translation: Translation) -> tuple[Get, Put, int]:
    """Reads and sets the stack pointer, in the width that the stack segment gives it; all ones of that."""
    width = translation.mode.stack_bits // 8
    window = translation.window
    return register(window, layout.RSP, width), set_register(window, layout.RSP, width), mask(width)


def stack_size(translation: Translation) -> int:
    """Bytes of a push or pop: in 64-bit mode eight, unless a prefix makes them two."""
    size = translation.instruction.operand_size
    return 8 if translation.mode.bits == 64 and size == 4 else size


def pushing(translation: Translation, size: int, value: Callable[[Memory], bytes]) -> Run:
    """Pushes what `value` comes to, which may refuse."""
    pointer, set_pointer, ones = stack_pointer(translation)
    linear = translation.linear(layout.SS, size, write=True)

    def push(memory: Memory) -> bool:
        data, stack = value(memory), pointer() - size & ones
        memory.write(linear(stack), data)
        set_pointer(stack)
        return False

    return push


def _push(translation: Translation) -> Run:
    source, size = translation.operands[0], stack_size(translation)
    if source.kind == "memory":
        place = translation.place(source, size)
        return pushing(translation, size, lambda memory: memory.read(place(), size))
    data = translation.raw(source, size)
    return pushing(translation, size, lambda memory: data())


def _pushf(translation: Translation) -> Run:
    size, eflags = stack_size(translation), translation.eflags()
    shown = mask(size) & ~(flags.RF | flags.VM)
    return pushing(translation, size, lambda memory: (eflags() & shown).to_bytes(size, "little"))


def popping(translation: Translation, size: int, put: Put, pointer: Get | None = None) -> Run:
    """Gives `put` what lies on the stack, or at another `pointer`; the stack pointer goes behind it."""
    own, set_pointer, ones = stack_pointer(translation)
    top = pointer or own
    linear = translation.linear(layout.SS, size)

    def pop(memory: Memory) -> bool:
        stack = top()
        data = memory.read(linear(stack), size)
        set_pointer(stack + size & ones)
        put(int.from_bytes(data, "little"))
        return False

    return pop


def _pop(translation: Translation) -> Run:
    target, size = translation.operands[0], stack_size(translation)
    if target.kind != "memory":
        return popping(translation, size, translation.put(target))
    pointer, set_pointer, ones = stack_pointer(translation)
    linear = translation.linear(layout.SS, size)
    place = translation.place(_above(target, size), size, write=True)

    def pop_to_memory(memory: Memory) -> bool:
        stack = pointer()
        data = memory.read(linear(stack), size)
        memory.write(place(), data)
        set_pointer(stack + size & ones)
        return False

    return pop_to_memory


def _above(target: Operand, size: int) -> Operand:
    """An address by the stack pointer counts from where that is after the pop."""
    if target.base != layout.RSP:
        return target
    return target._replace(displacement=target.displacement + size)


STACK: Final[dict[str, Translate]] = {
    "push": _push,
    "pop": _pop,
    "pushf": _pushf,
    "pushfd": _pushf,
    "pushfq": _pushf,
}
