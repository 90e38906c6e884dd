"""The 8254 against a model that really counts, clock by clock, and its interrupts against arithmetic."""

from bench import MILLISECOND, SECOND, Bench, Clock
from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.hvm.pit_channel import PitChannel
from pvemu.hypervisor.hvm.vpit import PIT_FREQUENCY, Vpit


class ModelChannel:
    """Counts one clock at a time, as the data sheet's figures show it. Counts are loaded at once."""

    def __init__(self, mode: int, count: int, *, decimal: bool) -> None:
        self.mode, self.count, self.decimal = mode, count, decimal
        self.value = count - (count % 2 if mode == 3 else 0)
        self.output = mode != 0
        self.over = False
        #: Mode 3 stays on 0 for one clock before its low half, when the count is odd.
        self.phase = 0
        self.rises = 0

    def tick(self) -> None:
        was = self.output
        if self.mode == 2:
            self.value = self.count if self.value == 1 else self.value - 1
            self.output = self.value != 1
        elif self.mode == 3:
            self._square_tick()
        else:
            self.value -= 1
            if self.mode in (0, 1):
                self.output = self.output or self.value == 0
            else:
                self.output = self.value != 0
        self.rises += self.output and not was

    def _square_tick(self) -> None:
        even = self.count - self.count % 2
        self.phase += 1
        self.value -= 2
        if self.phase == (self.count + 1) // 2:
            self.output, self.value = False, even
        elif self.phase == self.count:
            self.output, self.value, self.phase = True, even, 0

    @property
    def shown(self) -> int:
        if not self.decimal:
            return self.value % 0x1_0000
        return int(str(self.value % 10_000), 16)


def written(count: int, *, decimal: bool) -> tuple[int, int]:
    word = int(str(count % 10_000), 16) if decimal else count % 0x1_0000
    return word & 0xFF, word >> 8


@given(
    st.sampled_from([0, 2, 3, 4]),
    st.integers(2, 40),
    st.booleans(),
    st.integers(0, 1 << 40),
    st.lists(st.integers(0, 15), max_size=30),
)
def test_count_output_and_edges_are_those_of_a_counter_that_counts(
    mode: int, count: int, decimal: bool, start: int, steps: list[int]
) -> None:
    channel, model = PitChannel(), ModelChannel(mode, count, decimal=decimal)
    channel.control(start, 0x30 | mode << 1 | decimal)
    for byte in written(count, decimal=decimal):
        channel.write(start, byte)
    now = start
    for step in steps:
        for _ in range(step):
            due = channel.next_rising_edge(now)
            rises = model.rises
            model.tick()
            now += 1
            assert (due == now) == (model.rises > rises)
        channel.latch_count(now)
        assert channel.read(now) | channel.read(now) << 8 == model.shown
        assert channel.output(now) == model.output
        assert channel.rising_edges(now) == model.rises


@given(st.sampled_from([1, 5]), st.integers(2, 30), st.integers(0, 60))
def test_one_shots_wait_for_their_gate_and_begin_anew_each_time_it_rises(
    mode: int, count: int, passed: int
) -> None:
    channel = PitChannel()
    channel.set_gate(0, False)
    channel.control(0, 0x30 | mode << 1)
    for byte in written(count, decimal=False):
        channel.write(0, byte)
    assert channel.output(1000) and channel.rising_edges(1000) == 0
    channel.set_gate(1000, True)
    channel.set_gate(1001, False)
    channel.set_gate(1002, True)
    low = passed < count if mode == 1 else passed == count
    assert channel.output(1002 + passed) is not low
    assert channel.rising_edges(1002 + passed) == (passed >= count + (mode == 5))


@given(st.sampled_from([0, 4]), st.integers(10, 30), st.lists(st.integers(0, 9), max_size=8))
def test_the_gate_lets_software_triggered_modes_count_and_pause(
    mode: int, count: int, spans: list[int]
) -> None:
    channel = PitChannel()
    channel.control(0, 0x30 | mode << 1)
    for byte in written(count, decimal=False):
        channel.write(0, byte)
    now = counted = 0
    for number, span in enumerate(spans):
        now += span
        counted += 0 if number % 2 else span
        channel.set_gate(now, bool(number % 2))
        channel.latch_count(now)
        assert channel.read(now) | channel.read(now) << 8 == (count - counted) % 0x1_0000
        assert channel.output(now) == (counted >= count if mode == 0 else counted != count)


