"""Accesses to addresses where no memory is: the instruction is emulated, the device answers."""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, layout
from pvemu.hypervisor.emulate import Emulator, InstructionFault, Memory, NoInstruction, Unemulated
from pvemu.hypervisor.hvm.event import Event
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.instruction_fetch import DR6_SINGLE_STEP, fetch_code
from pvemu.hypervisor.hvm.linear_memory import LinearMemory, NoCode
from pvemu.memory.guest_walk import GuestPageFault

if TYPE_CHECKING:
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
        """Load what will be stored to; raises GuestPageFault as the store would."""
        self._memory.check_write(address, size, user=self._user)
        return self.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Store; raises GuestPageFault."""
        self._memory.write(address, data, user=self._user)


def _no_instruction(vcpu: "Vcpu") -> Event:
    """The bytes at EIP make no instruction: it is invalid, or the rest of it can't be had."""
    try:
        fetch_code(vcpu, whole=True)
    except GuestPageFault as fault:
        return Event(exits.PF, error_code=fault.error_code, address=fault.address)
    except NoCode:
        return Event(exits.GP, error_code=0)
    return Event(exits.UD)


class InstructionEmulation:
    """Emulates instructions of HVM guests at which an access could not be left to the processor."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def access_device(self, vcpu: "Vcpu") -> None:
        """Carry out the instruction at EIP, which has met no memory, or memory that can't be written.

        One that is not known ends the domain.
        """
        try:
            self.emulate(vcpu)
        except NoInstruction:
            deliver(vcpu, _no_instruction(vcpu))
        except Unemulated as reason:
            vcpu.domain.crash(f"access to no memory, by an instruction that is not emulated: {reason}")

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
            steps = self._emulator.step(InstructionMemory(vcpu.hvm_state.linear_memory, user=user), code)
        except GuestPageFault as fault:
            deliver(vcpu, Event(exits.PF, error_code=fault.error_code, address=fault.address))
        except NoCode:
            deliver(vcpu, Event(exits.GP, error_code=0))
        except InstructionFault as fault:
            deliver(vcpu, Event(fault.vector, error_code=fault.error_code))
        else:
            if steps:
                window.u64[_DR6] |= DR6_SINGLE_STEP
                deliver(vcpu, Event(exits.DB))
