"""EFLAGS from and to the engine's lazy form.

The engine does not compute the arithmetic flags of an instruction until something reads them. It keeps
the last result (`CC_DST`), operands (`CC_SRC`, `CC_SRC2`) and what kind of operation it was (`CC_OP`).
"""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import layout
from pvemu.cpu.state_window import StateWindow

CF, PF, AF, ZF, SF, TF, IF, DF, OF = (1 << bit for bit in (0, 2, 4, 6, 7, 8, 9, 10, 11))
IOPL: Final = 3 << 12
NT, RF, VM, AC, VIF, VIP, ID = (1 << bit for bit in (14, 16, 17, 18, 19, 20, 21))
FIXED: Final = 2  #: bit 1 always reads as one
ARITHMETIC: Final = CF | PF | AF | ZF | SF | OF

_DST, _SRC, _SRC2 = layout.CC_DST // 8, layout.CC_SRC // 8, layout.CC_SRC2 // 8
_OP, _DF, _REST = layout.CC_OP // 4, layout.DF // 4, layout.EFLAGS // 8
_EVEN_PARITY: Final = tuple(PF if value.bit_count() % 2 == 0 else 0 for value in range(256))

# A rule computes CF, AF and OF from (result, first source, second source, bits of the operand).
_Rule = Callable[[int, int, int, int], int]


def _sign(value: int, bits: int) -> int:
    return value >> (bits - 1) & 1


def _overflow(value: int, bits: int) -> int:
    return OF if _sign(value, bits) else 0


def _mul(_dst: int, src: int, _src2: int, _bits: int) -> int:
    return (CF | OF) if src else 0


def _adc(dst: int, src: int, carry: int, bits: int) -> int:
    other = (dst - src - carry) & ((1 << bits) - 1)
    carried = dst <= src if carry else dst < src
    return carried * CF | (dst ^ src ^ other) & AF | _overflow(~(src ^ other) & (src ^ dst), bits)


def _add(dst: int, src: int, _src2: int, bits: int) -> int:
    return _adc(dst, src, 0, bits)


def _sbb(dst: int, src: int, borrow: int, bits: int) -> int:
    first = (dst + src + borrow) & ((1 << bits) - 1)
    borrowed = first <= src if borrow else first < src
    return borrowed * CF | (dst ^ first ^ src) & AF | _overflow((first ^ src) & (first ^ dst), bits)


def _sub(dst: int, src: int, _src2: int, bits: int) -> int:
    return _sbb(dst, src, 0, bits)


def _logic(_dst: int, _src: int, _src2: int, _bits: int) -> int:
    return 0


def _inc(dst: int, src: int, _src2: int, bits: int) -> int:
    return src & CF | (dst ^ (dst - 1) ^ 1) & AF | (OF if dst == 1 << (bits - 1) else 0)


def _dec(dst: int, src: int, _src2: int, bits: int) -> int:
    return src & CF | (dst ^ (dst + 1) ^ 1) & AF | (OF if dst == (1 << (bits - 1)) - 1 else 0)


def _shl(dst: int, src: int, _src2: int, bits: int) -> int:
    return _sign(src, bits) * CF | _overflow(src ^ dst, bits)


def _sar(dst: int, src: int, _src2: int, bits: int) -> int:
    return src & CF | _overflow(src ^ dst, bits)


def _bmi(_dst: int, src: int, _src2: int, _bits: int) -> int:
    return 0 if src else CF


#: Values 2 and up of CC_OP come in fours: operand sizes of 8, 16, 32 and 64 bits.
_SIZED: Final[tuple[_Rule, ...]] = (_mul, _add, _adc, _sub, _sbb, _logic, _inc, _dec, _shl, _sar, _bmi)
_FIRST_SIZED: Final = 2
#: Their numbers, for `set_lazy`.
MUL, ADD, ADC, SUB, SBB, LOGIC, INC, DEC, SHL, SAR = range(10)
_FIRST_UNSIZED: Final = _FIRST_SIZED + 4 * len(_SIZED)

#: The rest: all six flags from (CC_DST, CC_SRC, CC_SRC2).
_UNSIZED: Final[tuple[Callable[[int, int, int], int], ...]] = (
    lambda dst, src, src2: src & ~CF | dst * CF,  # adcx
    lambda dst, src, src2: src & ~OF | src2 * OF,  # adox
    lambda dst, src, src2: src & ~(CF | OF) | dst * CF | src2 * OF,  # both
    lambda dst, src, src2: ZF | PF,  # cleared by xor
    lambda dst, src, src2: 0 if src else ZF,  # popcnt
)


def arithmetic_flags(operation: int, dst: int, src: int, src2: int) -> int:
    """CF PF AF ZF SF OF of the last operation, from the engine's four words."""
    if operation == layout.CC_OP_EFLAGS:
        return src & ARITHMETIC
    if operation >= _FIRST_UNSIZED:
        return _UNSIZED[operation - _FIRST_UNSIZED](dst, src, src2) & ARITHMETIC
    kind, size = divmod(operation - _FIRST_SIZED, 4)
    bits = 8 << size
    mask = (1 << bits) - 1
    dst &= mask
    result = _SIZED[kind](dst, src & mask, src2 & mask, bits)
    return result | _EVEN_PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if _sign(dst, bits) else 0)


def set_lazy(window: StateWindow, kind: int, size: int, dst: int, src: int, src2: int = 0) -> None:
    """Leave the arithmetic flags of an operation (ADD to SAR) on operands of `size` bytes in lazy form."""
    u64 = window.u64
    window.u32[_OP] = _FIRST_SIZED + 4 * kind + size.bit_length() - 1
    u64[_DST], u64[_SRC], u64[_SRC2] = dst, src, src2


def read_eflags(window: StateWindow) -> int:
    """EFLAGS as `pushf` in ring 0 would store it."""
    u64, u32 = window.u64, window.u32
    flags = arithmetic_flags(u32[_OP], u64[_DST], u64[_SRC], u64[_SRC2])
    return flags | u64[_REST] & ~(ARITHMETIC | DF) & 0xFFFFFFFF | FIXED | (DF if u32[_DF] > 1 else 0)


def write_eflags(window: StateWindow, value: int) -> None:
    """Set EFLAGS whole, as ring 0 could."""
    u64, u32 = window.u64, window.u32
    u64[_SRC] = value & ARITHMETIC
    u32[_OP] = layout.CC_OP_EFLAGS
    u32[_DF] = 0xFFFFFFFF if value & DF else 1
    u64[_REST] = value & ~(ARITHMETIC | DF) | FIXED
