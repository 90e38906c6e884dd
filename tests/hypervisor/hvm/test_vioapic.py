"""The I/O APIC: edges, levels that come again, and destinations."""

from collections.abc import Callable

from bench import Bench

from pvemu.hypervisor.hvm.vioapic import IOAPIC_BASE
from pvemu.hypervisor.hvm.vlapic import APIC_BASE

EOI, SVR = 0xB0, 0xF0
LEVEL, MASKED, LOGICAL, LOWEST, NMI = 0x8000, 0x1_0000, 0x800, 0x100, 0x400
REMOTE_IRR = 0x4000
IRR_OF_0X71 = 0x230
PIN = 11


class Pins:
    """An I/O APIC with local APICs that are enabled; line 11 is at hand."""

    def __init__(self, vcpus: int = 1) -> None:
        self.bench = Bench(vcpus)
        for self.bench.current in reversed(range(vcpus)):
            self.bench.put(APIC_BASE + SVR, 0x1FF)
        self.line: Callable[[bool], None] = self.bench.platform.isa_irq(PIN)

    def route(self, low: int, destination: int = 0, pin: int = PIN) -> None:
        for register, value in ((0x11 + 2 * pin, destination << 24), (0x10 + 2 * pin, low)):
            self.bench.put(IOAPIC_BASE, register)
            self.bench.put(IOAPIC_BASE + 0x10, value)

    def entry(self) -> int:
        self.bench.put(IOAPIC_BASE, 0x10 + 2 * PIN)
        return self.bench.get(IOAPIC_BASE + 0x10)

    def take(self, vcpu: int = 0) -> int | None:
        """Acknowledge and end what a vCPU's local APIC has; its vector."""
        vector = self.bench.platform.acknowledge(vcpu)
        if vector is not None:
            self.bench.current = vcpu
            self.bench.put(APIC_BASE + EOI, 0)
        return vector


def test_an_edge_interrupts_once() -> None:
    pins = Pins()
    pins.route(0x70)
    pins.line(True)
    pins.line(True)
    assert [pins.take(), pins.take()] == [0x70, None]
    pins.line(False)
    pins.line(True)
    assert pins.take() == 0x70


def test_an_edge_on_a_masked_pin_is_lost() -> None:
    pins = Pins()
    pins.route(0x70 | MASKED)
    pins.line(True)
    pins.route(0x70)
    assert pins.take() is None


def test_a_level_comes_again_after_its_end_as_long_as_it_is_high() -> None:
    pins = Pins()
    pins.route(0x71 | LEVEL)
    pins.line(True)
    assert pins.entry() == 0x71 | LEVEL | REMOTE_IRR
    assert [pins.take(), pins.take()] == [0x71, 0x71]
    pins.line(False)
    assert [pins.take(), pins.take()] == [0x71, None]
    assert pins.entry() == 0x71 | LEVEL


def test_a_level_does_not_come_again_before_its_end() -> None:
    pins = Pins()
    pins.route(0x71 | LEVEL)
    pins.line(True)
    assert pins.bench.platform.acknowledge(0) == 0x71
    pins.line(False)
    pins.line(True)
    assert pins.bench.get(APIC_BASE + IRR_OF_0X71) == 0
    pins.bench.put(APIC_BASE + EOI, 0)
    assert pins.take() == 0x71


def test_a_pin_reaches_whom_its_entry_names() -> None:
    pins = Pins(3)
    for pins.bench.current in range(3):
        pins.bench.put(APIC_BASE + 0xD0, 1 << 24 + pins.bench.current)
    for low, destination, receivers in (
        (0x72, 4, [2]),
        (0x73, 0xFF, [0, 1, 2]),
        (0x74 | LOGICAL, 0b011, [0, 1]),
        (0x75 | LOGICAL | LOWEST, 0b110, [1]),
        (0x76, 7, []),
    ):
        pins.route(low, destination)
        pins.line(True)
        pins.line(False)
        assert [vcpu for vcpu in range(3) if pins.take(vcpu) == low & 0xFF] == receivers


def test_a_pin_may_send_a_non_maskable_interrupt() -> None:
    pins = Pins()
    pins.bench.processors[0].told.clear()
    pins.route(NMI)
    pins.line(True)
    assert pins.bench.processors[0].told == ["nmi"]


def test_the_timer_at_pin_2_interrupts_without_the_8259() -> None:
    pins = Pins()
    pins.route(0x77, pin=2)
    pins.bench.clock.pass_(60_000_000)
    assert pins.take() == 0x77


def test_a_masked_timer_pin_loses_what_has_passed() -> None:
    pins = Pins()
    pins.bench.clock.pass_(60_000_000)
    pins.route(0x77, pin=2)
    assert pins.take() is None
    pins.bench.clock.pass_(60_000_000)
    assert pins.take() == 0x77


def test_it_says_how_many_pins_it_has() -> None:
    pins = Pins()
    pins.bench.put(IOAPIC_BASE, 0x01)
    assert pins.bench.get(IOAPIC_BASE + 0x10) == 0x002F_0011
