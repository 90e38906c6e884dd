"""The local vector table of a local APIC: what its own interrupt sources and its two pins do.

Source: Intel SDM volume 3, section 11.5.1.
"""

from typing import Final

from pvemu.hypervisor.hvm.apic_bus import DeliveryMode
from pvemu.hypervisor.hvm.apic_timer import TimerMode

# Registers by offset: timer, thermal sensor, performance counters, the two pins, errors.
LVT_TIMER: Final = 0x320
_THERMAL: Final = 0x330
_COUNTERS: Final = 0x340
_LINT0: Final = 0x350
_LINT1: Final = 0x360
LVT_ERROR: Final = 0x370
#: All of them, and the bits of each that can be written.
LOCAL_VECTORS: Final = {
    LVT_TIMER: 0x7_00FF,
    _THERMAL: 0x1_07FF,
    _COUNTERS: 0x1_07FF,
    _LINT0: 0x1_A7FF,
    _LINT1: 0x1_A7FF,
    LVT_ERROR: 0x1_00FF,
}
_MASKED: Final = 0x1_0000


class LocalVectors:
    """The table; masked at the start."""

    def __init__(self) -> None:
        self._values = dict.fromkeys(LOCAL_VECTORS, _MASKED)

    def __getitem__(self, register: int) -> int:
        """What a register reads as."""
        return self._values[register]

    def write(self, register: int, value: int, *, may_unmask: bool) -> None:
        """Write a register; it stays masked while software has the APIC disabled."""
        self._values[register] = value & LOCAL_VECTORS[register] | (0 if may_unmask else _MASKED)

    def mask_all(self) -> None:
        """Mask everything: software has disabled the APIC."""
        for register in self._values:
            self._values[register] |= _MASKED

    def number(self, register: int) -> int | None:
        """The interrupt that a source asks for; None while it is masked."""
        value = self._values[register]
        return None if value & _MASKED else value & 0xFF

    @property
    def timer_mode(self) -> TimerMode:
        """How the timer counts."""
        return TimerMode(self._values[LVT_TIMER] >> 17 & 3)

    @property
    def lint0_is_external(self) -> bool:
        """Whether pin LINT0 lets the 8259s' interrupts through."""
        value = self._values[_LINT0]
        return not value & _MASKED and value >> 8 & 7 == DeliveryMode.EXTERNAL
