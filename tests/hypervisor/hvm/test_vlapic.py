"""The local APIC: priorities against a model, messages between processors, the timer against arithmetic."""

import pytest
from bench import MILLISECOND, Bench
from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.hvm.vlapic import APIC_BASE

ID, TPR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_LINT0, LVT_ERROR = 0x320, 0x350, 0x370
INITIAL, CURRENT, DIVIDE = 0x380, 0x390, 0x3E0
DIVIDE_BY_1 = 0xB
PERIODIC, DEADLINE, MASKED = 0x2_0000, 0x4_0000, 0x1_0000
#: ns between two counts, divided by one.
CYCLE = 10


class Lapics:
    """The local APICs of a bench; registers are those of `bench.current`."""

    def __init__(self, vcpus: int = 1) -> None:
        self.bench = Bench(vcpus)
        self.lapics = self.bench.platform.lapics
        for self.bench.current in reversed(range(vcpus)):
            self[SVR] = 0x1FF
        self.forget()

    def __getitem__(self, register: int) -> int:
        return self.bench.get(APIC_BASE + register)

    def __setitem__(self, register: int, value: int) -> None:
        self.bench.put(APIC_BASE + register, value)

    def of(self, vcpu: int) -> "Lapics":
        self.bench.current = vcpu
        return self

    def forget(self) -> None:
        for processor in self.bench.processors:
            processor.told.clear()

    def vectors(self, register: int) -> set[int]:
        words = [self[register + 0x10 * index] for index in range(8)]
        return {32 * at + bit for at, word in enumerate(words) for bit in range(32) if word >> bit & 1}


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.integers(16, 255)),
        st.tuples(st.just("request by level"), st.integers(16, 255)),
        st.tuples(st.just("task"), st.integers(0, 255)),
        st.tuples(st.sampled_from(["acknowledge", "end"]), st.just(0)),
    ),
    max_size=60,
)


@given(_STEPS)
def test_the_most_urgent_vector_above_the_processors_priority_goes_first(
    steps: list[tuple[str, int]],
) -> None:
    lapics = Lapics()
    (lapic,) = lapics.lapics
    requested, serving, level, task = set[int](), set[int](), set[int](), 0
    for what, value in steps:
        if what.startswith("request"):
            lapic.set_irq(value, is_level=what != "request")
            requested.add(value)
            (level.discard if what == "request" else level.add)(value)
        elif what == "task":
            lapics[TPR] = task = value
        elif what == "end":
            lapics[EOI] = 0
            serving -= {max(serving, default=0)}
        busy = max(serving, default=0) >> 4 << 4
        priority = task if task >> 4 >= busy >> 4 else busy
        expected = max((each for each in requested if each >> 4 > priority >> 4), default=None)
        assert lapics[PPR] == priority
        assert lapic.highest_pending() == expected
        if what == "acknowledge" and expected is not None:
            lapic.acknowledge(expected)
            requested.remove(expected)
            serving.add(expected)
        assert lapics.vectors(IRR) == requested
        assert lapics.vectors(ISR) == serving
        assert lapics.vectors(TMR) == level


@pytest.mark.parametrize(
    ("command", "destination", "receivers"),
    [
        (0x0_0000 | 0x40, 2, {1}),
        (0x0_0000 | 0x40, 9, set()),
        (0x0_0000 | 0x40, 0xFF, {0, 1, 2}),
        (0x0_0800 | 0x40, 0b101, {0, 2}),
        (0x4_0000 | 0x40, 4, {0}),
        (0x8_0000 | 0x40, 4, {0, 1, 2}),
        (0xC_0000 | 0x40, 4, {1, 2}),
    ],
)
def test_an_ipi_reaches_whom_it_is_for(command: int, destination: int, receivers: set[int]) -> None:
    lapics = Lapics(3)
    for vcpu in range(3):
        lapics.of(vcpu)[LDR] = 1 << 24 + vcpu
    lapics.of(0)[ICR_HIGH] = destination << 24
    lapics.forget()
    lapics[ICR] = command
    assert {vcpu for vcpu in range(3) if lapics.of(vcpu).vectors(IRR)} == receivers
    assert {vcpu for vcpu in range(3) if lapics.bench.processors[vcpu].told} == receivers


def test_lowest_priority_chooses_the_least_busy_and_takes_turns_among_equals() -> None:
    lapics = Lapics(3)
    chosen = []
    lapics.of(0)[TPR] = 0x50
    for vector in range(0x60, 0x63):
        lapics.of(0)[ICR] = 0x8_0100 | vector
        chosen += [vcpu for vcpu in range(3) if vector in lapics.of(vcpu).vectors(IRR)]
    assert chosen == [1, 2, 1]


