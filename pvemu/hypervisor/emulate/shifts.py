"""Shifts and rotations of a value in memory: results and flags (Intel SDM volume 2, SAL to SHRD).

Flags that the manual leaves undefined are as the engine leaves them, whose lazy form of a shift is the
result and what there was one step before it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.cpu import flags
from pvemu.hypervisor.emulate.memory import Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Get, Run, Translation, mask

_HOST_BITS: Final = 64


class _Shifted(NamedTuple):
    """A result, and the value one step before it."""

    result: int
    before: int


#: (old value, count of at least 1, bits of the operand, for SHLD and SHRD the other operand)
_Shift = Callable[[int, int, int, int], _Shifted]


def _shl(old: int, count: int, _bits: int, _other: int) -> _Shifted:
    return _Shifted(old << count, old << count - 1)


def _shr(old: int, count: int, _bits: int, _other: int) -> _Shifted:
    return _Shifted(old >> count, old >> count - 1)


def _sar(old: int, count: int, bits: int, _other: int) -> _Shifted:
    signed = old - (old >> bits - 1 << bits)
    return _Shifted(signed >> count, signed >> count - 1)


def _shld(old: int, count: int, bits: int, other: int) -> _Shifted:
    # A count beyond 16 bits shifts the old value in behind the other one, as Intel's processors do.
    wide, below = (old << bits | other) << bits | old, 2 * bits
    return _Shifted(wide << count >> below, wide << count - 1 >> below)


def _shrd(old: int, count: int, bits: int, other: int) -> _Shifted:
    wide = (old << bits | other) << bits | old
    # Where two operands make no word of the host's, the engine looks at the first alone.
    return _Shifted(wide >> count, (old if bits == _HOST_BITS else wide) >> count - 1)


class _Rotated(NamedTuple):
    """A result with its carry and overflow."""

    result: int
    carry: int
    overflow: int


#: (old value, count of at least 1, bits of the operand, old carry)
_Rotation = Callable[[int, int, int, int], _Rotated]


def _rol(old: int, count: int, bits: int, _carry: int) -> _Rotated:
    count %= bits
    result = old << count | old >> bits - count
    return _Rotated(result, result & 1, (result ^ result >> bits - 1) & 1)


def _ror(old: int, count: int, bits: int, _carry: int) -> _Rotated:
    count %= bits
    result = old >> count | old << bits - count
    return _Rotated(result, result >> bits - 1 & 1, (result >> bits - 1 ^ result >> bits - 2) & 1)


def _rcl(old: int, count: int, bits: int, carry: int) -> _Rotated:
    wide = carry << bits | old
    count %= bits + 1
    result = wide << count | wide >> bits + 1 - count
    return _Rotated(result, result >> bits & 1, (result ^ old) >> bits - 1 & 1)


def _rcr(old: int, count: int, bits: int, carry: int) -> _Rotated:
    wide = carry << bits | old
    count %= bits + 1
    result = wide >> count | wide << bits + 1 - count
    return _Rotated(result, result >> bits & 1, (result ^ old) >> bits - 1 & 1)


def _count(translation: Translation) -> Get:
    """The count as the processor masks it: to six bits for an operand of 64, else to five."""
    value = translation.value(translation.operands[-1], 1)
    bits = 63 if translation.operands[0].size == 8 else 31
    return lambda: value() & bits


def _shift(kind: int, shift: _Shift) -> Translate:
    def translate(translation: Translation) -> Run:
        window, target, *others, _ = translation.window, *translation.operands
        size, ones, bits = target.size, mask(target.size), 8 * target.size
        place, count = translation.place(target, size, write=True), _count(translation)
        other = translation.value(others[0], size) if others else None

        def run(memory: Memory) -> bool:
            at, times = place(), count()
            raw = memory.read_for_write(at, size)
            if not times:
                memory.replace(at, raw, raw)
                return False
            old = int.from_bytes(raw, "little")
            result, before = shift(old, times, bits, other() if other is not None else 0)
            memory.replace(at, raw, (result & ones).to_bytes(size, "little"))
            flags.set_lazy(window, kind, size, result & ones, before & ones)
            return False

        return run

    return translate


def _rotate(rotation: _Rotation, *, through_carry: bool) -> Translate:
    """Rotations change CF and OF alone; those through the carry nothing when they come full circle."""

    def translate(translation: Translation) -> Run:
        window, target = translation.window, translation.operands[0]
        size, ones, bits = target.size, mask(target.size), 8 * target.size
        place, count, eflags = (
            translation.place(target, size, write=True),
            _count(translation),
            translation.eflags(),
        )

        def run(memory: Memory) -> bool:
            at, times, before = place(), count(), eflags()
            raw = memory.read_for_write(at, size)
            if not (times % (bits + 1) if through_carry else times):
                memory.replace(at, raw, raw)
                return False
            result, carry, overflow = rotation(int.from_bytes(raw, "little"), times, bits, before & flags.CF)
            memory.replace(at, raw, (result & ones).to_bytes(size, "little"))
            new = (flags.CF if carry else 0) | (flags.OF if overflow else 0)
            flags.write_eflags(window, before & ~(flags.CF | flags.OF) | new)
            return False

        return run

    return translate


SHIFTS: Final[dict[str, Translate]] = {
    "shl": _shift(flags.SHL, _shl),
    "sal": _shift(flags.SHL, _shl),
    "shr": _shift(flags.SAR, _shr),
    "sar": _shift(flags.SAR, _sar),
    "shld": _shift(flags.SHL, _shld),
    "shrd": _shift(flags.SAR, _shrd),
    "rol": _rotate(_rol, through_carry=False),
    "ror": _rotate(_ror, through_carry=False),
    "rcl": _rotate(_rcl, through_carry=True),
    "rcr": _rotate(_rcr, through_carry=True),
}
