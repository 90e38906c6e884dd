"""Strategies of Hypothesis for whole programs of hypercalls."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pvemu.testing.memory_steps import memory_steps
from pvemu.testing.program import Program
from pvemu.testing.strategies import FAMILIES, Quality, steps


def programs(
    families: Sequence[str] = FAMILIES,
    *,
    domains: int = 2,
    quality: Quality = "mixed",
    most_steps: int = 30,
    endings: bool = False,
) -> SearchStrategy[Program]:
    """Programs of several domains, whose steps are taken one after the other.

    Args:
        families: the hypercalls that are made; between them domains grant pages and mask ports.
        endings: also commands after which a guest does not go on by itself.
    """
    everybody = range(domains)
    each = [
        steps(name, domain=domain, quality=quality, endings=endings)
        for name in families
        for domain in everybody
    ]
    each += [memory_steps(domain=domain, quality=quality) for domain in everybody]
    return st.lists(st.one_of(each), min_size=1, max_size=most_steps).map(
        lambda found: Program(domains, tuple(found))
    )
