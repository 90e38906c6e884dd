"""The small real PC around a domain's vCPUs: the hypervisor's devices, wired up, as firmware leaves them."""

from collections.abc import Callable, Sequence
from typing import Final

from pvemu.hypervisor.hvm import pmtimer, vpic, vpit, vrtc
from pvemu.hypervisor.hvm.apic_bus import ApicBus, Processor
from pvemu.hypervisor.hvm.device_space import ByteDevice, MemoryDevice, PortDevice, PortSpace
from pvemu.hypervisor.hvm.pmtimer import PmTimer
from pvemu.hypervisor.hvm.vioapic import IOAPIC_BASE, IOAPIC_SIZE, PINS, Vioapic
from pvemu.hypervisor.hvm.vlapic import APIC_BASE, APIC_SIZE, Vlapic
from pvemu.hypervisor.hvm.vpic import CASCADE, Vpic
from pvemu.hypervisor.hvm.vpit import Vpit
from pvemu.hypervisor.hvm.vrtc import Vrtc
from pvemu.hypervisor.timers import Timers

_TIMER_LINE: Final = 0
_CLOCK_LINE: Final = 8
#: The I/O APIC's pin of the timer's line; that of all others has the line's own number.
_TIMER_PIN: Final = 2
#: Lines of the ISA bus.
ISA_LINES: Final = 16

_KIB: Final = 1024
_MIB: Final = 1 << 20

# What Xen's HVM guests find when their kernel begins: the 8259s on the vectors of a PC's BIOS with all lines
# masked but the cascade, the timer at 18.2 Hz, and the 8259s' interrupts let through by the I/O APIC's pin 0.
_PORT_WRITES: Final = (
    (vpic.PRIMARY_PORT, (0x11,)),
    (vpic.PRIMARY_PORT + 1, (0x08, 0x04, 0x01, 0xFB)),
    (vpic.SECONDARY_PORT, (0x11,)),
    (vpic.SECONDARY_PORT + 1, (0x70, 0x02, 0x01, 0xFF)),
    (vpit.LAST_PORT, (0x34,)),
    (vpit.FIRST_PORT, (0x00, 0x00)),
)
_IOAPIC_WRITES: Final = (
    (0x00, 0x00),
    (0x10, 0x0100_0000),
    (0x00, 0x11),
    (0x10, 0),
    (0x00, 0x10),
    (0x10, 0x700),
)
_LAPIC_WRITES: Final = ((0xF0, 0x1FF), (0x350, 0x1_0700), (0x360, 0x400))


class SharedLine:
    """An interrupt line that several devices drive: high while any of them holds it so.

    Args:
        inputs: what the line leads to.
    """

    def __init__(self, inputs: Sequence[Callable[[bool], None]]) -> None:
        self._inputs = inputs
        self._holders = 0

    def source(self) -> Callable[[bool], None]:
        """One device's end of it."""
        held = False

        def drive(high: bool) -> None:
            nonlocal held
            if high == held:
                return
            held = high
            before, self._holders = self._holders, self._holders + (1 if high else -1)
            if not before or not self._holders:
                for lead in self._inputs:
                    lead(high)

        return drive


class _LapicWindow:
    """The page of local APIC registers: everybody who looks there sees his own."""

    def __init__(self, lapics: Sequence[Vlapic], current: Callable[[], int]) -> None:
        self._lapics = lapics
        self._current = current

    def read(self, address: int, size: int) -> int:
        lapic = self._lapics[self._current()]
        return lapic.read(address - APIC_BASE, size) if lapic.is_on else (1 << size * 8) - 1

    def write(self, address: int, size: int, value: int) -> None:
        lapic = self._lapics[self._current()]
        if lapic.is_on:
            lapic.write(address - APIC_BASE, size, value)


