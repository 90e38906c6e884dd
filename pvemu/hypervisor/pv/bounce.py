"""The one place that builds an exception frame: the guest's kernel is entered at a handler of its own.

Frame, from its low end: [error code] EIP, CS with the saved upcall mask in its upper half, EFLAGS, and
from an outer ring also ESP, SS (golden: behav32).
"""

import struct
from typing import TYPE_CHECKING, Final, Protocol

from pvemu.abi.arch_x86 import FLAT_RING1_CS, FLAT_RING1_SS
from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.pv.descriptors import (
    FLAT_RINGS,
    code_segment,
    drop_inner_data_segments,
    segment_base,
    stack_segment,
)
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.vm_assist import ARCHITECTURAL_IOPL
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor

_ESP = layout.RSP
_ESP32 = 2 * layout.RSP
_EIP, _EIP32 = layout.EIP // 8, layout.EIP // 4
_REST = layout.EFLAGS // 8
_CS_SELECTOR = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.SELECTOR) // 4
_SS_SELECTOR = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE + layout.SELECTOR) // 4
_SS_BASE = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE + layout.BASE) // 4

#: Flags of the guest that Xen shows as virtual ones instead.
_VIRTUAL: Final = flags.IF | flags.IOPL
#: Flags that are cleared on the way into a handler (Intel's manual, volume 3, section 6.12.1.3).
_CLEARED: Final = flags.VM | flags.RF | flags.NT | flags.TF
_FROM_KERNEL, _FROM_KERNEL_ERROR = struct.Struct("<3I"), struct.Struct("<4I")
_FROM_USER, _FROM_USER_ERROR = struct.Struct("<5I"), struct.Struct("<6I")
#: A handler whose own selector is bad raises #GP again and again; real Xen goes on until the stack ends.
_DEEPEST: Final = 32


class Bounce(Protocol):
    """Enters the guest's kernel at a handler (Xen: create_bounce_frame)."""

    def __call__(
        self,
        vcpu: Vcpu,
        selector: int,
        address: int,
        masks_events: bool = False,
        error_code: int | None = None,
        resume_flag: int = 0,
        depth: int = 0,
    ) -> None:
        """Write the frame and load the handler's registers.

        From an outer ring the frame goes to the stack that stack_switch named. A frame that can't be
        written, or a null selector, crashes the domain.

        Args:
            resume_flag: flags.RF where the processor shows that flag in the frame, as for faults.
            depth: how many handlers with a bad selector were tried on the way here.
        """


def make_bounce(hypervisor: "Hypervisor") -> Bounce:
    """The function for a machine; a closure, because every exception of a guest goes through it."""
    window, u8 = hypervisor.cpu.window, hypervisor.ram.u8
    u32, u64 = window.u32, window.u64
    read_eflags, set_ring = flags.make_read_eflags(window), hypervisor.cpu.set_ring
    from_kernel, from_kernel_error = _FROM_KERNEL.pack, _FROM_KERNEL_ERROR.pack
    from_user, from_user_error = _FROM_USER.pack, _FROM_USER_ERROR.pack
    visible, not_cleared = ~_VIRTUAL, ~_CLEARED

    def bounce(
        vcpu: Vcpu,
        selector: int,
        address: int,
        masks_events: bool = False,
        error_code: int | None = None,
        resume_flag: int = 0,
        depth: int = 0,
    ) -> None:
        domain = vcpu.domain
        code, eip = u32[_CS_SELECTOR], u32[_EIP32]
        mask_at = vcpu.info + 1
        mask = u8[mask_at]
        shown, shown_code = read_eflags() & visible | resume_flag, code & 0xFFFF | mask << 16
        if not mask:
            shown |= flags.IF
        if domain.vm_assist & ARCHITECTURAL_IOPL:
            shown |= vcpu.iopl << 12
        try:
            if code & 2:
                stack, stack_selector = vcpu.kernel_stack, vcpu.kernel_selector
                base = 0 if stack_selector == FLAT_RING1_SS else segment_base(vcpu, stack_selector)
                esp, ss = u32[_ESP32], u32[_SS_SELECTOR] & 0xFFFF
                if error_code is None:
                    frame = from_user(eip, shown_code, shown, esp, ss)
                else:
                    frame = from_user_error(error_code, eip, shown_code, shown, esp, ss)
            else:
                stack, stack_selector, base = u32[_ESP32], u32[_SS_SELECTOR], u32[_SS_BASE]
                if error_code is None:
                    frame = from_kernel(eip, shown_code, shown)
                else:
                    frame = from_kernel_error(error_code, eip, shown_code, shown)
            stack = stack - len(frame) & 0xFFFFFFFF
            domain.memory.copy_to_guest(stack + base & 0xFFFFFFFF if base else stack, frame)
        except GuestFault as fault:
            domain.crash(f"no room for an exception frame: the stack at {fault.address:08x} is not writable")
            return
        if selector & ~3 == 0:
            domain.crash("entered a handler whose code selector is null")
            return
        if masks_events:
            u8[mask_at] = 1
        u64[_REST] &= not_cleared
        u64[_ESP] = stack
        u64[_EIP] = address
        if code == selector and not code & 2 and not depth:
            return  # the kernel's handler runs on the segments that the kernel has
        flat = FLAT_RINGS.get((selector, stack_selector))
        if flat is None:
            load_ring(vcpu, selector, stack_selector, depth=depth)
        else:
            set_ring(*flat)

    return bounce


def upcall_due(vcpu: Vcpu) -> bool:
    """Whether an event is pending and upcalls are not masked: both bytes are read as one word."""
    return 0 < vcpu.domain.hypervisor.ram.u16[vcpu.info16] < 0x100


def load_ring(vcpu: Vcpu, selector: int, stack_selector: int, *, depth: int = 0) -> None:
    """Load CS and SS with the checks of IRET; a bad one is #GP for the guest, in its new state.

    That exception comes from the hypervisor's own IRET, so its frame shows RF clear (golden: bad_handlers).
    """
    cpu = vcpu.domain.hypervisor.cpu
    u32 = cpu.window.u32
    if (
        selector == FLAT_RING1_CS == u32[_CS_SELECTOR]
        and stack_selector == FLAT_RING1_SS == u32[_SS_SELECTOR]
    ):
        return  # loaded already, and their descriptors are the hypervisor's, which never change
    ring = selector & 3
    code = code_segment(vcpu, selector)
    stack = stack_segment(vcpu, stack_selector, ring)
    if code is not None and stack is not None:
        # A pending upcall goes back to the kernel before the outer ring is ever entered.
        if ring > u32[layout.HFLAGS // 4] & layout.HF_CPL and not upcall_due(vcpu):
            drop_inner_data_segments(vcpu, ring)
        cpu.set_ring(code, stack)
        return
    if depth >= _DEEPEST:
        vcpu.domain.crash(
            f"no handler has a usable code or stack selector (last: {selector:04x}, {stack_selector:04x})"
        )
        return
    u32[_CS_SELECTOR], u32[_SS_SELECTOR] = selector, stack_selector
    bad = selector if code is None else stack_selector
    handler = vcpu.traps[exits.GP]
    if handler.selector & ~3 == 0:
        vcpu.domain.crash(f"Unhandled: vec {exits.GP}, #GP[{bad & 0xFFFC:04x}]")
        return
    vcpu.domain.hypervisor.bounce(
        vcpu, handler.selector, handler.address, handler.masks_events, bad & 0xFFFC, 0, depth + 1
    )