def test_clusters_address_by_halves() -> None:
    lapics = Lapics(3)
    for vcpu, logical in enumerate((0x11, 0x12, 0x21)):
        lapics.of(vcpu)[DFR] = 0x0FFF_FFFF
        lapics[LDR] = logical << 24
    for vector, destination in ((0x31, 0x13), (0x32, 0x21), (0x33, 0xF1)):
        lapics.of(0)[ICR_HIGH] = destination << 24
        lapics[ICR] = 0x800 | vector
    assert [lapics.of(vcpu).vectors(IRR) for vcpu in range(3)] == [{0x31, 0x33}, {0x31}, {0x32, 0x33}]


def test_init_and_start_up_bring_another_processor_up() -> None:
    lapics = Lapics(2)
    lapics.of(1)[TPR] = 0x70
    lapics.of(0)[ICR_HIGH] = 2 << 24
    lapics.forget()
    lapics[ICR] = 0x4500
    assert lapics.of(1)[TPR] == 0 and lapics[SVR] == 0xFF
    # The end of the INIT, level-triggered and not asserted, does nothing.
    lapics.of(0)[ICR] = 0x8500
    lapics[ICR] = 0x4609
    assert lapics.bench.processors[1].told == ["init", "start_up 0x9"]
    assert lapics.bench.processors[0].told == []


def test_a_local_apic_is_found_by_the_number_that_it_was_given() -> None:
    lapics = Lapics(2)
    lapics.of(1)[ID] = 0x55 << 24
    assert lapics[ID] == 0x55 << 24
    for destination, found in ((2, set()), (0x55, {0x30})):
        lapics.of(0)[ICR_HIGH] = destination << 24
        lapics[ICR] = 0x4030
        assert lapics.of(1).vectors(IRR) == found


def test_a_message_of_lowest_priority_that_nobody_takes_is_lost() -> None:
    lapics = Lapics(2)
    for vcpu in (1, 0):
        lapics.of(vcpu)[SVR] = 0xFF
    lapics[ICR] = 0x8_4130
    assert [lapics.of(vcpu).vectors(IRR) for vcpu in (0, 1)] == [set(), set()]


def test_a_pin_of_the_io_apic_with_an_illegal_vector_is_an_error_of_the_receiver() -> None:
    lapics = Lapics()
    lapics[LVT_ERROR] = 0xFE
    lapics.lapics[0].set_irq(0x0F)
    assert lapics.vectors(IRR) == {0xFE}
    lapics[ESR] = 0
    assert lapics[ESR] == 0x40


def test_an_nmi_goes_past_everything() -> None:
    lapics = Lapics(2)
    lapics.of(1)[SVR] = 0xFF
    lapics.forget()
    lapics.of(0)[ICR] = 0xC_0400
    assert lapics.bench.processors[1].told == ["nmi"]


def test_an_ipi_with_an_illegal_vector_is_an_error_that_may_interrupt() -> None:
    lapics = Lapics()
    lapics[LVT_ERROR] = 0xFE
    lapics[ICR] = 0x4_000F
    assert lapics.vectors(IRR) == {0xFE}
    assert lapics[ESR] == 0
    lapics[ESR] = 0
    assert lapics[ESR] == 0x20
    lapics[ESR] = 0
    assert lapics[ESR] == 0


def test_an_error_whose_own_vector_is_illegal_interrupts_nobody() -> None:
    lapics = Lapics()
    lapics[LVT_ERROR] = 0x02
    lapics[ICR] = 0x4_000F
    lapics[ESR] = 0
    assert lapics[ESR] == 0x60
    assert lapics.vectors(IRR) == set()


def test_lowering_the_task_priority_kicks_the_processor_for_what_waited() -> None:
    lapics = Lapics()
    lapics[TPR] = 0x80
    lapics[ICR] = 0x4_0075
    assert lapics.bench.processors[0].told == []
    lapics[TPR] = 0x60
    assert lapics.bench.processors[0].told == ["kick"]
    assert lapics.bench.platform.acknowledge(0) == 0x75


def test_registers_are_read_and_written_in_part_but_not_across_their_end() -> None:
    lapics = Lapics()
    mmio = lapics.bench.mmio
    mmio.write(APIC_BASE + LDR + 3, 1, 0xAB)
    assert lapics[LDR] == 0xAB00_0000
    assert mmio.read(APIC_BASE + LDR + 2, 2) == 0xAB00
    mmio.write(APIC_BASE + LDR + 2, 4, 0)
    assert mmio.read(APIC_BASE + LDR + 2, 4) == 0
    assert lapics[LDR] == 0xAB00_0000


@given(
    st.sampled_from([(0x0, 2), (0x1, 4), (0x2, 8), (0x3, 16), (0x8, 32), (0x9, 64), (0xA, 128), (0xB, 1)]),
    st.integers(1, 5000),
    st.booleans(),
    st.integers(0, 20 * MILLISECOND),
)
def test_the_timer_counts_down_at_its_speed(
    divide: tuple[int, int], count: int, periodic: bool, passed: int
) -> None:
    lapics = Lapics()
    lapics[DIVIDE] = divide[0]
    lapics[LVT_TIMER] = 0x40 | (PERIODIC if periodic else 0) | MASKED
    lapics[INITIAL] = count
    lapics.bench.clock.pass_(passed)
    counted = passed // (CYCLE * divide[1])
    assert lapics[CURRENT] == (count - counted % count if periodic else max(count - counted, 0))
    assert lapics.bench.clock.timers.next_expiry() is None
    assert lapics.vectors(IRR) == set()


