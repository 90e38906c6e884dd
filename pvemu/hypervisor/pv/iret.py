"""The iret hypercall: the guest's kernel leaves for its programs, or returns to itself."""

import struct
from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.hypercall import Handler, made_hypercall
from pvemu.hypervisor.pv.bounce import load_ring
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.vm_assist import ARCHITECTURAL_IOPL
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor

_EIP, _ESP32 = layout.EIP // 8, 2 * layout.RSP
_SS_SELECTOR = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE + layout.SELECTOR) // 4
_FRAME: Final = struct.Struct("<4I")  #: EAX, EIP, CS, EFLAGS
_OUTER: Final = struct.Struct("<2I")  #: ESP, SS
#: Bits of EFLAGS that IRET takes from the frame (golden: iret_frames); the rest are fixed or virtual.
LOADED_FLAGS: Final = flags.ARITHMETIC | flags.TF | flags.DF | flags.NT | flags.RF | flags.AC | flags.ID
#: EIP to GS of the frame of a program in virtual-8086 mode.
_VM86_WORDS: Final = 9


@made_hypercall("iret")
def make_iret(hypervisor: "Hypervisor") -> Handler:
    """Make the handler of iret for a machine."""
    window, u8 = hypervisor.cpu.window, hypervisor.ram.u8
    u64, u32, write_eflags = window.u64, window.u32, flags.write_eflags

    def iret(vcpu: Vcpu) -> int:
        """Load EAX, EIP, CS, EFLAGS, and towards ring 3 ESP and SS, from the kernel's stack.

        The upcall mask becomes the opposite of EFLAGS.IF. A frame that can't be read, or one for ring 0,
        crashes the domain; selectors that the processor refuses are #GP in the new state (golden: behav32
        iret-*).
        """
        domain = vcpu.domain
        stack = u32[_ESP32]
        try:
            eax, eip, code, eflags = domain.memory.unpack(stack, _FRAME)
            code &= 0xFFFF
            if domain.vm_assist & ARCHITECTURAL_IOPL:
                vcpu.iopl = eflags >> 12 & 3
            if eflags & flags.VM:
                _refuse_vm86(vcpu, stack, eflags)
                return eax
            ring = code & 3
            if ring == 0:
                domain.crash(f"iret to ring 0 (cs {code:04x})")
                return eax
            if ring == 1:
                stack, stack_selector = stack + _FRAME.size, u32[_SS_SELECTOR] & 0xFFFF
            else:
                stack, stack_selector = domain.memory.unpack(stack + _FRAME.size, _OUTER)
        except GuestFault as fault:
            domain.crash(f"the frame of an iret is not readable at {fault.address:08x}")
            return 0
        u64[_EIP], u64[layout.RSP] = eip, stack & 0xFFFFFFFF
        write_eflags(window, eflags & LOADED_FLAGS | flags.IF)
        u8[vcpu.info + 1] = 0 if eflags & flags.IF else 1
        u64[layout.RAX] = eax
        load_ring(vcpu, code, stack_selector & 0xFFFF)
        if vcpu.nmi_masked:
            vcpu.nmi_masked = False
            if vcpu.nmi_pending:
                hypervisor.reschedule()
        return u32[2 * layout.RAX]

    return iret


def _refuse_vm86(vcpu: Vcpu, stack: int, eflags: int) -> None:
    """No virtual-8086 mode: the guest's #GP handler gets the frame as it stands, moved to its stack."""
    domain = vcpu.domain
    cpu = domain.hypervisor.cpu
    handler = vcpu.traps[exits.GP]
    kernel_stack = (vcpu.kernel_stack - (_VM86_WORDS + 1) * 4) & 0xFFFFFFFF
    frame = domain.memory.copy_from_guest(stack + 4, _VM86_WORDS * 4)
    domain.memory.copy_to_guest(kernel_stack, bytes(4) + frame)
    if handler.selector & ~3 == 0:
        domain.crash("Unhandled: vec 13, #GP[0000]")
        return
    cleared = flags.VM | flags.RF | flags.NT | flags.TF | flags.IOPL
    flags.write_eflags(cpu.window, eflags & ~cleared | flags.IF)
    cpu.window.u64[layout.EIP // 8], cpu.window.u64[layout.RSP] = handler.address, kernel_stack
    masked = handler.masks_events or not eflags & flags.IF
    domain.hypervisor.ram.u8[vcpu.info + 1] = 1 if masked else 0
    load_ring(vcpu, handler.selector, vcpu.kernel_selector)
