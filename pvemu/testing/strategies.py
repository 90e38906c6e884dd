"""Strategies of Hypothesis for hypercalls: the choices that the grammar of steps wants are its draws.

What can be chosen is in grammar.py, which is made from the table of hypercalls and the structures of the ABI.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from pvemu.abi.hypercalls import BY_NAME
from pvemu.testing import grammar, message_grammar
from pvemu.testing.grammar import FAMILIES, Quality
from pvemu.testing.program import Step
from pvemu.testing.values import Value

__all__ = ["FAMILIES", "Quality", "chosen", "messages", "steps", "values"]

Made = TypeVar("Made")


@cache
def _below(size: int) -> SearchStrategy[int]:
    return st.integers(0, size - 1)


class _Draws:
    """Hypothesis makes the choices."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def index(self, size: int) -> int:
        """What is drawn; of one thing, that one."""
        return 0 if size == 1 else self._draw(_below(size))


@st.composite
def _chosen(draw: DrawFn, make: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return make(_Draws(draw), *arguments, **named)


def chosen(make: Callable[..., Made], *arguments: Any, **named: Any) -> SearchStrategy[Made]:
    """What a function of the grammar makes, whose first argument makes its choices."""
    made: SearchStrategy[Made] = _chosen(make, arguments, named)
    return made


def values(meaning: str, quality: Quality = "mixed") -> SearchStrategy[Value]:
    """Values of one meaning ("port", "frame", "pointer" ...; `meanings.meanings` lists them)."""
    return chosen(grammar.value, meaning, quality)


@cache
def steps(
    name: str, *, domain: int = 0, quality: Quality = "mixed", endings: bool = False
) -> SearchStrategy[Step]:
    """Steps that make one hypercall of the table.

    Args:
        name: the hypercall's.
        domain: who makes it, counted from 0.
        endings: also those commands after which the guest does not go on by itself (block, shutdown).
    """
    return chosen(grammar.step, BY_NAME[name], domain, quality, endings=endings)


@cache
def messages(*, domain: int = 0, quality: Quality = "mixed") -> SearchStrategy[Step]:
    """Steps that say something to xenstored: every type, transactions, watches, and what breaks quotas."""
    return chosen(message_grammar.message, domain, quality)
