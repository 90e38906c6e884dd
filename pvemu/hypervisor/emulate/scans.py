"""Instructions that count or find bits of an operand in memory: BSF, BSR, TZCNT, LZCNT, POPCNT."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import flags
from pvemu.hypervisor.emulate.memory import Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Run, Translation


def _lowest(value: int) -> int:
    return (value & -value).bit_length() - 1


def _find(place: Callable[[int], int]) -> Translate:
    """BSF and BSR: of nothing the register keeps what it has; the flags are those of the operand."""

    def translate(translation: Translation) -> Run:
        window, (target, source) = translation.window, translation.operands
        size = target.size
        load, put, old = (
            translation.load(source, size),
            translation.put(target),
            translation.value(target, size),
        )

        def find(memory: Memory) -> bool:
            value = load(memory)
            put(place(value) if value else old())
            flags.set_lazy(window, flags.LOGIC, size, value, 0)
            return False

        return find

    return translate


def _count(number: Callable[[int, int], int], *, carry: bool) -> Translate:
    """Counts of bits: ZF says that there are none, or with `carry` CF says it, and ZF that the count is 0."""

    def translate(translation: Translation) -> Run:
        window, (target, source) = translation.window, translation.operands
        size, eflags = target.size, translation.eflags()
        load, put = translation.load(source, size), translation.put(target)

        def count(memory: Memory) -> bool:
            value = load(memory)
            result = number(value, 8 * size)
            put(result)
            new = 0 if result else flags.ZF
            if carry and not value:
                new |= flags.CF
            flags.write_eflags(window, eflags() & ~flags.ARITHMETIC | new)
            return False

        return count

    return translate


SCANS: Final[dict[str, Translate]] = {
    "bsf": _find(_lowest),
    "bsr": _find(lambda value: value.bit_length() - 1),
    "tzcnt": _count(lambda value, bits: _lowest(value) if value else bits, carry=True),
    "lzcnt": _count(lambda value, bits: bits - value.bit_length(), carry=True),
    "popcnt": _count(lambda value, bits: value.bit_count(), carry=False),
}
