"""A local APIC in xAPIC mode: the registers at 0xFEE00000, priorities, and interrupts between vCPUs.

Sources: Intel SDM volume 3, chapter 11; what differs between processors (version, APIC ids of twice the
vCPU's number, reserved registers that read 0 and raise no error) is as in Xen's HVM guests.
"""

from collections.abc import Callable
from typing import Final

from pvemu.hypervisor.hvm.apic_bus import BROADCAST, ApicBus, DeliveryMode, Message, Processor, Shorthand
from pvemu.hypervisor.hvm.apic_local_vectors import LOCAL_VECTORS, LVT_ERROR, LVT_TIMER, LocalVectors
from pvemu.hypervisor.hvm.apic_timer import ApicTimer, TimerMode
from pvemu.hypervisor.hvm.apic_vectors import ApicVectors
from pvemu.hypervisor.timers import Timers

#: Where the registers are, and how many bytes they take.
APIC_BASE: Final = 0xFEE0_0000
APIC_SIZE: Final = 0x1000
# The MSR IA32_APIC_BASE.
_BASE_BOOTSTRAP: Final = 0x100
_BASE_ENABLE: Final = 0x800

# Registers by offset; each takes 16 bytes, of which the lowest 4 count.
_ID, _VERSION, _TPR, _PPR, _EOI = 0x20, 0x30, 0x80, 0xA0, 0xB0
_LDR, _DFR, _SVR = 0xD0, 0xE0, 0xF0
_ISR, _ESR = 0x100, 0x280  # TMR and IRR stand between
_ICR, _ICR_HIGH = 0x300, 0x310
_INITIAL_COUNT, _CURRENT_COUNT, _DIVIDE = 0x380, 0x390, 0x3E0

#: Version 0x14 with six local vectors.
_VERSION_VALUE: Final = 0x0005_0014
_SOFTWARE_ENABLE: Final = 0x100
_SVR_MASK: Final = 0x3FF
_SVR_AT_START: Final = 0xFF
_FLAT: Final = 0xF
_SEND_PENDING: Final = 0x1000
_LEAST_VECTOR: Final = 16
_SEND_ILLEGAL_VECTOR: Final = 0x20
_RECEIVE_ILLEGAL_VECTOR: Final = 0x40


