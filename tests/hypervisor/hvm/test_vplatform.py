"""The platform as a whole: against a bare PC, whose answers are in pc/*.txt, and against chaos."""

from pathlib import Path

import pytest
from bench import MILLISECOND, Bench
from hypothesis import given
from hypothesis import strategies as st
from pc.transcript import parse

from pvemu.hypervisor.hvm.vioapic import IOAPIC_BASE
from pvemu.hypervisor.hvm.vlapic import APIC_BASE

TRANSCRIPTS = sorted((Path(__file__).parent / "pc").glob("*.txt"))
#: What `wait` is worth: enough for everything that a transcript waits for.
WAIT = 40 * MILLISECOND


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_reads_give_what_a_bare_pc_gave(path: Path) -> None:
    bench = Bench()
    wrong = []
    for access in parse(path):
        if access.word == "wait":
            bench.clock.pass_(WAIT)
            continue
        space = bench.mmio if access.word in ("put", "get") else bench.ports
        if not access.reads:
            space.write(access.place, access.size, access.value)
            continue
        got = space.read(access.place, access.size) & access.mask
        if got != access.expected:
            wrong.append(f"{path.name}:{access.line}: expected {access.expected:#x}, got {got:#x}")
    assert wrong == []


_PLACES = st.one_of(
    st.sampled_from([*range(0x20, 0x22), *range(0x40, 0x44), 0x61, 0x70, 0x71, 0xA0, 0xA1, 0x4D0, 0x4D1]),
    st.integers(0x2F8, 0x2FF),
    st.integers(0xB000, 0xB00C),
)
_REGISTERS = st.one_of(
    st.integers(0, 0x400).map(lambda offset: APIC_BASE + offset),
    st.sampled_from([IOAPIC_BASE, IOAPIC_BASE + 0x10, IOAPIC_BASE + 0xFFF]),
)
_CHAOS = st.lists(
    st.tuples(
        st.one_of(st.tuples(st.just("port"), _PLACES), st.tuples(st.just("register"), _REGISTERS)),
        st.sampled_from([1, 2, 4]),
        st.one_of(st.none(), st.integers(0, 0xFF), st.integers(0, 0xFFFF_FFFF)),
        st.sampled_from([0, 1_000, MILLISECOND, 700 * MILLISECOND]),
    ),
    max_size=60,
)


@given(_CHAOS)
def test_whatever_a_guest_writes_reads_fit_their_size_and_time_goes_on(
    accesses: list[tuple[tuple[str, int], int, int | None, int]],
) -> None:
    bench = Bench(vcpus=2)
    for (kind, place), size, value, nanoseconds in accesses:
        space = bench.ports if kind == "port" else bench.mmio
        if value is None:
            assert 0 <= space.read(place, size) < 1 << 8 * size
        else:
            space.write(place, size, value & (1 << 8 * size) - 1)
        bench.clock.pass_(nanoseconds)
        if bench.platform.pending_vector(0):
            vector = bench.platform.acknowledge(0)
            assert vector is not None and 0 <= vector <= 0xFF


def test_an_untouched_pc_sets_no_timer_and_interrupts_nobody() -> None:
    bench = Bench()
    bench.clock.pass_(5_000 * MILLISECOND)
    assert bench.clock.timers.next_expiry() is None
    assert not bench.platform.pending_vector(0)


def test_a_stopped_platform_leaves_no_timer_behind() -> None:
    bench = Bench(vcpus=2)
    bench.out(0x21, 0xFE)
    for index, value in ((0x0A, 0x26), (0x0B, 0x42)):
        bench.out(0x70, index)
        bench.out(0x71, value)
    bench.ports.write(0xB002, 2, 1)
    for bench.current in range(2):
        for register, value in ((0xF0, 0x1FF), (0x320, 0x40), (0x380, 1 << 30)):
            bench.put(APIC_BASE + register, value)
    assert bench.clock.timers.next_expiry() is not None
    bench.platform.stop()
    assert bench.clock.timers.next_expiry() is None


def test_the_clocks_memory_tells_how_much_ram_there_is() -> None:
    bench = Bench()

    def word(index: int) -> int:
        bench.out(0x70, index)
        low = bench.in_(0x71)
        bench.out(0x70, index + 1)
        return low | bench.in_(0x71) << 8

    assert (word(0x15), word(0x17), word(0x30), word(0x34)) == (640, 63 * 1024, 63 * 1024, 48 * 16)


def test_an_interrupt_of_the_8259_reaches_the_processor_through_pin_0_of_the_io_apic() -> None:
    bench = Bench(vcpus=2)
    bench.out(0x21, 0xEF)
    bench.out(0x3FB, 3)
    bench.out(0x3F9, 2)
    assert bench.platform.pending_vector(0) and not bench.platform.pending_vector(1)
    assert bench.processors[0].told[-1] == "kick"
    assert bench.platform.acknowledge(0) == 0x0C


def test_unmasking_pin_0_lets_an_interrupt_through_that_waited() -> None:
    bench = Bench()
    bench.put(IOAPIC_BASE, 0x10)
    bench.put(IOAPIC_BASE + 0x10, 0x1_0700)
    bench.out(0x21, 0xEF)
    bench.out(0x3F9, 2)
    bench.processors[0].told.clear()
    bench.put(IOAPIC_BASE + 0x10, 0x700)
    assert bench.processors[0].told == ["kick"]
    assert bench.platform.acknowledge(0) == 0x0C


def test_with_pin_0_masked_lint0_lets_the_8259_through() -> None:
    bench = Bench()
    bench.out(0x21, 0xEF)
    bench.out(0x3F9, 2)
    bench.put(IOAPIC_BASE, 0x10)
    bench.put(IOAPIC_BASE + 0x10, 0x1_0000)
    assert not bench.platform.pending_vector(0)
    bench.processors[0].told.clear()
    bench.put(APIC_BASE + 0x350, 0x700)
    assert bench.platform.pending_vector(0)
    assert bench.processors[0].told == ["kick"]


def test_each_vcpu_sees_its_own_local_apic() -> None:
    bench = Bench(vcpus=3)
    ids = []
    for bench.current in range(3):
        ids.append(bench.get(APIC_BASE + 0x20) >> 24)
    assert ids == [0, 2, 4]


def test_a_local_apic_that_the_msr_has_switched_off_is_not_there() -> None:
    bench = Bench()
    assert bench.platform.lapics[0].set_base(APIC_BASE | 0x100)
    assert bench.get(APIC_BASE + 0x30) == 0xFFFF_FFFF
    assert bench.platform.external_target() == 0
