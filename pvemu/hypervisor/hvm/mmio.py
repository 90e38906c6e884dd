"""Accesses to addresses where no memory is: the instruction is emulated, the device answers."""

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from pvemu.cpu import exits, layout
from pvemu.cpu.clock import EXIT_COST
from pvemu.hypervisor.emulate import Emulator, Memory, NoInstruction, Unemulated
from pvemu.hypervisor.hvm.event import REFUSALS, Event, event_of
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.instruction_fetch import DR6_SINGLE_STEP, fetch_code
from pvemu.hypervisor.hvm.linear_memory import LinearMemory

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

_HFLAGS: Final = layout.HFLAGS // 4
_DR6: Final = layout.DR // 8 + 6


class InstructionMemory(Memory):
    """Memory as an emulated instruction of a vCPU has it: with the rights of its ring."""

    __slots__ = ("_memory", "_user")

    def __init__(self, memory: LinearMemory, *, user: bool) -> None:
        self._memory = memory
        self._user = user

    def read(self, address: int, size: int) -> bytes:
        """Load; raises GuestPageFault."""
        return self._memory.read(address, size, user=self._user)

    def read_for_write(self, address: int, size: int) -> bytes:
        """Load what will be stored to; raises GuestPageFault, before any device is asked.

        The fault is that of the load, or else that of the store: so does the engine.
        """
        self._memory.check_read(address, size, user=self._user)
        self._memory.check_write(address, size, user=self._user)
        return self.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Store; raises GuestPageFault."""
        self._memory.write(address, data, user=self._user)


def _no_instruction(vcpu: "Vcpu") -> Event:
    """The bytes at EIP make no instruction: it is invalid, or the rest of it can't be had."""
    try:
        fetch_code(vcpu, whole=True)
    except REFUSALS as refusal:
        return event_of(refusal)
    return Event(exits.UD)


class InstructionEmulation:
    """Emulates instructions of HVM guests at which an access could not be left to the processor."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._told: WeakKeyDictionary[Domain, set[str]] = WeakKeyDictionary()

    def access_device(self, vcpu: "Vcpu") -> None:
        """Carry out the instruction at EIP, which has met no memory, or memory that can't be written.

        One that is not known is #UD, as for Xen's emulator (hvm_emulate_one_insn).
        """
        try:
            self.emulate(vcpu)
        except NoInstruction:
            deliver(vcpu, _no_instruction(vcpu))
        except Unemulated as unknown:
            self._tell(vcpu, str(unknown))
            deliver(vcpu, Event(exits.UD))

    def _tell(self, vcpu: "Vcpu", instruction: str) -> None:
        """Log what is not known, of each domain and instruction once: a guest must not fill the log."""
        told = self._told.setdefault(vcpu.domain, set())
        if instruction not in told:
            told.add(instruction)
            vcpu.domain.hypervisor.log.xen(f"MMIO emulation failed: {vcpu} {instruction}")

    def emulate(self, vcpu: "Vcpu") -> None:
        """Carry out the instruction at EIP on guest memory and devices; faults are the guest's.

        No device has code: an instruction that is not in memory is #GP(0), as Xen has it.

        Raises:
            Unemulated: the instruction is not known.
        """
        window = vcpu.domain.hypervisor.cpu.window
        user = window.u32[_HFLAGS] & layout.HF_CPL == layout.HF_CPL
        try:
            code = fetch_code(vcpu)
            try:
                steps = self._emulator.step(InstructionMemory(vcpu.hvm.linear_memory, user=user), code)
            finally:  # each element of a string is what an exit of its own would be
                vcpu.domain.hypervisor.charge((self._emulator.iterations - 1) * EXIT_COST)
        except REFUSALS as refusal:
            deliver(vcpu, event_of(refusal))
        else:
            if steps:
                window.u64[_DR6] |= DR6_SINGLE_STEP
                deliver(vcpu, Event(exits.DB))