class Vlapic:
    """One vCPU's local APIC.

    Attributes:
        enabled: called when software has switched it on.

    Args:
        vcpu_id: the vCPU's number; its APIC id is twice that.
        timers, now: timers on the clock, and the clock, both in ns.
        bus: the other local APICs, and who wants to hear of ends of interrupts.
        processor: the vCPU.
    """

    def __init__(
        self, vcpu_id: int, timers: Timers, now: Callable[[], int], bus: ApicBus, processor: Processor
    ) -> None:
        self._bus = bus
        self._processor = processor
        self.enabled: Callable[[], None] = lambda: None
        self._timer = ApicTimer(timers, now, self._timer_ended)
        self._id = vcpu_id * 2
        self.base = APIC_BASE | _BASE_ENABLE | (0 if vcpu_id else _BASE_BOOTSTRAP)
        self.reset()
        bus.attach(self)

    def reset(self) -> None:
        """The state after an INIT: everything but the id and the MSR."""
        self._vectors = ApicVectors()
        self._errors = self._shown_errors = 0
        self._logical_id, self._model = 0, _FLAT
        self._spurious = _SVR_AT_START
        self._command = self._command_high = 0
        self._local = LocalVectors()
        self._timer.reset()

    def stop(self) -> None:
        """The domain is gone: interrupt nobody any more."""
        self._timer.reset()

    # --- the processor's side ----------------------------------------------------------------------

    @property
    def apic_id(self) -> int:
        """Its id, as physical destinations name it."""
        return self._id

    def set_base(self, value: int) -> bool:
        """Take a value for the MSR IA32_APIC_BASE; False where the processor faults instead.

        The registers can't be moved and there is no x2APIC mode. Switched off and on again it is as new.
        """
        if value & ~(_BASE_BOOTSTRAP | _BASE_ENABLE | 0xFFFF_FFFF_F000) or value >> 48:
            return False
        if value & _BASE_ENABLE and value & ~0xFFF != APIC_BASE:
            return False
        if value & ~self.base & _BASE_ENABLE:
            self.reset()
        elif self.base & ~value & _BASE_ENABLE:
            self._timer.configure(TimerMode.ONE_SHOT, masked=True)
        self.base = value
        return True

    @property
    def is_on(self) -> bool:
        """Whether the MSR has not switched it off: then its registers are there."""
        return bool(self.base & _BASE_ENABLE)

    @property
    def is_enabled(self) -> bool:
        """Whether it takes interrupts: switched on by the MSR and by software."""
        return self.is_on and bool(self._spurious & _SOFTWARE_ENABLE)

    @property
    def priority(self) -> int:
        """The processor priority register."""
        return self._vectors.priority

    @property
    def task_priority(self) -> int:
        """The task priority register; CR8 is its upper four bits."""
        return self._vectors.task_priority

    @task_priority.setter
    def task_priority(self, value: int) -> None:
        self._vectors.task_priority = value & 0xFF
        self._settle()

    @property
    def deadline(self) -> int:
        """The MSR IA32_TSC_DEADLINE."""
        return self._timer.deadline

    @deadline.setter
    def deadline(self, tsc: int) -> None:
        self._timer.deadline = tsc

    def highest_pending(self) -> int | None:
        """The vector that may be delivered now, if there is one."""
        return self._vectors.highest_pending() if self.is_enabled else None

    def acknowledge(self, vector: int) -> None:
        """Take a pending vector into service: the processor is about to enter its handler."""
        self._vectors.acknowledge(vector)

    def accepts_external(self) -> bool:
        """Whether LINT0 lets the 8259's interrupts through to the processor."""
        return not self.is_on or self._local.lint0_is_external

    # --- the bus's side ----------------------------------------------------------------------------

    def matches(self, destination: int, *, is_logical: bool) -> bool:
        """Whether a message to this destination is for it."""
        if not is_logical:
            return destination in (self._id, BROADCAST)
        if self._model == _FLAT:
            return bool(self._logical_id & destination)
        # Clusters: the upper half names one, or all with 15.
        is_here = destination >> 4 in (self._logical_id >> 4, 0xF)
        return is_here and bool(self._logical_id & destination & 0xF)

    def take(self, message: Message) -> None:
        """Receive a message."""
        if message.mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY):
            if self.is_enabled:
                self.set_irq(message.vector, is_level=message.is_level)
        elif message.mode == DeliveryMode.NMI:
            self._processor.nmi()
        elif message.mode == DeliveryMode.INIT and message.asserts:
            self.reset()
            self._processor.init()
        elif message.mode == DeliveryMode.STARTUP:
            self._processor.start_up(message.vector)

    def set_irq(self, vector: int, *, is_level: bool = False) -> None:
        """Request an interrupt; vectors below 16 are an error."""
        if vector < _LEAST_VECTOR:
            self._error(_RECEIVE_ILLEGAL_VECTOR)
            return
        self._vectors.request(vector, is_level=is_level)
        self._settle()

    # --- the guest's side --------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Read from the register page. What does not lie within the 32 bits of a register reads 0."""
        if offset % 16 + size > 4:
            return 0
        return self._read(offset & ~0xF) >> offset % 16 * 8 & (1 << size * 8) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write to the register page; the rest of a register that is written in part stays as it is."""
        if offset % 16 + size > 4:
            return
        register, shift = offset & ~0xF, offset % 16 * 8
        if size < 4:
            part = (1 << size * 8) - 1 << shift
            value = self._read(register) & ~part | value << shift & part
        self._write(register, value & 0xFFFF_FFFF)

    def _read(self, register: int) -> int:
        reader = _READERS.get(register)
        if reader is not None:
            return reader(self)
        if register in LOCAL_VECTORS:
            return self._local[register]
        if _ISR <= register < _ESR:
            return self._vectors.word(register - _ISR >> 4)
        return 0

    def _write(self, register: int, value: int) -> None:
        if register in LOCAL_VECTORS:
            self._local.write(register, value, may_unmask=bool(self._spurious & _SOFTWARE_ENABLE))
            self._vectors_changed()
        elif register in _WRITERS:
            _WRITERS[register](self, value)

    def _vectors_changed(self) -> None:
        """Let a change of local vectors reach the timer, and whoever waits for the 8259s."""
        self._timer.configure(self._local.timer_mode, masked=self._local.number(LVT_TIMER) is None)
        self._processor.kick()

    def _write_id(self, value: int) -> None:
        self._id = value >> 24

    def _write_task_priority(self, value: int) -> None:
        self.task_priority = value

    def _end_interrupt(self, _value: int) -> None:
        vector = self._vectors.end()
        if vector is not None:
            self._bus.end_of_interrupt(vector)
        self._settle()

    def _write_logical_id(self, value: int) -> None:
        self._logical_id = value >> 24

    def _write_model(self, value: int) -> None:
        self._model = value >> 28

    def _write_spurious(self, value: int) -> None:
        self._spurious = value & _SVR_MASK
        if not value & _SOFTWARE_ENABLE:
            self._local.mask_all()
            self._vectors_changed()
        else:
            self.enabled()
        self._settle()

    def _show_errors(self, _value: int) -> None:
        """A write to the error register shows what has gone wrong since the one before."""
        self._shown_errors, self._errors = self._errors, 0

    def _send(self, value: int) -> None:
        """Write the interrupt command: the message goes at once."""
        self._command = value & ~_SEND_PENDING
        mode, vector = DeliveryMode(value >> 8 & 7), value & 0xFF
        if mode in (DeliveryMode.FIXED, DeliveryMode.LOWEST_PRIORITY) and vector < _LEAST_VECTOR:
            self._error(_SEND_ILLEGAL_VECTOR)
            return
        # The end of an INIT (level-triggered, not asserted) does nothing to processors of our time.
        asserts = value & 0xC000 != 0x8000
        message = Message(mode, vector, self._command_high >> 24, bool(value & 0x800), asserts=asserts)
        self._bus.send(message, Shorthand(value >> 18 & 3), self)

    def _write_command_high(self, value: int) -> None:
        self._command_high = value & 0xFF00_0000

    def _write_initial_count(self, value: int) -> None:
        self._timer.initial_count = value

    def _write_divide(self, value: int) -> None:
        self._timer.divide_register = value

    def _timer_ended(self) -> None:
        vector = self._local.number(LVT_TIMER)
        if vector is not None:
            self.set_irq(vector)

    def _error(self, error: int) -> None:
        """Note an error, and interrupt if that is wanted and the interrupt's own vector is no error."""
        is_new = not self._errors & error
        self._errors |= error
        vector = self._local.number(LVT_ERROR)
        if is_new and vector is not None:
            if vector < _LEAST_VECTOR:
                self._errors |= _RECEIVE_ILLEGAL_VECTOR
            else:
                self.set_irq(vector)

    def _settle(self) -> None:
        if self.highest_pending() is not None:
            self._processor.kick()


