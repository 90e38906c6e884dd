"""REP INS and REP OUTS at a port through which much data goes: one exit moves as much of it as there is.

As in Xen, no further than to the end of the page, so that no fault can come in between. The engine asks for
each element by itself: the first one it moves, the others are moved here, and what it then finds in the
registers is an instruction that has come to its last one.
"""

from typing import TYPE_CHECKING, Protocol

from pvemu.cpu import flags, layout
from pvemu.hypervisor.emulate import InstructionFault
from pvemu.hypervisor.emulate.translation import register, set_register
from pvemu.hypervisor.hvm.instruction_fetch import fetch, operand_address
from pvemu.memory.guest_walk import GuestPageFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_HFLAGS, _EFLAGS, _DF = layout.HFLAGS // 4, layout.EFLAGS // 8, layout.DF // 4
_FORWARD = 1


class StringDevice(Protocol):
    """What a port has to offer for this."""

    def waiting(self, *, is_write: bool) -> int:
        """How many bytes it can give, or take, without anybody's looking at another register before."""

    def take(self, size: int) -> bytes:
        """Give so many of them."""

    def put(self, data: bytes) -> None:
        """Take them."""


def move_the_rest(vcpu: "Vcpu", device: StringDevice, size: int, *, is_write: bool) -> None:
    """The first element of an IN or OUT has been moved: if it was a string's, move what follows.

    Args:
        size: bytes of an element.
        is_write: it is an OUT.
    """
    hypervisor = vcpu.domain.hypervisor
    window, memory = hypervisor.cpu.window, vcpu.hvm.linear_memory
    if window.u32[_DF] != _FORWARD or window.u64[_EFLAGS] & flags.TF:
        return
    instruction = fetch(vcpu)
    if instruction is None or not instruction.repeat:
        return
    operand = next((each for each in instruction.operands if each.kind == "memory"), None)
    if operand is None:
        return
    width, index = instruction.address_size, layout.RSI if is_write else layout.RDI
    count = register(window, layout.RCX, width)()
    user = window.u32[_HFLAGS] & layout.HF_CPL == layout.HF_CPL
    try:
        first = operand_address(window, instruction, operand, size, write=not is_write)
        room = PAGE_SIZE - (first & PAGE_MASK) - size
        number = min(count - 1, room // size, device.waiting(is_write=is_write) // size)
        if number <= 0:
            return
        operand_address(window, instruction, operand, (number + 1) * size, write=not is_write)
        if is_write:
            device.put(memory.read(first + size, number * size, user=user))
        else:
            memory.check_write(first + size, number * size, user=user)
            if _holds_code(vcpu, first):
                return
            memory.write(first + size, device.take(number * size), user=user)
    except (InstructionFault, GuestPageFault):
        return
    set_register(window, layout.RCX, width)(count - number)
    ones = (1 << 8 * width) - 1
    set_register(window, index, width)(register(window, index, width)() + number * size & ones)


def _holds_code(vcpu: "Vcpu", address: int) -> bool:
    """Whether a page holds translated code, which only the engine may change in the middle of a block."""
    mfn = vcpu.domain.p2m.get(vcpu.hvm.linear_memory.place(address, 0, update=False) >> PAGE_SHIFT)
    return mfn is None or mfn in vcpu.domain.hypervisor.cpu.code_frames
