"""The conditions that Jcc, SETcc and CMOVcc ask of EFLAGS (Intel SDM volume 1, appendix B)."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu.flags import CF, OF, PF, SF, ZF

#: Whether a condition holds in EFLAGS.
Condition = Callable[[int], bool]


def _any_of(mask: int) -> Condition:
    return lambda eflags: bool(eflags & mask)


def _less(eflags: int) -> bool:
    return bool(eflags & SF) != bool(eflags & OF)


def _less_or_equal(eflags: int) -> bool:
    return bool(eflags & ZF) or _less(eflags)


#: Name of a condition, name of its opposite, the condition.
_PAIRS: Final[tuple[tuple[str, str, Condition], ...]] = (
    ("o", "no", _any_of(OF)),
    ("b", "ae", _any_of(CF)),
    ("e", "ne", _any_of(ZF)),
    ("be", "a", _any_of(CF | ZF)),
    ("s", "ns", _any_of(SF)),
    ("p", "np", _any_of(PF)),
    ("l", "ge", _less),
    ("le", "g", _less_or_equal),
)


def _opposite(holds: Condition) -> Condition:
    return lambda eflags: not holds(eflags)


#: What each condition asks of EFLAGS, by the suffix that disassemblers print.
CONDITIONS: Final[dict[str, Condition]] = {
    **{name: holds for name, _, holds in _PAIRS},
    **{name: _opposite(holds) for _, name, holds in _PAIRS},
}
