"""Bare guests for the tests of the processor, in the form that the options of the suite choose."""

from collections.abc import Callable, Iterator

import pytest
from bare_guest import BareGuest


@pytest.fixture
def make_guest(machine_options: dict[str, str]) -> Iterator[Callable[..., BareGuest]]:
    """Make bare guests, which are closed when the test ends."""
    made: list[BareGuest] = []

    def make(**options: str) -> BareGuest:
        made.append(BareGuest(**{**machine_options, **options}))
        return made[-1]

    yield make
    for guest in made:
        guest.cpu.close()


@pytest.fixture
def guest(make_guest: Callable[..., BareGuest]) -> BareGuest:
    """One bare guest."""
    return make_guest()
