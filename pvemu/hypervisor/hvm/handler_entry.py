"""What entering a handler has in common in every mode: a stack frame is written, then all registers change.

Nothing in the state window changes before the frame is written, so a fault on the way leaves the guest as it
was.
"""

from collections.abc import Sequence
from typing import Final

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.mode import derive_engine_flags
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.hvm.segment_registers import Fault, SegmentRegister, SystemMemory, write_segment
from pvemu.memory.guest_walk import GuestPageFault

_EIP, _ESP, _REST = layout.EIP // 8, layout.RSP, layout.EFLAGS // 8
_HFLAGS = layout.HFLAGS // 4


def push(
    memory: SystemMemory,
    stack: SegmentRegister,
    pointer: int,
    words: Sequence[int],
    size: int,
    error_code: int,
) -> int:
    """Push words of `size` bytes on a stack; the new stack pointer, of which only the mask's bits count.

    Raises:
        Fault: #SS with the error code, beyond the stack's limit.
        GuestPageFault: it is not mapped. As on a processor, words above that place have been written.
    """
    mask, total = stack.stack_mask, size * len(words)
    ones = (1 << 8 * size) - 1
    pointer &= mask
    if pointer >= total and stack.contains(pointer - total, total):
        frame = b"".join((word & ones).to_bytes(size, "little") for word in reversed(words))
        push_frame(memory, stack.base + pointer - total & 0xFFFFFFFF, frame, size)
        return pointer - total
    for word in words:
        pointer = pointer - size & mask
        if not stack.contains(pointer, size):
            raise Fault(exits.SS, error_code)
        memory.write(stack.base + pointer & 0xFFFFFFFF, (word & ones).to_bytes(size, "little"))
    return pointer


def push_frame(memory: SystemMemory, address: int, frame: bytes, size: int) -> None:
    """Write a whole frame, at once if that is possible; else a page fault names the word that comes first.

    Raises:
        GuestPageFault: it is not mapped.
    """
    try:
        memory.write(address, frame)
    except GuestPageFault:
        for at in range(len(frame) - size, -size, -size):
            memory.write(address + at, frame[at : at + size])
        raise


def enter(
    window: StateWindow, eip: int, stack_pointer: int, segments: dict[int, SegmentRegister], cleared: int
) -> None:
    """Load the handler's registers.

    Args:
        stack_pointer: the whole register.
        segments: segment registers that change.
        cleared: flags that the handler begins without.
    """
    u32, u64 = window.u32, window.u64
    u64[_EIP], u64[_ESP] = eip, stack_pointer
    u64[_REST] &= ~cleared
    u32[_HFLAGS] &= ~layout.HF_INHIBIT_IRQ
    for register, segment in segments.items():
        write_segment(window, register, segment)
    derive_engine_flags(window)


def shown_flags(window: StateWindow, is_fault: bool) -> int:
    """EFLAGS for the frame: with RF when the instruction will run again (SDM volume 3, section 17.3.1.1)."""
    return flags.read_eflags(window) | (flags.RF if is_fault else 0)


#: Cleared on the way into every handler of protected and long mode; interrupt gates clear IF, too.
HANDLER_CLEARS: Final = flags.TF | flags.NT | flags.RF | flags.VM
