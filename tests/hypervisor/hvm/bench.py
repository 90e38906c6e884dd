"""A PC on the bench: the platform and two serial ports, a clock that stands still unless it is moved."""

from pvemu.hypervisor.hvm.device_space import MmioSpace
from pvemu.hypervisor.hvm.platform import Platform
from pvemu.hypervisor.timers import Timers
from pvemu.services.device_model.serial import COM1, COM2, PORTS, Serial

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
#: 14 November 2023, 22:13:20 UTC, a Tuesday.
WALLCLOCK = 1_700_000_000
MEMORY = 64 << 20


class StillProcessor:
    """A vCPU that notes what its local APIC tells it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def kick(self) -> None:
        self.told.append("kick")

    def nmi(self) -> None:
        self.told.append("nmi")

    def init(self) -> None:
        self.told.append("init")

    def start_up(self, page: int) -> None:
        self.told.append(f"start_up {page:#x}")


class Clock:
    """The virtual clock, in ns, with its timers."""

    def __init__(self) -> None:
        self.now = 0
        self.timers = Timers()

    def pass_(self, nanoseconds: int) -> None:
        """Let time pass; timers expire at their times."""
        end = self.now + nanoseconds
        while (expiry := self.timers.next_expiry()) is not None and expiry <= end:
            self.now = max(self.now, expiry)
            self.timers.run_expired(self.now)
        self.now = end


class Bench:
    """A PC with some vCPUs, accessed by the first unless `current` says otherwise."""

    def __init__(self, vcpus: int = 1) -> None:
        self.clock = Clock()
        self.current = 0
        self.power_offs = 0
        self.processors = [StillProcessor() for _ in range(vcpus)]
        self.platform = Platform(
            self.clock.timers,
            lambda: self.clock.now,
            lambda: WALLCLOCK,
            self.processors,
            lambda: self.current,
            self._power_off,
            MEMORY,
        )
        self.ports, self.mmio = self.platform.ports, MmioSpace()
        for first, last, memory_device in self.platform.mmio:
            self.mmio.add(first, last, memory_device)
        self.printed = bytearray()
        self.com1, self.com2 = (
            Serial(first, self.platform.isa_irq(line), self.printed.extend) for first, line in (COM1, COM2)
        )
        for (first, _), serial in ((COM1, self.com1), (COM2, self.com2)):
            self.ports.add(first, first + PORTS - 1, serial)

    def _power_off(self) -> None:
        self.power_offs += 1

    def out(self, port: int, *values: int) -> None:
        for value in values:
            self.ports.write(port, 1, value)

    def in_(self, port: int) -> int:
        return self.ports.read(port, 1)

    def put(self, address: int, value: int) -> None:
        self.mmio.write(address, 4, value)

    def get(self, address: int) -> int:
        return self.mmio.read(address, 4)
