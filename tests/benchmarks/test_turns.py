"""Guests that are measured take turns: all alive at once, one sample each, and none is left behind."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.jobs import GuestFailed, Job
from benchmarks.ladder import BY_NAME, Operation
from benchmarks.routes import Route
from benchmarks.turns import Player, sample_in_turns

_SAMPLES = 4
_INTERRUPTS = replace(BY_NAME["interrupts"], count=3, counts={})


def job(route: Route, operation: Operation = _INTERRUPTS) -> Job:
    """A small one."""
    return Job(operation, route, _SAMPLES + 1)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Whatever happens, every guest's thread has ended, and its machine with it."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_every_route_has_a_sample_of_each_turn() -> None:
    turns: list[None] = []
    jobs = [job(Route.NATIVE), job(Route.TRAP), job(Route.NESTED)]
    samples = sample_in_turns(jobs, 1, lambda: turns.append(None))
    assert list(samples) == [Route.NATIVE, Route.TRAP, Route.NESTED]
    assert len(turns) == _SAMPLES
    for values in samples.values():
        assert len(values) == _SAMPLES and min(values) > 0


def test_guests_go_on_in_any_order_and_only_when_it_is_their_turn() -> None:
    first, second = Player(job(Route.TRAP)), Player(job(Route.NESTED))
    first.go_on()
    first.go_on()
    second.go_on()
    assert (len(first.samples), len(second.samples)) == (2, 1)
    second.go_on()
    first.go_on()
    assert (len(first.samples), len(second.samples)) == (3, 2)
    first.abandon()
    second.abandon()
    assert (len(first.samples), len(second.samples)) == (3, 2)


def test_a_guest_that_breaks_ends_the_measurement_and_the_other_guests() -> None:
    without_a_disk = Operation("broken", "", "block.gk", {Route.PAGE: 1}, 1, defines={"BYTES": 4096})
    with pytest.raises(GuestFailed, match="broken by hypercall-page ended with crash"):
        sample_in_turns([job(Route.NATIVE), job(Route.PAGE, without_a_disk)], 1)


def test_an_interruption_ends_all_guests() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_in_turns([job(Route.NATIVE), job(Route.TRAP)], 1, interrupt)


def test_a_guest_that_has_ended_has_no_more_samples() -> None:
    player = Player(job(Route.NATIVE))
    for _ in range(_SAMPLES + 2):
        player.go_on()
    assert len(player.samples) == _SAMPLES + 1
    with pytest.raises(GuestFailed, match="interrupts by native has no more samples"):
        player.go_on()
    player.abandon()
