"""Modelled cycles: what a cell would take on a processor of which others have published figures.

A cost profile is a file in profiles/. Each of its numbers names its source, and says whether somebody has
checked the number against that source.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks.counting import Counts
from benchmarks.routes import SETTINGS, Route
from pvemu.abi.errors import PvemuError

_PROFILES: Final = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Cost:
    """Cycles of one thing; `verified`: the number was checked against its source."""

    cycles: float
    source: str
    verified: bool


@dataclass(frozen=True)
class Profile:
    """A cost profile.

    Attributes:
        name: its file's name; title: which processor and hypervisor it is of.
        routes: those that it is about.
        instruction: of one guest instruction.
        exits: by reason, as `--exits` calls them; "hypercall" for all hypercalls without a row.
    """

    name: str
    title: str
    routes: frozenset[Route]
    instruction: Cost
    exits: dict[str, Cost]

    @property
    def is_verified(self) -> bool:
        """Whether every number was checked."""
        return all(cost.verified for cost in (self.instruction, *self.exits.values()))

    def cycles(self, route: Route, counts: Counts) -> float | None:
        """Modelled cycles of one operation; None where the profile lacks a number for it."""
        if route not in self.routes and not SETTINGS[route].is_bare:
            return None
        total = counts.instructions * self.instruction.cycles
        for reason, number in counts.reasons.items():
            cost = self.exits.get(reason) or self._general(reason)
            if cost is None:
                return None
            total += number * cost.cycles
        return total / counts.operations

    def _general(self, reason: str) -> Cost | None:
        """The cost of a whole family: "hypercall" of "hypercall mmu_update", "port" of "port out 0x3f8"."""
        words = reason.split()
        families = (" ".join(words[:length]) for length in range(len(words) - 1, 0, -1))
        return next((self.exits[family] for family in families if family in self.exits), None)


def profile_names() -> list[str]:
    """The profiles that there are."""
    return sorted(path.stem for path in _PROFILES.glob("*.toml"))


@cache
def read_profile(name: str) -> Profile:
    """A profile by its name.

    Raises:
        PvemuError: there is none of that name.
    """
    if name not in profile_names():
        raise PvemuError(f"there is no cost profile {name}: take one of {', '.join(profile_names())}")
    data = tomllib.loads((_PROFILES / f"{name}.toml").read_text())
    return Profile(
        name,
        data["title"],
        frozenset(map(Route, data["routes"])),
        Cost(**data["instruction"]),
        {reason: Cost(**cost) for reason, cost in data["exits"].items()},
    )