def test_once_means_once_and_periodic_goes_on() -> None:
    rounds = [20_000 * CYCLE, 40_000 * CYCLE, 60_000 * CYCLE]
    for mode, expected in ((0, rounds[:1]), (PERIODIC, rounds)):
        lapics = Lapics()
        clock = lapics.bench.clock
        lapics[DIVIDE] = DIVIDE_BY_1
        lapics[LVT_TIMER] = 0x40 | mode
        lapics[INITIAL] = 20_000
        ends = []
        while (expiry := clock.timers.next_expiry()) is not None and len(ends) < 3:
            clock.pass_(expiry - clock.now)
            ends.append(clock.now)
            assert lapics.bench.platform.acknowledge(0) == 0x40
            lapics[EOI] = 0
        assert ends == expected


def test_a_masked_end_is_lost_and_unmasking_takes_up_the_next_one() -> None:
    lapics = Lapics()
    clock = lapics.bench.clock
    lapics[DIVIDE] = DIVIDE_BY_1
    lapics[LVT_TIMER] = 0x40 | PERIODIC | MASKED
    lapics[INITIAL] = 20_000
    clock.pass_(50_000 * CYCLE)
    lapics[LVT_TIMER] = 0x40 | PERIODIC
    assert lapics.vectors(IRR) == set()
    assert clock.timers.next_expiry() == 60_000 * CYCLE


@pytest.mark.parametrize("count", [1, 2, 999, 9_999])
def test_a_fast_periodic_timer_interrupts_once_in_a_tenth_of_a_millisecond(count: int) -> None:
    # Xen: create_periodic_time, for all but the first end.
    lapics = Lapics()
    clock = lapics.bench.clock
    lapics[DIVIDE] = DIVIDE_BY_1
    lapics[LVT_TIMER] = 0x40 | PERIODIC
    lapics[INITIAL] = count
    ends = []
    while (expiry := clock.timers.next_expiry()) is not None and len(ends) < 3:
        clock.pass_(expiry - clock.now)
        ends.append(clock.now)
    first = count * CYCLE
    assert ends == [first, first + MILLISECOND // 10, first + MILLISECOND // 5]


def test_a_change_of_speed_or_mode_goes_on_from_the_count_and_a_round_that_is_over_stays_over() -> None:
    lapics = Lapics()
    clock = lapics.bench.clock
    lapics[DIVIDE] = DIVIDE_BY_1
    lapics[LVT_TIMER] = 0x40
    lapics[INITIAL] = 1000
    clock.pass_(400 * CYCLE)
    lapics[DIVIDE] = 0
    assert lapics[CURRENT] == 600
    assert clock.timers.next_expiry() == 400 * CYCLE + 600 * 2 * CYCLE
    lapics[LVT_TIMER] = 0x40 | PERIODIC
    assert clock.timers.next_expiry() == 400 * CYCLE + 600 * 2 * CYCLE
    lapics[LVT_TIMER] = 0x40
    clock.pass_(MILLISECOND)
    lapics[LVT_TIMER] = 0x40 | PERIODIC
    lapics[DIVIDE] = 0xA
    assert lapics[CURRENT] == 0
    assert clock.timers.next_expiry() is None


def test_a_deadline_is_a_time_of_the_tsc_and_comes_once() -> None:
    lapics = Lapics()
    (lapic,) = lapics.lapics
    clock = lapics.bench.clock
    lapic.deadline = 500
    assert lapic.deadline == 0
    lapics[LVT_TIMER] = 0x40 | DEADLINE
    lapics[INITIAL] = 77
    assert lapics[INITIAL] == 0
    lapic.deadline = 5_000
    clock.pass_(4_999)
    assert lapic.deadline == 5_000 and lapics.vectors(IRR) == set()
    clock.pass_(1)
    assert lapic.deadline == 0 and lapics.vectors(IRR) == {0x40}
    lapic.acknowledge(0x40)
    lapic.deadline = 100
    clock.timers.run_expired(clock.now)
    assert lapics.vectors(IRR) == {0x40}


def test_the_base_can_be_switched_off_and_on_but_not_moved() -> None:
    lapics = Lapics()
    (lapic,) = lapics.lapics
    assert lapic.base == APIC_BASE | 0x900
    assert not lapic.set_base(0xFEE0_1900)
    assert not lapic.set_base(APIC_BASE | 0xD00)
    assert not lapic.set_base(APIC_BASE | 0x901)
    lapics[TPR] = 0x20
    assert lapic.set_base(APIC_BASE | 0x100)
    assert lapic.highest_pending() is None
    assert lapic.set_base(APIC_BASE | 0x900)
    assert lapics[TPR] == 0 and lapics[SVR] == 0xFF
