"""Numbers as C's atoi and strtol read them, which is how xenstored reads the decimal fields of a request."""

import re
from typing import Final

_DECIMAL: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_ANY_BASE: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_LONG_MAX: Final = (1 << 63) - 1
_U32: Final = 0xFFFFFFFF


def atoi(text: bytes) -> int:
    """The number that a string begins with, as an unsigned 32-bit number; 0 where it begins with none."""
    match = _DECIMAL.match(text)
    return _clamp(match[1], 10) & _U32 if match else 0


def strtoul(text: bytes) -> int | None:
    """The number that a string is, decimal, octal or hexadecimal, as an unsigned 32-bit number; else None."""
    match = _ANY_BASE.fullmatch(text)
    if match is None:
        return None
    digits = match[2]
    base = 16 if digits[:2] in (b"0x", b"0X") else 8 if digits[:1] == b"0" else 10
    return _clamp(match[1] + digits, base) & _U32


def signed(number: int) -> int:
    """An unsigned 32-bit number as printf's %i prints it."""
    return number - (1 << 32) if number >> 31 else number


def _clamp(digits: bytes, base: int) -> int:
    # Python refuses decimal strings of thousands of digits; so many are out of range anyway.
    if len(digits) > 64:
        return -_LONG_MAX - 1 if digits[:1] == b"-" else _LONG_MAX
    return max(-_LONG_MAX - 1, min(int(digits, base), _LONG_MAX))