def test_a_rising_gate_starts_a_periodic_mode_anew_and_a_low_one_holds_the_output_high() -> None:
    channel = PitChannel()
    channel.control(0, 0x36)
    for byte in written(10, decimal=False):
        channel.write(0, byte)
    assert not channel.output(7)
    channel.set_gate(7, False)
    assert channel.output(8)
    channel.set_gate(20, True)
    assert channel.output(24) and not channel.output(25)


def started(mode: int, count: int) -> tuple[Clock, Vpit, list[int]]:
    """A timer that is heard, and when its line rose, in ns."""
    clock = Clock()
    rises: list[int] = []
    vpit = Vpit(clock.timers, lambda: clock.now, lambda high: rises.append(clock.now) if high else None)
    vpit.write_byte(0x43, 0x30 | mode << 1)
    for byte in written(count, decimal=False):
        vpit.write_byte(0x40, byte)
    return clock, vpit, rises


@given(st.sampled_from([2, 3]), st.integers(200, 65536), st.integers(1, 40 * MILLISECOND))
def test_a_periodic_channel_interrupts_once_a_period(mode: int, count: int, span: int) -> None:
    clock, _, rises = started(mode, count)
    clock.pass_(span)
    expected = [-(-turn * count * SECOND // PIT_FREQUENCY) for turn in range(1, len(rises) + 2)]
    assert rises == expected[:-1] and expected[-1] > span


def test_terminal_count_interrupts_once() -> None:
    clock, vpit, rises = started(0, 1193)
    clock.pass_(100 * MILLISECOND)
    assert rises == [-(-1193 * SECOND // PIT_FREQUENCY)]
    assert clock.timers.next_expiry() is None
    vpit.write_byte(0x43, 0xE2)
    assert vpit.read_byte(0x40) == 0xB0


def test_a_control_word_that_pulls_the_output_low_pulls_the_line_low() -> None:
    clock = Clock()
    line: list[bool] = []
    vpit = Vpit(clock.timers, lambda: clock.now, line.append)
    for port, value in ((0x43, 0x30), (0x40, 10), (0x40, 0)):
        vpit.write_byte(port, value)
    clock.pass_(MILLISECOND)
    assert line[-1] is True
    vpit.write_byte(0x43, 0x34)
    assert line[-1] is True
    vpit.write_byte(0x43, 0x30)
    assert line[-1] is False


def test_a_count_of_one_which_no_periodic_mode_knows_interrupts_nobody() -> None:
    clock, _, rises = started(2, 1)
    clock.pass_(MILLISECOND)
    assert rises == []


def test_while_nobody_hears_there_is_no_timer_and_the_edge_is_told_to_who_looks() -> None:
    clock = Clock()
    heard = False
    line: list[bool] = []
    vpit = Vpit(clock.timers, lambda: clock.now, line.append, lambda: heard)
    vpit.write_byte(0x43, 0x34)
    for port in (0x40, 0x41, 0x40):
        vpit.write_byte(port, 0)
    clock.pass_(SECOND)
    assert line == [] and clock.timers.next_expiry() is None
    vpit.catch_up()
    assert line == [False, True]
    vpit.catch_up()
    assert line == [False, True]
    heard = True
    vpit.rearm()
    clock.pass_(60 * MILLISECOND)
    assert line == [False, True] * 2


def test_a_guest_with_interrupts_off_is_not_disturbed_by_a_timer_whose_request_already_waits() -> None:
    bench = Bench()
    bench.out(0x21, 0xFE)
    bench.clock.pass_(60 * MILLISECOND)
    assert bench.platform.pending_vector(0)
    assert bench.clock.timers.next_expiry() is None
    assert bench.platform.acknowledge(0) == 8
    assert bench.clock.timers.next_expiry() is not None


def test_port_61_shows_gate_speaker_refresh_and_the_output_of_channel_2() -> None:
    bench = Bench()
    bench.out(0x61, 0x03)
    bench.out(0x43, 0xB0)
    bench.out(0x42, 100, 0)
    assert bench.in_(0x61) & 0x2F == 0x03
    bench.clock.pass_(100 * SECOND // PIT_FREQUENCY + 1)
    assert bench.in_(0x61) & 0x2F == 0x23
    refreshes = set()
    for _ in range(40):
        bench.clock.pass_(1_000)
        refreshes.add(bench.in_(0x61) & 0x10)
    assert refreshes == {0, 0x10}
