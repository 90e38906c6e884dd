"""The machine's clock: a function of the code that ran, and of nothing else."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from bare_guest import BareGuest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.cpu import layout
from pvemu.cpu.clock import EXIT_COST, Clock, CountClock

MakeGuest = Callable[..., BareGuest]
LOOP = "again: inc ecx\nadd eax, ecx\njmp again"


def run_loop(guest: BareGuest, deadline: int) -> tuple[bool, int, int]:
    """Whether the deadline ended the run, the time then, and how far the loop had come."""
    guest.load(LOOP)
    guest.cpu.window.u64[layout.RCX] = 0
    guest.cpu.clock.now, guest.cpu.clock.deadline = 0, deadline
    return guest.cpu.run(), guest.cpu.clock.now, guest.cpu.window.u64[layout.RCX]


@pytest.mark.parametrize("clock", ["block", "count"])
def test_a_deadline_stops_the_guest_at_the_same_place_every_time(make_guest: MakeGuest, clock: str) -> None:
    seen = {run_loop(make_guest(clock=clock), 30_000) for _ in range(3)}
    assert len(seen) == 1
    ended, now, turns = seen.pop()
    assert ended and 30_000 < now < 30_100 and turns > 1000


@pytest.mark.parametrize("clock", ["block", "count"])
def test_a_run_goes_on_after_its_deadline_losing_nothing(make_guest: MakeGuest, clock: str) -> None:
    guest = make_guest(clock=clock)
    guest.load("mov ecx, 3000\nagain: inc ebx\nloop again\nint 0x82")
    stops = 0
    while not guest.seen:
        guest.cpu.clock.deadline = guest.cpu.clock.now + 500
        stops += guest.cpu.run()
    assert guest.registers["ebx"] == 3000
    assert stops >= 10


@pytest.mark.parametrize("clock", ["block", "count"])
def test_the_clock_never_goes_back_and_moves_between_exits(make_guest: MakeGuest, clock: str) -> None:
    guest = make_guest(clock=clock)
    times: list[int] = []
    guest.cpu.exits[0x82] = lambda: times.append(guest.cpu.clock.now)
    guest.run("mov ecx, 100\nagain: int 0x82\nloop again\nint 0x83")
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[-1] < guest.cpu.clock.now


@pytest.mark.parametrize("clock", ["block", "count"])
def test_a_handler_may_charge_time_and_bring_the_deadline_near(make_guest: MakeGuest, clock: str) -> None:
    guest = make_guest(clock=clock)

    def charge() -> None:
        guest.cpu.clock.charge(1000)

    guest.cpu.exits[0x82] = charge
    guest.load("again: int 0x82\ninc ebx\njmp again")
    guest.cpu.clock.now, guest.cpu.clock.deadline = 0, 10 * (1000 + EXIT_COST) + 500
    assert guest.cpu.run()
    assert guest.registers["ebx"] in (9, 10, 11)


@pytest.mark.parametrize("clock", ["block", "count"])
def test_an_exit_that_comes_again_for_ever_does_not_outlive_the_deadline(
    make_guest: MakeGuest, clock: str
) -> None:
    """A hypercall that stops at the deadline is the next instruction again: it must not run once more."""
    guest = make_guest(clock=clock)
    ran_late: list[bool] = []

    def again() -> None:
        ran_late.append(guest.cpu.clock.expired)
        guest.cpu.clock.charge(1000)
        guest.cpu.window.u64[layout.EIP // 8] -= 2

    guest.cpu.exits[0x82] = again
    guest.load("int 0x82\njmp $")
    guest.cpu.clock.now, guest.cpu.clock.deadline = 0, 10 * (1000 + EXIT_COST) + EXIT_COST + 500
    assert guest.cpu.run()
    assert len(ran_late) == 11
    assert not any(ran_late)


@pytest.mark.parametrize("clock", ["block", "count"])
def test_one_long_string_instruction_is_stopped_too(make_guest: MakeGuest, clock: str) -> None:
    guest = make_guest(clock=clock)
    guest.load("mov edi, 0x30000\nmov ecx, 0xffffffff\nagain: rep scasb\njmp again")
    guest.put(0x30000, bytes(0x20000))
    guest.cpu.clock.now, guest.cpu.clock.deadline = 0, 50_000
    assert guest.cpu.run()


@pytest.mark.parametrize("cycles", [40, 44, 500, 1 << 40])
def test_an_instruction_is_counted_once_however_often_a_deadline_comes_before_it(
    make_guest: MakeGuest, cycles: int
) -> None:
    guest = make_guest(clock="count")
    guest.load("mov ecx, 300\nagain: inc ebx\nloop again\nint 0x82")
    stops = 0
    while not guest.seen:
        guest.cpu.clock.deadline = guest.cpu.clock.now + cycles
        stops += guest.cpu.run()
    clock = guest.cpu.clock
    assert isinstance(clock, CountClock)
    assert clock.instructions == 2 + 2 * 300
    assert bool(stops) == (cycles < 1000)


@given(st.integers(1, 1 << 62))
def test_a_clock_that_was_set_shows_what_it_was_set_to(cycles: int) -> None:
    clock = Clock()
    clock.now = cycles
    clock.deadline = cycles
    assert (clock.now, clock.deadline) == (cycles, cycles)
