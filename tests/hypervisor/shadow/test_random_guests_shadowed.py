"""Whatever a guest does, every access under shadow paging does what the guest's own tables mean.

The law is held after each operation: the checker finds nothing wrong, and the dirty log is exact.
"""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from random_guest import MODES, OPERATIONS, RandomGuest

from pvemu.memory.guest_walk import PagingMode

_RANDOM = st.randoms(use_true_random=False)


class ShadowMachine(RuleBasedStateMachine):
    """The operations of a random guest, one by one."""

    guest: RandomGuest | None = None

    @initialize(random=_RANDOM, mode=st.sampled_from(MODES))
    def boot(self, random: Random, mode: PagingMode) -> None:
        self.guest = RandomGuest(random, mode)

    @invariant()
    def the_laws_hold(self) -> None:
        if self.guest is not None:
            self.guest.check()

    def teardown(self) -> None:
        if self.guest is not None:
            self.guest.close()


def _rule_of(operation: Callable[[RandomGuest, Random], None]) -> object:
    def apply(self: ShadowMachine, random: Random) -> None:
        assert self.guest is not None
        operation(self.guest, random)

    apply.__name__ = operation.__name__
    return rule(random=_RANDOM)(apply)


for _operation in OPERATIONS:
    setattr(ShadowMachine, _operation.__name__, _rule_of(_operation))

ShadowMachine.TestCase.settings = settings(stateful_step_count=25)
TestShadowMachine = ShadowMachine.TestCase


def _play(seed: int, mode: PagingMode, operations: int) -> None:
    random = Random(seed)
    guest = RandomGuest(random, mode)
    for operation in random.choices(list(OPERATIONS), list(OPERATIONS.values()), k=operations):
        operation(guest, random)
        guest.check()
    guest.close()


def _name(mode: PagingMode) -> str:
    marks = "".join(mark for mark, on in zip((" WP", " NX", " PSE"), mode[1:], strict=True) if on)
    return f"{mode.form.name if mode.form else 'off'}{marks}"


@pytest.mark.parametrize("mode", MODES, ids=_name)
def test_a_long_random_life_in_one_mode(mode: PagingMode) -> None:
    for seed in range(12):
        _play(seed, mode, 60)


@pytest.mark.nightly
@pytest.mark.parametrize("mode", MODES, ids=_name)
def test_many_long_random_lives_in_one_mode(mode: PagingMode) -> None:
    for seed in range(1000, 1400):
        _play(seed, mode, 200)
