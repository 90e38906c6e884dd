"""EFLAGS from and to the engine's lazy form.

The engine does not compute the arithmetic flags of an instruction until something reads them. It keeps
the last result (`CC_DST`), operands (`CC_SRC`, `CC_SRC2`) and what kind of operation it was (`CC_OP`).
"""

import struct
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
_PARITY: Final = tuple(PF if value.bit_count() % 2 == 0 else 0 for value in range(256))

#: Computes CF PF AF ZF SF OF from (CC_DST, CC_SRC, CC_SRC2).
_Rule = Callable[[int, int, int], int]


# Each rule is written out, without a function for what they share: a call costs as much as the rule.


def _mul(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst &= mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        # CC_SRC is the upper half of the product where it stands, above the operand's bits.
        return common | (CF | OF if src else 0)

    return rule


def _add(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst, src = dst & mask, src & mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        other = dst - src & mask
        overflow = OF if ~(src ^ other) & (src ^ dst) & sign else 0
        return common | overflow | (dst ^ src ^ other) & AF | (dst < src)

    return rule


def _adc(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, carry: int) -> int:
        dst, src = dst & mask, src & mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        other = dst - src - carry & mask
        overflow = OF if ~(src ^ other) & (src ^ dst) & sign else 0
        return common | overflow | (dst ^ src ^ other) & AF | (dst <= src if carry else dst < src)

    return rule


def _sub(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst, src = dst & mask, src & mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        first = dst + src & mask
        overflow = OF if (first ^ src) & (first ^ dst) & sign else 0
        return common | overflow | (dst ^ first ^ src) & AF | (first < src)

    return rule


def _sbb(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, borrow: int) -> int:
        dst, src = dst & mask, src & mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        first = dst + src + borrow & mask
        overflow = OF if (first ^ src) & (first ^ dst) & sign else 0
        return common | overflow | (dst ^ first ^ src) & AF | (first <= src if borrow else first < src)

    return rule


def _logic(mask: int, sign: int) -> _Rule:
    def rule(dst: int, _src: int, _src2: int) -> int:
        dst &= mask
        return _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)

    return rule


def _inc(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst &= mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        return common | src & CF | (0 if dst & 0xF else AF) | (OF if dst == sign else 0)

    return rule


def _dec(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst &= mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        return common | src & CF | (AF if dst & 0xF == 0xF else 0) | (OF if dst == sign - 1 else 0)

    return rule


def _shl(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst &= mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        return common | (CF if src & sign else 0) | (OF if (src ^ dst) & sign else 0)

    return rule


def _sar(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst &= mask
        common = _PARITY[dst & 0xFF] | (0 if dst else ZF) | (SF if dst & sign else 0)
        return common | src & CF | (OF if (src ^ dst) & sign else 0)

    return rule


def _bmi(mask: int, sign: int) -> _Rule:
    def rule(dst: int, src: int, _src2: int) -> int:
        dst &= mask
        return (0 if dst else ZF) | (SF if dst & sign else 0) | (0 if src & mask else CF)

    return rule


def _unused(dst: int, src: int, src2: int) -> int:
    """CC_OP_DYNAMIC is never left behind in the state."""
    return src & ARITHMETIC


#: Values 2 and up of CC_OP come in fours: operand sizes of 8, 16, 32 and 64 bits.
_FIRST_SIZED: Final = 2
_SIZED: Final = (_mul, _add, _adc, _sub, _sbb, _logic, _inc, _dec, _shl, _sar, _bmi)
#: Their numbers, for `set_lazy`.
MUL, ADD, ADC, SUB, SBB, LOGIC, INC, DEC, SHL, SAR = range(10)

#: The rule of each value of CC_OP.
_RULES: Final[tuple[_Rule, ...]] = (
    _unused,
    lambda dst, src, src2: src & ARITHMETIC,  # the flags themselves
    *(rule((1 << bits) - 1, 1 << bits - 1) for rule in _SIZED for bits in (8, 16, 32, 64)),
    lambda dst, src, src2: (src & ~CF | dst * CF) & ARITHMETIC,  # adcx
    lambda dst, src, src2: (src & ~OF | src2 * OF) & ARITHMETIC,  # adox
    lambda dst, src, src2: (src & ~(CF | OF) | dst * CF | src2 * OF) & ARITHMETIC,  # both
    lambda dst, src, src2: ZF | PF,  # cleared by xor
    lambda dst, src, src2: 0 if src else ZF,  # popcnt
)

#: EFLAGS, CC_DST, CC_SRC, CC_SRC2, CC_OP and DF lie together in the state.
_LAZY: Final = struct.Struct("<QQQQIi")
_KEPT: Final = ~(ARITHMETIC | DF) & 0xFFFFFFFF


def set_lazy(window: StateWindow, kind: int, size: int, dst: int, src: int, src2: int = 0) -> None:
    """Leave the arithmetic flags of an operation (ADD to SAR) on operands of `size` bytes in lazy form."""
    u64 = window.u64
    window.u32[_OP] = _FIRST_SIZED + 4 * kind + size.bit_length() - 1
    u64[_DST], u64[_SRC], u64[_SRC2] = dst, src, src2


def read_eflags(window: StateWindow) -> int:
    """EFLAGS as `pushf` in ring 0 would store it."""
    return eflags_of(window.u8)


def eflags_of(state: bytes | memoryview) -> int:
    """The same of a state that was saved."""
    rest, dst, src, src2, operation, direction = _LAZY.unpack_from(state, layout.EFLAGS)
    flags: int = _RULES[operation](dst, src, src2) | rest & _KEPT | FIXED
    return flags | DF if direction < 0 else flags


def make_read_eflags(window: StateWindow) -> Callable[[], int]:
    """`read_eflags` for one window, written out again because every exception frame needs it."""
    state, unpack, rules = window.u8, _LAZY.unpack_from, _RULES

    def read() -> int:
        rest, dst, src, src2, operation, direction = unpack(state, layout.EFLAGS)
        flags: int = rules[operation](dst, src, src2) | rest & _KEPT | FIXED
        return flags | DF if direction < 0 else flags

    return read


def store_whole(window: StateWindow) -> None:
    """Before the engine is started: it takes all flags from EFLAGS then, and makes the lazy form anew."""
    window.u64[_REST] = read_eflags(window)


def write_eflags(window: StateWindow, value: int) -> None:
    """Set EFLAGS whole, as ring 0 could."""
    u64, u32 = window.u64, window.u32
    u64[_SRC] = value & ARITHMETIC
    u32[_OP] = layout.CC_OP_EFLAGS
    u32[_DF] = 0xFFFFFFFF if value & DF else 1
    u64[_REST] = value & ~(ARITHMETIC | DF) | FIXED
