"""Shifts and rotations of a value in memory: results and flags (Intel SDM volume 2, SAL to SHRD).

RCL and RCR are missing: when their store faults, the engine has put the new carry in place of the old.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.cpu import flags

#: The processor looks at five bits of a count.
COUNT_MASK: Final = 31


class Shifted(NamedTuple):
    """A result with its carry and overflow; the latter has a meaning for a count of 1 only."""

    result: int
    carry: int
    overflow: int


#: (old value, count of at least 1, bits of the operand, for SHLD and SHRD the other operand)
Shift = Callable[[int, int, int, int], Shifted]


def _shl(old: int, count: int, bits: int, _other: int) -> Shifted:
    wide = old << count
    carry = wide >> bits & 1
    return Shifted(wide, carry, carry ^ wide >> bits - 1 & 1)


def _shr(old: int, count: int, bits: int, _other: int) -> Shifted:
    return Shifted(old >> count, old >> count - 1 & 1, old >> bits - 1)


def _sar(old: int, count: int, bits: int, _other: int) -> Shifted:
    signed = old - (old >> bits - 1 << bits)
    return Shifted(signed >> count, signed >> count - 1 & 1, 0)


def _rol(old: int, count: int, bits: int, _other: int) -> Shifted:
    count %= bits
    result = old << count | old >> bits - count
    return Shifted(result, result & 1, (result ^ result >> bits - 1) & 1)


def _ror(old: int, count: int, bits: int, _other: int) -> Shifted:
    count %= bits
    result = old >> count | old << bits - count
    return Shifted(result, result >> bits - 1 & 1, (result >> bits - 1 ^ result >> bits - 2) & 1)


def _shld(old: int, count: int, bits: int, other: int) -> Shifted:
    result = (old << bits | other) << count >> bits
    return Shifted(result, result >> bits & 1, (result ^ old) >> bits - 1 & 1)


def _shrd(old: int, count: int, bits: int, other: int) -> Shifted:
    result = (other << bits | old) >> count
    return Shifted(result, old >> count - 1 & 1, (result ^ old) >> bits - 1 & 1)


SHIFTS: Final[dict[str, Shift]] = {"shl": _shl, "sal": _shl, "shr": _shr, "sar": _sar}
ROTATIONS: Final[dict[str, Shift]] = {"rol": _rol, "ror": _ror}
DOUBLE_SHIFTS: Final[dict[str, Shift]] = {"shld": _shld, "shrd": _shrd}


def flags_after(mnemonic: str, shifted: Shifted, size: int, eflags: int) -> int:
    """EFLAGS after a shift of an operand of `size` bytes; rotations change CF and OF alone."""
    new = (flags.CF if shifted.carry else 0) | (flags.OF if shifted.overflow else 0)
    if mnemonic in ROTATIONS:
        return eflags & ~(flags.CF | flags.OF) | new
    return eflags & ~flags.ARITHMETIC | new | flags.result_flags(shifted.result, size)
