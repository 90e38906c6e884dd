"""The clock against Python's calendar, and its interrupts against a search second by second."""

from datetime import UTC, date, datetime, timedelta

import pytest
from bench import MILLISECOND, SECOND, WALLCLOCK, Bench, Clock
from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.hvm.calendar import date_of, days_of, weekday_of
from pvemu.hypervisor.hvm.vrtc import Vrtc

A, B, C = 0x0A, 0x0B, 0x0C
SET, PERIODIC, ALARM, UPDATED, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
FORMS = st.sampled_from([0, BINARY, HOURS_24, BINARY | HOURS_24])


class Clocked:
    """A clock whose line is noted."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.line: list[bool] = []
        self.rose: list[int] = []
        self.vrtc = Vrtc(self.clock.timers, lambda: self.clock.now, lambda: WALLCLOCK, self._drive)

    def _drive(self, high: bool) -> None:
        if high and not (self.line and self.line[-1]):
            self.rose.append(self.clock.now)
        self.line.append(high)

    def __getitem__(self, index: int) -> int:
        self.vrtc.write_byte(0x70, index)
        return self.vrtc.read_byte(0x71)

    def __setitem__(self, index: int, value: int) -> None:
        self.vrtc.write_byte(0x70, index)
        self.vrtc.write_byte(0x71, value)


def in_form(form: int, number: int) -> int:
    return number if form & BINARY else int(str(number), 16)


def hour_in_form(form: int, hour: int) -> int:
    if form & HOURS_24:
        return in_form(form, hour)
    return in_form(form, hour % 12 or 12) | (0x80 if hour >= 12 else 0)


def bytes_of(form: int, moment: datetime) -> list[int]:
    """Registers 0, 2, 4, 6, 7, 8, 9 and 0x32."""
    numbers = [moment.isoweekday() % 7 + 1, moment.day, moment.month, moment.year % 100, moment.year // 100]
    shown = [in_form(form, number) for number in (moment.second, moment.minute)]
    return [*shown, hour_in_form(form, moment.hour), *(in_form(form, number) for number in numbers)]


def shown(rtc: Clocked) -> list[int]:
    return [rtc[index] for index in (0, 2, 4, 6, 7, 8, 9, 0x32)]


@given(FORMS, st.integers(0, 10**10 * SECOND))
def test_it_shows_the_wallclock_and_what_has_passed_since(form: int, passed: int) -> None:
    rtc = Clocked()
    rtc[B] = form
    rtc.clock.now = passed
    moment = datetime.fromtimestamp(WALLCLOCK, UTC) + timedelta(microseconds=passed // 1000)
    assert shown(rtc) == bytes_of(form, moment)


@given(
    FORMS,
    st.datetimes(datetime(1, 1, 1), datetime(9990, 1, 1)),
    st.integers(0, 10 * SECOND),
    st.integers(0, 10**7),
)
def test_what_is_set_is_shown_and_goes_on(form: int, moment: datetime, before: int, seconds: int) -> None:
    rtc = Clocked()
    rtc.clock.now = before
    rtc[B] = SET | form
    values = bytes_of(form, moment)
    for index, value in zip((0, 2, 4, 7, 8, 9, 0x32), values[:3] + values[4:], strict=True):
        rtc[index] = value
    rtc.clock.now += 3 * SECOND
    assert [shown(rtc)[at] for at in (0, 1, 2, 4)] == values[:3] + values[4:5]
    rtc[B] = form
    assert shown(rtc) == values
    rtc.clock.now += seconds * SECOND
    assert shown(rtc) == bytes_of(form, moment + timedelta(seconds=seconds))


@given(st.dates(date(1, 1, 1), date(9999, 12, 31)))
def test_dates_are_those_of_the_gregorian_calendar(day: date) -> None:
    days = (day - date(1970, 1, 1)).days
    assert days_of(day.year, day.month, day.day) == days
    assert date_of(days) == (day.year, day.month, day.day)
    assert weekday_of(days) == day.isoweekday() % 7


@given(st.lists(st.integers(0, 255), min_size=8, max_size=8), FORMS)
def test_any_bytes_make_some_time(values: list[int], form: int) -> None:
    rtc = Clocked()
    rtc[B] = SET | form
    for index, value in zip((0, 2, 4, 6, 7, 8, 9, 0x32), values, strict=True):
        rtc[index] = value
    rtc[B] = form
    first = shown(rtc)
    rtc.clock.pass_(86_400 * SECOND)
    assert all(0 <= value <= 255 for value in shown(rtc))
    assert shown(rtc)[:3] == first[:3]


@pytest.mark.parametrize("rate", range(1, 16))
def test_the_periodic_interrupt_comes_at_its_rate(rate: int) -> None:
    rtc = Clocked()
    rtc[A] = 0x20 | rate
    rtc[B] = HOURS_24 | PERIODIC
    hertz = {1: 256, 2: 128}.get(rate, 65536 >> rate)
    count = min(hertz, 20)
    for _ in range(count):
        expiry = rtc.clock.timers.next_expiry()
        assert expiry is not None
        rtc.clock.pass_(expiry - rtc.clock.now)
        assert rtc[C] & 0xC0 == 0xC0
    assert rtc.rose == [-(-turn * SECOND // hertz) for turn in range(1, count + 1)]


def test_a_request_stands_until_it_is_read_and_no_timer_runs_meanwhile() -> None:
    rtc = Clocked()
    rtc[B] = HOURS_24 | PERIODIC
    rtc.clock.pass_(5 * MILLISECOND)
    assert len(rtc.rose) == 1 and rtc.clock.timers.next_expiry() is None
    assert rtc[C] == 0xC0
    assert rtc.line[-1] is False
    rtc.clock.pass_(MILLISECOND)
    assert len(rtc.rose) == 2


def test_the_update_interrupt_comes_with_each_new_second() -> None:
    rtc = Clocked()
    rtc.clock.now = 300 * MILLISECOND
    rtc[B] = HOURS_24 | UPDATED
    for _ in range(3):
        rtc.clock.pass_(SECOND)
        assert rtc[C] & 0x90 == 0x90
    assert rtc.rose == [1 * SECOND, 2 * SECOND, 3 * SECOND]


def test_an_update_is_announced_244_microseconds_before() -> None:
    rtc = Clocked()
    rtc.clock.now = SECOND - 244_001
    assert not rtc[A] & 0x80
    rtc.clock.now += 1
    assert rtc[A] & 0x80
    rtc[B] = SET | HOURS_24
    assert not rtc[A] & 0x80


@given(
    FORMS,
    st.one_of(st.none(), st.integers(0, 23)),
    st.one_of(st.none(), st.integers(0, 59)),
    st.one_of(st.none(), st.integers(0, 59)),
)
def test_the_alarm_comes_when_all_its_bytes_fit(
    form: int, hour: int | None, minute: int | None, second: int | None
) -> None:
    rtc = Clocked()
    rtc[B] = form
    rtc[5] = 0xC0 if hour is None else hour_in_form(form, hour)
    rtc[3] = 0xFF if minute is None else in_form(form, minute)
    rtc[1] = 0xC5 if second is None else in_form(form, second)
    rtc[B] = form | ALARM
    fits = [
        moment
        for moment in range(1, 86_401)
        if hour in (None, (WALLCLOCK + moment) // 3600 % 24)
        if minute in (None, (WALLCLOCK + moment) // 60 % 60)
        if second in (None, (WALLCLOCK + moment) % 60)
    ]
    rtc.clock.pass_(86_400 * SECOND)
    assert rtc.rose == [fits[0] * SECOND]
    assert rtc[C] & 0xA0 == 0xA0
    if len(fits) > 1:
        rtc.clock.pass_(86_400 * SECOND)
        assert len(rtc.rose) == 2


def test_an_alarm_that_no_time_fits_never_comes() -> None:
    rtc = Clocked()
    rtc[5], rtc[3], rtc[1] = 0xC0, 0x61, 0x00
    rtc[B] = HOURS_24 | ALARM
    assert rtc.clock.timers.next_expiry() is None


def test_flags_rise_although_their_interrupts_are_off() -> None:
    rtc = Clocked()
    rtc[1], rtc[3], rtc[5] = 0xC0, 0xC0, 0xC0
    rtc.clock.pass_(2 * SECOND)
    assert rtc.clock.timers.next_expiry() is None
    assert rtc[C] == 0x70
    assert rtc[C] == 0


def test_switching_an_interrupt_on_whose_flag_has_risen_interrupts_at_once() -> None:
    rtc = Clocked()
    rtc.clock.pass_(2 * SECOND)
    rtc[B] = HOURS_24 | UPDATED
    assert rtc.rose == [2 * SECOND]
    rtc[B] = HOURS_24
    assert rtc.line[-1] is False


def test_a_held_divider_stops_the_time_and_the_first_second_after_it_is_half_a_second() -> None:
    rtc = Clocked()
    rtc.clock.now = 250 * MILLISECOND
    rtc[A] = 0x66
    rtc.clock.now += 100 * SECOND
    assert rtc[0] == 0x20
    rtc[A] = 0x26
    rtc.clock.now += 499 * MILLISECOND
    assert rtc[0] == 0x20
    rtc.clock.now += MILLISECOND
    assert rtc[0] == 0x21


def test_a_part_of_the_time_can_be_set_while_the_clock_goes_on() -> None:
    rtc = Clocked()
    rtc[B] = BINARY | HOURS_24
    rtc.clock.now = 250 * MILLISECOND
    before = shown(rtc)
    rtc[2] = 59
    assert shown(rtc) == [before[0], 59, *before[2:]]
    rtc.clock.now += (60 - before[0]) * SECOND
    assert shown(rtc)[:3] == [0, 0, (before[2] + 1) % 24]


def test_a_clock_that_is_held_shows_what_it_is_set_to() -> None:
    rtc = Clocked()
    rtc[B] = BINARY | HOURS_24
    rtc[A] = 0x66
    rtc[0] = 41
    rtc.clock.now += 100 * SECOND
    assert rtc[0] == 41
    rtc[A] = 0x26
    rtc.clock.now += SECOND
    assert rtc[0] == 42


def test_the_clock_interrupts_by_line_8() -> None:
    bench = Bench()
    bench.out(0x21, 0xFB)
    bench.out(0xA1, 0xFE)
    for index, value in ((A, 0x26), (B, PERIODIC | HOURS_24)):
        bench.out(0x70, index)
        bench.out(0x71, value)
    bench.clock.pass_(MILLISECOND)
    assert bench.platform.acknowledge(0) == 0x70