def memory_size_bytes(size: int) -> dict[int, int]:
    """The bytes of the clock's memory in which a PC's BIOS keeps how much RAM there is.

    Args:
        size: bytes of RAM below 4 GiB.
    """
    extended = min(max(size - _MIB, 0) // _KIB, 0xFFFF)
    above_16_mib = min(max(size - 16 * _MIB, 0) // (64 * _KIB), 0xFFFF)
    words = {0x15: 640, 0x17: extended, 0x30: extended, 0x34: above_16_mib}
    return {at + index: word >> 8 * index & 0xFF for at, word in words.items() for index in (0, 1)}


class Platform:
    """All of it for one domain.

    Attributes:
        ports: the devices at I/O ports.
        mmio: first and last guest-physical address of each device, and the device; lapic_page: of the local
            APICs, all that a PVH guest has of this.
        vpic, vioapic, vpit, vrtc, pmtimer: the devices; lapics: the local APICs by vCPU number.

    Args:
        timers, now: timers on the machine's clock, and that clock, both in ns.
        wallclock: the Unix time at the machine's start, in seconds.
        processors: the domain's vCPUs, as their local APICs see them.
        current: the number of the vCPU that accesses a device.
        power_off: ends the domain as a person does who switches a PC off.
        memory: bytes of RAM, for those who ask the clock's memory.
    """

    def __init__(
        self,
        timers: Timers,
        now: Callable[[], int],
        wallclock: Callable[[], int],
        processors: Sequence[Processor],
        current: Callable[[], int],
        power_off: Callable[[], None],
        memory: int,
    ) -> None:
        bus = ApicBus()
        self._processors = processors
        self._lines: dict[tuple[int, int], SharedLine] = {}
        self.lapics = [
            Vlapic(number, timers, now, bus, processor) for number, processor in enumerate(processors)
        ]
        self.vioapic = Vioapic(bus)
        self.vpic = Vpic(self._kick_external)
        self.vpit = Vpit(timers, now, self.isa_irq(_TIMER_LINE), self._hears_timer)
        self.vrtc = Vrtc(timers, now, wallclock, self.isa_irq(_CLOCK_LINE), memory_size_bytes(memory))
        self.pmtimer = PmTimer(timers, now, self.isa_irq(pmtimer.SCI_LINE), power_off)
        for controller in (self.vpic, self.vioapic):
            controller.before_access = self.vpit.catch_up
            controller.after_change = self._routes_changed
        port_devices: tuple[tuple[int, int, PortDevice | ByteDevice], ...] = (
            (vpic.PRIMARY_PORT, vpic.PRIMARY_PORT + 1, self.vpic),
            (vpit.FIRST_PORT, vpit.LAST_PORT, self.vpit),
            (vpit.SPEAKER_PORT, vpit.SPEAKER_PORT, self.vpit),
            (vrtc.INDEX_PORT, vrtc.DATA_PORT, self.vrtc),
            (vpic.SECONDARY_PORT, vpic.SECONDARY_PORT + 1, self.vpic),
            (vpic.ELCR_PORT, vpic.ELCR_PORT + 1, self.vpic),
            (pmtimer.EVENT_PORT, pmtimer.TIMER_PORT + 3, self.pmtimer),
        )
        self.ports = PortSpace()
        for first, last, device in port_devices:
            self.ports.add(first, last, device)
        self.lapic_page: tuple[int, int, MemoryDevice] = (
            *(APIC_BASE, APIC_BASE + APIC_SIZE - 1),
            _LapicWindow(self.lapics, current),
        )
        self.mmio: list[tuple[int, int, MemoryDevice]] = [
            (IOAPIC_BASE, IOAPIC_BASE + IOAPIC_SIZE - 1, self.vioapic),
            self.lapic_page,
        ]
        self._leave_as_firmware_does()

    def isa_irq(self, line: int) -> Callable[[bool], None]:
        """The function that drives a line of the ISA bus: it leads to the 8259s and to the I/O APIC."""
        return self._shared_line(line, _TIMER_PIN if line == _TIMER_LINE else line).source()

    def gsi(self, number: int) -> Callable[[bool], None] | None:
        """What drives a pin of the I/O APIC, and the 8259s' line of that number; None: no such pin."""
        if number >= PINS:
            return None
        if number < ISA_LINES and number not in (_TIMER_LINE, CASCADE):
            return self.isa_irq(number)
        if number == _TIMER_LINE:
            return self._shared_line(number, number).source()
        return self.vioapic.line(number)

    def _shared_line(self, line: int, pin: int) -> SharedLine:
        """The one line that leads to an input of the 8259s and to a pin of the I/O APIC."""
        shared = self._lines.get((line, pin))
        if shared is None:
            shared = self._lines[line, pin] = SharedLine((self.vpic.line(line), self.vioapic.line(pin)))
        return shared

    def external_target(self) -> int | None:
        """The number of the vCPU that the 8259s interrupt; None: nobody lets them through."""
        destination = self.vioapic.external_destination()
        for number, lapic in enumerate(self.lapics):
            if lapic.accepts_external() or (lapic.is_enabled and lapic.apic_id == destination):
                return number
        return None

    def pending_vector(self, vcpu_id: int) -> bool:
        """Whether an interrupt, of the 8259s or of its local APIC, waits for a vCPU."""
        if self.vpic.pending() and self.external_target() == vcpu_id:
            return True
        return self.lapics[vcpu_id].highest_pending() is not None

    def acknowledge(self, vcpu_id: int) -> int | None:
        """Take the interrupt that goes first for a vCPU into service; its vector, or None if there is none.

        Those of the 8259s go first, as in Xen.
        """
        if self.vpic.pending() and self.external_target() == vcpu_id:
            return self.vpic.acknowledge()
        vector = self.lapics[vcpu_id].highest_pending()
        if vector is not None:
            self.lapics[vcpu_id].acknowledge(vector)
        return vector

    def stop(self) -> None:
        """The domain is gone: no device interrupts anybody any more."""
        for stop in (self.vpit.stop, self.vrtc.stop, self.pmtimer.stop, *(each.stop for each in self.lapics)):
            stop()

    def _routes_changed(self) -> None:
        """A line may have been masked or unmasked, or the 8259s may have come to interrupt another vCPU."""
        self.vpit.rearm()
        if self.vpic.pending():
            self._kick_external()

    def _kick_external(self) -> None:
        target = self.external_target()
        if target is not None:
            self._processors[target].kick()

    def _hears_timer(self) -> bool:
        return self.vpic.hears(_TIMER_LINE) or self.vioapic.hears(_TIMER_PIN)

    def _leave_as_firmware_does(self) -> None:
        for port, values in _PORT_WRITES:
            for value in values:
                self.ports.write(port, 1, value)
        for offset, value in _IOAPIC_WRITES:
            self.vioapic.write(IOAPIC_BASE + offset, 4, value)
        for offset, value in _LAPIC_WRITES:
            self.lapics[0].write(offset, 4, value)
