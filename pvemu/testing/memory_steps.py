"""Strategies for steps without a hypercall: what a domain says in memory that it shares with Xen."""

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pvemu.testing import grammar
from pvemu.testing.grammar import Quality
from pvemu.testing.program import Step
from pvemu.testing.strategies import chosen


@cache
def memory_steps(*, domain: int = 0, quality: Quality = "mixed") -> SearchStrategy[Step]:
    """Granting a page, masking event ports, and taking note of all events."""
    return st.one_of(
        grants(domain=domain, quality=quality), masks(domain=domain), st.just(takes_events(domain))
    )


def grants(*, domain: int = 0, quality: Quality = "mixed") -> SearchStrategy[Step]:
    """An entry of version 1 written into the domain's grant table."""
    return chosen(grammar.grant, domain, quality)


def masks(*, domain: int = 0) -> SearchStrategy[Step]:
    """Some of the first ports masked, as a driver does that is busy."""
    return chosen(grammar.mask, domain)


def takes_events(domain: int = 0) -> Step:
    """All pending events of the first word noticed, as a kernel's upcall handler does."""
    return grammar.take_events(domain)
