"""Bit tests (BT, BTS, BTR, BTC), whose bit number in a register reaches beyond the operand."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import flags
from pvemu.hypervisor.emulate.memory import Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Get, Run, Translation, mask


def _place(translation: Translation, *, write: bool) -> Get:
    """Where the operand lies that has the bit: whole operands before or behind the one that is named."""
    target, number = translation.operands
    size = target.size
    if number.kind == "immediate":
        return translation.place(target, size, write=write)
    bits, width = 8 * size, mask(translation.instruction.address_size)
    offset, value = translation.offset(target), translation.value(number, size)
    linear, sign = translation.linear(target.segment, size, write=write), 1 << bits - 1
    return lambda: linear(offset() + ((value() ^ sign) - sign) // bits * size & width)


def _test(translation: Translation) -> Run:
    target, number = translation.operands
    size, last = target.size, 8 * target.size - 1
    place, value = _place(translation, write=False), translation.value(number, size)
    set_carry = translation.set_flag(flags.CF)

    def test(memory: Memory) -> bool:
        old = int.from_bytes(memory.read(place(), size), "little")
        set_carry(old >> (value() & last) & 1)
        return False

    return test


def _change(change: Callable[[int, int], int]) -> Translate:
    def translate(translation: Translation) -> Run:
        target, number = translation.operands
        size, last = target.size, 8 * target.size - 1
        place, value = _place(translation, write=True), translation.value(number, size)
        set_carry = translation.set_flag(flags.CF)

        def run(memory: Memory) -> bool:
            at, bit = place(), 1 << (value() & last)
            raw = memory.read_for_write(at, size)
            old = int.from_bytes(raw, "little")
            memory.replace(at, raw, change(old, bit).to_bytes(size, "little"))
            set_carry(old & bit)
            return False

        return run

    return translate


BITS: Final[dict[str, Translate]] = {
    "bt": _test,
    "bts": _change(lambda old, bit: old | bit),
    "btr": _change(lambda old, bit: old & ~bit),
    "btc": _change(lambda old, bit: old ^ bit),
}
