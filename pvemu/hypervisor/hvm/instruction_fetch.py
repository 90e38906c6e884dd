"""The instruction at EIP of an HVM guest, and going on behind it."""

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.decode import LONGEST, Decoder, Instruction, Operand
from pvemu.cpu.mode import code_bits
from pvemu.cpu.state_window import StateWindow
from pvemu.hypervisor.emulate.translation import Mode, Translation
from pvemu.hypervisor.hvm.event import Event
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.linear_memory import NoCode
from pvemu.memory.guest_walk import GuestPageFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_EIP, _EFLAGS, _HFLAGS = layout.EIP // 8, layout.EFLAGS // 8, layout.HFLAGS // 4
_CS_BASE = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.BASE) // 8
_LOW: Final = 0xFFFFFFFF
DR6_SINGLE_STEP: Final = 1 << 14

_DECODERS: Final = {bits: Decoder(bits) for bits in (16, 32, 64)}


def fetch_code(vcpu: "Vcpu", *, whole: bool = False) -> bytes:
    """The bytes at EIP: 15 of them, or as many as can be read.

    Raises:
        GuestPageFault, NoCode: not even the first can, or if `whole` not all.
    """
    window, memory = vcpu.domain.hypervisor.cpu.window, vcpu.hvm.linear_memory
    address, hflags = window.u64[_EIP], window.u32[_HFLAGS]
    if not hflags & layout.HF_CS64:
        address = address + window.u64[_CS_BASE] & _LOW
    user = hflags & layout.HF_CPL == layout.HF_CPL
    inside = PAGE_SIZE - (address & PAGE_MASK)
    code: bytes = memory.fetch(address, inside if inside < LONGEST else LONGEST, user=user)
    if inside < LONGEST:
        with nullcontext() if whole else suppress(GuestPageFault, NoCode):
            code += memory.fetch(address + inside, LONGEST - inside, user=user)
    return code


def fetch(vcpu: "Vcpu") -> Instruction | None:
    """The instruction at EIP; None when its bytes make none, or can't be read (any more)."""
    try:
        code = fetch_code(vcpu)
    except (GuestPageFault, NoCode):
        return None
    return _DECODERS[code_bits(vcpu.domain.hypervisor.cpu.window)].decode(0, code)


def operand_address(
    window: StateWindow, instruction: Instruction, operand: Operand, size: int, *, write: bool = False
) -> int:
    """The linear address of a memory operand of `size` bytes.

    Raises:
        InstructionFault: its segment does not allow the access.
    """
    bits = code_bits(window)
    stack_bits = 64 if bits == 64 else 32 if window.u32[_HFLAGS] & layout.HF_SS32 else 16
    protected = window.u32[_HFLAGS] & layout.HF_PE and not window.u64[_EFLAGS] & flags.VM
    mode = Mode(bits, stack_bits, bool(protected), is_checked=True)
    return Translation(window, mode, instruction).place(operand, size, write=write)()


def instruction_length(vcpu: "Vcpu") -> int:
    """Bytes of the instruction at EIP, which the engine has executed or reported; 0 if it is gone."""
    instruction = fetch(vcpu)
    return 0 if instruction is None else instruction.length


def retire(vcpu: "Vcpu", length: int) -> None:
    """Go on behind an instruction that was carried out; with TF set that is a single step.

    An interrupt shadow (STI, MOV SS) ends with it.
    """
    window = vcpu.domain.hypervisor.cpu.window
    u32, u64 = window.u32, window.u64
    following, hflags, rest = u64[_EIP] + length, u32[_HFLAGS], u64[_EFLAGS]
    u64[_EIP] = following if hflags & layout.HF_CS64 else following & _LOW
    if hflags & layout.HF_INHIBIT_IRQ:
        u32[_HFLAGS] = hflags & ~layout.HF_INHIBIT_IRQ
    if rest & (flags.RF | flags.TF):
        u64[_EFLAGS] = rest & ~flags.RF
        if rest & flags.TF:
            u64[layout.DR // 8 + 6] |= DR6_SINGLE_STEP
            deliver(vcpu, Event(exits.DB))