_READERS: Final[dict[int, Callable[[Vlapic], int]]] = {
    _ID: lambda apic: apic._id << 24,
    _VERSION: lambda apic: _VERSION_VALUE,
    _TPR: lambda apic: apic._vectors.task_priority,
    _PPR: lambda apic: apic.priority,
    _LDR: lambda apic: apic._logical_id << 24,
    _DFR: lambda apic: apic._model << 28 | 0x0FFF_FFFF,
    _SVR: lambda apic: apic._spurious,
    _ESR: lambda apic: apic._shown_errors,
    _ICR: lambda apic: apic._command,
    _ICR_HIGH: lambda apic: apic._command_high,
    _INITIAL_COUNT: lambda apic: apic._timer.initial_count,
    _CURRENT_COUNT: lambda apic: apic._timer.current_count,
    _DIVIDE: lambda apic: apic._timer.divide_register,
}
_WRITERS: Final[dict[int, Callable[[Vlapic, int], None]]] = {
    _ID: Vlapic._write_id,
    _TPR: Vlapic._write_task_priority,
    _EOI: Vlapic._end_interrupt,
    _LDR: Vlapic._write_logical_id,
    _DFR: Vlapic._write_model,
    _SVR: Vlapic._write_spurious,
    _ESR: Vlapic._show_errors,
    _ICR: Vlapic._send,
    _ICR_HIGH: Vlapic._write_command_high,
    _INITIAL_COUNT: Vlapic._write_initial_count,
    _DIVIDE: Vlapic._write_divide,
}
