"""Instructions that move: MOV in all its forms, extensions, conditional moves, XCHG."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu.conditions import CONDITIONS, Condition
from pvemu.hypervisor.emulate.memory import Memory
from pvemu.hypervisor.emulate.translation import Run, Translation, mask

#: Makes the closure of an instruction; raises Unemulated for a form that is not known.
Translate = Callable[[Translation], Run]


def _mov(translation: Translation) -> Run:
    target, source = translation.operands
    size = target.size
    if target.kind == "memory":
        place, data = translation.place(target, size, write=True), translation.raw(source, size)

        def store(memory: Memory) -> bool:
            memory.write(place(), data())
            return False

        return store
    put, load = translation.put(target), translation.load(source, size)

    def move(memory: Memory) -> bool:
        put(load(memory))
        return False

    return move


def _extend(*, signed: bool) -> Translate:
    def translate(translation: Translation) -> Run:
        target, source = translation.operands
        # MOVSXD with an operand-size prefix moves as many bytes as its register has.
        size = min(source.size, target.size)
        put, load, ones = translation.put(target), translation.load(source, size), mask(target.size)
        sign = 1 << 8 * size - 1 if signed else 0

        def extend(memory: Memory) -> bool:
            put((load(memory) ^ sign) - sign & ones)
            return False

        return extend

    return translate


def _movbe(translation: Translation) -> Run:
    target, source = translation.operands
    size = translation.instruction.operand_size  # the disassembler's are wrong in 16-bit code
    if target.kind == "memory":
        place, data = translation.place(target, size, write=True), translation.raw(source, size)

        def store(memory: Memory) -> bool:
            memory.write(place(), data()[::-1])
            return False

        return store
    put, place = translation.put(target._replace(size=size)), translation.place(source, size)

    def load(memory: Memory) -> bool:
        put(int.from_bytes(memory.read(place(), size), "big"))
        return False

    return load


def _xchg(translation: Translation) -> Run:
    first, second = translation.operands
    memory_operand, register = (first, second) if first.kind == "memory" else (second, first)
    size = memory_operand.size
    place = translation.place(memory_operand, size, write=True)
    put, data = translation.put(register), translation.raw(register, size)

    def exchange(memory: Memory) -> bool:
        at = place()
        old = memory.read_for_write(at, size)
        memory.write(at, data())
        put(int.from_bytes(old, "little"))
        return False

    return exchange


def _set(holds: Condition) -> Translate:
    def translate(translation: Translation) -> Run:
        place, eflags = translation.place(translation.operands[0], 1, write=True), translation.eflags()

        def store(memory: Memory) -> bool:
            memory.write(place(), b"\1" if holds(eflags()) else b"\0")
            return False

        return store

    return translate


def _conditional(holds: Condition) -> Translate:
    """CMOVcc: the load happens in any case, and so does the clearing of the upper half of a register."""

    def translate(translation: Translation) -> Run:
        target, source = translation.operands
        put, old = translation.put(target), translation.value(target, target.size)
        load, eflags = translation.load(source, source.size), translation.eflags()

        def move(memory: Memory) -> bool:
            value = load(memory)
            put(value if holds(eflags()) else old())
            return False

        return move

    return translate


MOVES: Final[dict[str, Translate]] = {
    "mov": _mov,
    "movabs": _mov,
    "movnti": _mov,
    "movzx": _extend(signed=False),
    "movsx": _extend(signed=True),
    "movsxd": _extend(signed=True),
    "movbe": _movbe,
    "xchg": _xchg,
    **{f"set{name}": _set(holds) for name, holds in CONDITIONS.items()},
    **{f"cmov{name}": _conditional(holds) for name, holds in CONDITIONS.items()},
}
