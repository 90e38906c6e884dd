"""Timers on the virtual clock, against a sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.timers import Timer, Timers

_OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "run"]), st.integers(0, 4), st.integers(0, 50)), max_size=40
)


@given(_OPERATIONS)
def test_timers_expire_at_their_time_and_in_the_order_they_were_set(
    operations: list[tuple[str, int, int]],
) -> None:
    timers, ran = Timers(), list[int]()
    all_timers = [Timer(timers, lambda number=number: ran.append(number)) for number in range(5)]  # type: ignore[misc]
    model: dict[int, tuple[int, int]] = {}  # timer -> (cycle, order)
    for order, (operation, number, cycle) in enumerate(operations):
        if operation == "set":
            all_timers[number].set(cycle)
            model[number] = (cycle, order)
        elif operation == "cancel":
            all_timers[number].cancel()
            model.pop(number, None)
        else:
            ran.clear()
            timers.run_expired(cycle)
            due = sorted((when, timer) for timer, when in model.items() if when[0] <= cycle)
            assert ran == [timer for _, timer in due]
            for _, timer in due:
                del model[timer]
        assert timers.next_expiry() == min((when[0] for when in model.values()), default=None)


def test_an_action_may_set_its_own_timer_again() -> None:
    timers, ran = Timers(), list[int]()

    def again() -> None:
        ran.append(len(ran))
        if len(ran) < 4:
            timer.set(10 * len(ran))

    timer = Timer(timers, again)
    timer.set(0)
    timers.run_expired(25)
    assert ran == [0, 1, 2]
    assert timers.next_expiry() == 30


def test_a_timer_that_was_moved_does_not_expire_at_its_old_time() -> None:
    timers, ran = Timers(), list[int]()
    timer = Timer(timers, lambda: ran.append(1))
    timer.set(5)
    timer.set(20)
    timers.run_expired(10)
    assert ran == []
    timers.run_expired(20)
    timers.run_expired(30)
    assert ran == [1]


def test_a_timer_that_is_set_again_and_again_takes_no_room() -> None:
    timers, ran = Timers(), list[str]()
    first, moved = Timer(timers, lambda: ran.append("first")), Timer(timers, lambda: ran.append("moved"))
    moved.set(7)
    first.set(7)
    for cycle in range(100_000):
        moved.set(cycle + 10)
    moved.set(7)
    assert len(timers._queue) < 200
    timers.run_expired(7)
    assert ran == ["first", "moved"]
