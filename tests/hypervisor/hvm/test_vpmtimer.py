"""ACPI's fixed hardware: the timer against arithmetic, its interrupt, and switching off."""

from bench import SECOND, Bench
from hypothesis import given
from hypothesis import strategies as st

STATUS, ENABLE, CONTROL, TIMER = 0xB000, 0xB002, 0xB004, 0xB008
FREQUENCY = 3_579_545
#: When the highest bit of the counter changes for the first time.
FIRST_EVENT = -(-(1 << 31) * SECOND // FREQUENCY)


@given(st.integers(0, 1 << 50))
def test_the_timer_counts_3579545_times_a_second_in_32_bits(now: int) -> None:
    bench = Bench()
    bench.clock.now = now
    assert bench.ports.read(TIMER, 4) == now * FREQUENCY // SECOND % (1 << 32)


def test_each_change_of_the_highest_bit_is_an_event_that_a_written_one_clears() -> None:
    bench = Bench()
    bench.clock.pass_(FIRST_EVENT - 1)
    assert bench.ports.read(STATUS, 2) == 0
    bench.clock.pass_(1)
    assert bench.ports.read(STATUS, 2) == 1
    bench.ports.write(STATUS, 2, 0xFFFF)
    assert bench.ports.read(STATUS, 2) == 0
    bench.clock.pass_(FIRST_EVENT)
    assert bench.ports.read(STATUS, 4) == 1
    assert bench.clock.timers.next_expiry() is None


def test_the_event_interrupts_by_line_9_while_it_is_enabled() -> None:
    bench = Bench()
    bench.out(0x21, 0xFB)
    bench.out(0xA1, 0xFD)
    bench.ports.write(ENABLE, 2, 1)
    assert bench.clock.timers.next_expiry() == FIRST_EVENT
    bench.clock.pass_(FIRST_EVENT)
    assert bench.platform.acknowledge(0) == 0x71
    assert bench.clock.timers.next_expiry() is None
    bench.ports.write(ENABLE, 2, 0)
    bench.ports.write(ENABLE, 1, 1)
    bench.out(0xA0, 0x20)
    bench.out(0x20, 0x20)
    assert bench.platform.acknowledge(0) == 0x71


def test_only_the_sleep_type_of_soft_off_switches_off_and_only_with_the_order_to_sleep() -> None:
    bench = Bench()
    bench.ports.write(CONTROL, 2, 0x0000)
    bench.ports.write(CONTROL, 2, 0x2000 | 1 << 10)
    assert bench.power_offs == 0
    assert bench.ports.read(CONTROL, 2) == 1 << 10 | 1
    bench.ports.write(CONTROL, 2, 0x2000)
    assert bench.power_offs == 1


def test_the_order_may_come_as_a_byte() -> None:
    bench = Bench()
    bench.out(CONTROL + 1, 0x20)
    assert bench.power_offs == 1
