"""Programs of one domain, made from a seed, that mean the same on every machine."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.testing import grammar
from pvemu.testing.differential.portable import portable
from pvemu.testing.grammar import Quality
from pvemu.testing.program import Program, Step

_MOST_STEPS: Final = 12
#: Of so many steps one is something that a domain says in shared memory.
_MEMORY_STEPS: Final = 6
_MOST_FAMILIES: Final = 3


class _Dice:
    """A seeded generator makes the choices."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def index(self, size: int) -> int:
        """A number below `size`."""
        return self._random.randrange(size)


def generated(
    seed: int, families: Sequence[str], quality: Quality = "mixed", most_steps: int = _MOST_STEPS
) -> Iterator[Program]:
    """Programs of one domain without end, that mean the same everywhere; a seed has always the same."""
    dice = _Dice(seed)
    while True:
        steps = []
        # A program is about few hypercalls: what they leave behind for each other matters.
        some = [grammar.pick(dice, families) for _ in range(1 + dice.index(_MOST_FAMILIES))]
        for _ in range(1 + dice.index(most_steps)):
            steps.append(_any_step(dice, some, quality))
        program = portable(Program(1, tuple(steps)))
        if any(step.call is not None for step in program.steps):
            yield program


def _any_step(dice: _Dice, families: Sequence[str], quality: Quality) -> Step:
    if not dice.index(_MEMORY_STEPS):
        made: Callable[[], Step] = grammar.pick(
            dice,
            (
                lambda: grammar.grant(dice, 0, quality),
                lambda: grammar.mask(dice),
                lambda: grammar.take_events(),
            ),
        )
        return made()
    return grammar.step(dice, BY_NAME[grammar.pick(dice, families)], 0, quality)
