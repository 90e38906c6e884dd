"""String instructions, one iteration at a time: MOVS, STOS, LODS, CMPS, SCAS and their repetition."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import flags, layout
from pvemu.cpu.decode import Operand
from pvemu.hypervisor.emulate.memory import Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Get, Run, Translation, mask, register, set_register

_DF: Final = layout.DF // 4
_FORWARD: Final = 1
_LETTERS: Final = {1: "b", 2: "w", 4: "d", 8: "q"}

#: Moves on all index registers by one element.
_Advance = Callable[[], None]


def _source(translation: Translation) -> Operand:
    """The operand at [rSI]: the one that is not in memory by rDI."""
    return next(
        operand for operand in translation.operands if operand.kind == "memory" and operand.base == layout.RSI
    )


def _source_place(translation: Translation) -> Get:
    operand = _source(translation)
    return translation.place(operand, operand.size)


def _target_place(translation: Translation, *, write: bool) -> Get:
    """[ES:rDI], whatever segment a prefix names."""
    size = translation.instruction.address_size
    element = translation.operands[0].size
    offset = register(translation.window, layout.RDI, size)
    linear = translation.linear(layout.ES, element, write=write)
    return lambda: linear(offset())


def _advance(translation: Translation, *numbers: int) -> _Advance:
    u32, width = translation.window.u32, translation.instruction.address_size
    element, ones = translation.operands[0].size, mask(width)
    indexes = [
        (register(translation.window, number, width), set_register(translation.window, number, width))
        for number in numbers
    ]

    def advance() -> None:
        step = element if u32[_DF] == _FORWARD else -element
        for get, put in indexes:
            put(get() + step & ones)

    return advance


def _repeated(translation: Translation, once: Callable[[Memory], None], goes_on: Callable[[], bool]) -> Run:
    """With a repeat prefix: counts rCX down, and says whether there is more to do."""
    if not translation.instruction.repeat:

        def single(memory: Memory) -> bool:
            once(memory)
            return False

        return single
    width = translation.instruction.address_size
    count = register(translation.window, layout.RCX, width)
    put = set_register(translation.window, layout.RCX, width)

    def repeated(memory: Memory) -> bool:
        left = count()
        if not left:
            return False
        once(memory)
        put(left - 1)
        return left > 1 and goes_on()

    return repeated


def _always() -> bool:
    return True


def _while_equal(translation: Translation) -> Callable[[], bool]:
    """REPE goes on while the elements were equal, REPNE while they were not."""
    eflags, wanted = translation.eflags(), flags.ZF if translation.instruction.repeat == "rep" else 0
    return lambda: eflags() & flags.ZF == wanted


def _movs(translation: Translation) -> Run:
    size, source = translation.operands[0].size, _source_place(translation)
    target = _target_place(translation, write=True)
    advance = _advance(translation, layout.RSI, layout.RDI)

    def once(memory: Memory) -> None:
        data = memory.read(source(), size)
        memory.write(target(), data)
        advance()

    return _repeated(translation, once, _always)


def _stos(translation: Translation) -> Run:
    size = translation.operands[0].size
    data = translation.raw(Operand("general", size, layout.RAX), size)
    target, advance = _target_place(translation, write=True), _advance(translation, layout.RDI)

    def once(memory: Memory) -> None:
        memory.write(target(), data())
        advance()

    return _repeated(translation, once, _always)


def _lods(translation: Translation) -> Run:
    size, source = translation.operands[0].size, _source_place(translation)
    put, advance = set_register(translation.window, layout.RAX, size), _advance(translation, layout.RSI)

    def once(memory: Memory) -> None:
        put(int.from_bytes(memory.read(source(), size), "little"))
        advance()

    return _repeated(translation, once, _always)


def _cmps(translation: Translation) -> Run:
    window, size = translation.window, translation.operands[0].size
    source, target = _source_place(translation), _target_place(translation, write=False)
    advance, ones = _advance(translation, layout.RSI, layout.RDI), mask(size)

    def once(memory: Memory) -> None:
        first = int.from_bytes(memory.read(source(), size), "little")
        second = int.from_bytes(memory.read(target(), size), "little")
        advance()
        flags.set_lazy(window, flags.SUB, size, first - second & ones, second)

    return _repeated(translation, once, _while_equal(translation))


def _scas(translation: Translation) -> Run:
    window, size = translation.window, translation.operands[0].size
    target, advance = _target_place(translation, write=False), _advance(translation, layout.RDI)
    accumulator, ones = register(window, layout.RAX, size), mask(size)

    def once(memory: Memory) -> None:
        second = int.from_bytes(memory.read(target(), size), "little")
        advance()
        flags.set_lazy(window, flags.SUB, size, accumulator() - second & ones, second)

    return _repeated(translation, once, _while_equal(translation))


_KINDS: Final[dict[str, Translate]] = {
    "movs": _movs,
    "stos": _stos,
    "lods": _lods,
    "cmps": _cmps,
    "scas": _scas,
}
STRINGS: Final[dict[str, Translate]] = {
    f"{name}{letter}": translate for name, translate in _KINDS.items() for letter in _LETTERS.values()
}
