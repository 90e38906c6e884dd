"""The registers with which a vCPU begins, from the structure in which a guest or a toolstack gives them.

Public header arch-x86/xen.h, struct vcpu_guest_context. What must be valid for the machine's sake (page
tables, GDT, LDT) is checked when it is given; the rest is loaded when the vCPU first gets the processor, and
a selector that is no good is then a fault in the guest, as on real Xen.
"""

import struct
from contextlib import suppress
from typing import Any, Final

from pvemu.abi.arch_x86 import (
    FLAT_RING1_CS,
    VGCF_failsafe_disables_events,
    VGCF_i387_valid,
    VGCF_in_kernel,
    VGCF_online,
    vcpu_guest_context,
)
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.cpu import flags, layout
from pvemu.cpu.fpu import INITIAL_IMAGE, fpu_image
from pvemu.cpu.mode import CR0_TS
from pvemu.cpu.segments import null_segment
from pvemu.hypervisor.address_space import load_descriptor_registers, map_gdt
from pvemu.hypervisor.continuation import RESTART
from pvemu.hypervisor.pv.bounce import load_ring
from pvemu.hypervisor.pv.debug_registers import set_debugreg
from pvemu.hypervisor.pv.descriptor_tables import gdt_frame_numbers, install_gdt
from pvemu.hypervisor.pv.descriptors import CACHED_FLAT, read_descriptor
from pvemu.hypervisor.pv.emul_priv_op import GUEST_CR0, fixed_cr4, set_task_switched
from pvemu.hypervisor.pv.iret import LOADED_FLAGS
from pvemu.hypervisor.pv.ldt import load_ldt
from pvemu.hypervisor.pv.mm import take_first_base
from pvemu.hypervisor.pv.traps import guest_selector
from pvemu.hypervisor.runstate import settle_runstate
from pvemu.hypervisor.time import write_wallclock
from pvemu.hypervisor.vcpu import Callback, TrapHandler, Vcpu
from pvemu.hypervisor.vm_assist import VALID_ASSISTS
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

_MOST_LDT_ENTRIES: Final = 8192
_GDT_FRAMES: Final = 16
_ENTRIES_PER_FRAME: Final = 512
_DPL_MASK, _MASKS_EVENTS = 3, 4
_GENERAL: Final = (
    ("eax", layout.RAX), ("ecx", layout.RCX), ("edx", layout.RDX), ("ebx", layout.RBX),
    ("esp", layout.RSP), ("ebp", layout.RBP), ("esi", layout.RSI), ("edi", layout.RDI),
)  # fmt: skip
_DATA: Final = {"es": layout.ES, "ds": layout.DS, "fs": layout.FS, "gs": layout.GS}
_SELECTORS: Final = struct.Struct("<4I")


def cr3_to_frame(cr3: int) -> int:
    """The frame that a 32-bit guest's CR3 names: address bits above 32 are in its lowest ones."""
    return (cr3 >> PAGE_SHIFT | cr3 << 32 - PAGE_SHIFT) & 0xFFFFFFFF


def set_guest_context(vcpu: Vcpu, context: Any) -> bool:
    """Initialise a vCPU that never ran; False when time was up in validating its page tables.

    VGCF_online brings it up, but it waits for its turn only when it is made runnable.

    Raises:
        HypercallError: EINVAL, tables that are not fit for what they are to be, or numbers out of range.
    """
    domain = vcpu.domain
    is_first = vcpu.id == 0
    gdt_frames = -(-context.gdt_ents // _ENTRIES_PER_FRAME)
    if (
        context.ldt_base & PAGE_MASK
        or context.ldt_ents > _MOST_LDT_ENTRIES
        or (is_first and context.vm_assist & ~VALID_ASSISTS)
        or gdt_frames > _GDT_FRAMES
    ):
        raise HypercallError(Errno.EINVAL)
    types = domain.hypervisor.page_types
    if types.demoting and not types.finish():
        return False
    install_gdt(vcpu, list(context.gdt_frames[:gdt_frames]), context.gdt_ents)
    root = cr3_to_frame(context.ctrlreg[3])
    failure = take_first_base(vcpu, root)
    if failure:
        install_gdt(vcpu, [], 0)
        if failure == RESTART:
            return False
        raise HypercallError(Errno.EINVAL)
    _keep(vcpu, context)
    if is_first:
        domain.vm_assist = context.vm_assist
        write_wallclock(domain, domain.hypervisor.wallclock)
    vcpu.is_initialised = True
    vcpu.entry_context = context
    vcpu.online = bool(context.flags & VGCF_online)
    return True


def change_guest_context(vcpu: Vcpu, context: Any) -> None:
    """Give a vCPU that runs already other registers, but no other tables; raises HypercallError.

    EINVAL: numbers out of range; EOPNOTSUPP: other tables than it has.
    """
    if context.ldt_base & PAGE_MASK or context.ldt_ents > _MOST_LDT_ENTRIES:
        raise HypercallError(Errno.EINVAL)
    gdt_frames = gdt_frame_numbers(vcpu)
    gdt = context.gdt_frames[: len(gdt_frames)], context.gdt_ents
    ldt = context.ldt_base if context.ldt_ents else 0, context.ldt_ents
    if (
        cr3_to_frame(context.ctrlreg[3]) != vcpu.cr3
        or gdt != (gdt_frames, vcpu.gdt_entries)
        or ldt != (vcpu.ldt_base, vcpu.ldt_entries)
    ):
        raise HypercallError(Errno.EOPNOTSUPP)
    _keep(vcpu, context)
    vcpu.entry_context = context
    vcpu.online = bool(context.flags & VGCF_online)
    settle_runstate(vcpu)
    vcpu.domain.hypervisor.make_runnable(vcpu)


def get_guest_context(vcpu: Vcpu) -> bytes:
    """The vCPU's registers as a struct vcpu_guest_context.

    Those of the FPU are valid if they are not what a new vCPU has.
    """
    domain = vcpu.domain
    context: dict[str, Any] = {
        "flags": VGCF_online if vcpu.online else 0,
        "ldt_base": vcpu.ldt_base,
        "ldt_ents": vcpu.ldt_entries,
        "gdt_frames": gdt_frame_numbers(vcpu),
        "gdt_ents": vcpu.gdt_entries,
        "kernel_ss": vcpu.kernel_selector,
        "kernel_sp": vcpu.kernel_stack,
        "ctrlreg": [
            GUEST_CR0 | (CR0_TS if vcpu.task_switched else 0),
            0,
            vcpu.cr2,
            (vcpu.cr3 << PAGE_SHIFT | vcpu.cr3 >> 32 - PAGE_SHIFT) & 0xFFFFFFFF,
            vcpu.cr4,
        ],
        "debugreg": vcpu.debugreg,
        "event_callback_cs": vcpu.event_callback.selector,
        "event_callback_eip": vcpu.event_callback.address,
        "failsafe_callback_cs": vcpu.failsafe_callback.selector,
        "failsafe_callback_eip": vcpu.failsafe_callback.address,
        "vm_assist": domain.vm_assist,
        "trap_ctxt": [
            {
                "vector": vector if trap.address else 0,
                "flags": trap.dpl | (_MASKS_EVENTS if trap.masks_events else 0),
                "cs": trap.selector,
                "address": trap.address,
            }
            for vector, trap in enumerate(vcpu.traps)
        ],
    }
    if vcpu.entry_context is not None:
        context["user_regs"] = vcpu.entry_context.user_regs
        context["flags"] |= vcpu.entry_context.flags & VGCF_in_kernel
        image = _first_fpu_image(vcpu.entry_context)
    else:
        state = _state(vcpu)
        context["user_regs"] = _user_registers(vcpu, state)
        if context["user_regs"]["cs"] & 3 == 1:
            context["flags"] |= VGCF_in_kernel
        image = fpu_image(state)
    context["fpu_ctxt"] = {"x": image}
    if image != INITIAL_IMAGE:
        context["flags"] |= VGCF_i387_valid
    return vcpu_guest_context.pack(domain.word, **context)


def _first_fpu_image(context: Any) -> bytes:
    return bytes(context.fpu_ctxt.x) if context.flags & VGCF_i387_valid else INITIAL_IMAGE


def _state(vcpu: Vcpu) -> bytes:
    hypervisor = vcpu.domain.hypervisor
    state = hypervisor.cpu.save() if hypervisor.loaded is vcpu else vcpu.saved
    assert state is not None
    return state


def _user_registers(vcpu: Vcpu, state: bytes) -> dict[str, int]:
    mask = vcpu.domain.hypervisor.ram.u8[vcpu.info + 1]
    words = memoryview(state).cast("I")
    registers = {name: words[2 * register] for name, register in _GENERAL}
    for name, register in (*_DATA.items(), ("cs", layout.CS), ("ss", layout.SS)):
        at = layout.SEGMENTS + register * layout.SEGMENT_SIZE + layout.SELECTOR
        registers[name] = words[at // 4] & 0xFFFF
    shown = flags.eflags_of(state) & ~flags.IOPL | vcpu.iopl << 12
    return registers | {"eip": words[layout.EIP // 4], "eflags": shown, "saved_upcall_mask": mask}


def _keep(vcpu: Vcpu, context: Any) -> None:
    """What of a context the hypervisor keeps for itself."""
    vcpu.traps = [
        TrapHandler(
            guest_selector(trap.cs), trap.address, trap.flags & _DPL_MASK, bool(trap.flags & _MASKS_EVENTS)
        )
        for trap in context.trap_ctxt
    ]
    vcpu.ldt_entries = context.ldt_ents
    vcpu.ldt_base = context.ldt_base if context.ldt_ents else 0
    vcpu.kernel_selector, vcpu.kernel_stack = guest_selector(context.kernel_ss), context.kernel_sp
    vcpu.event_callback = Callback(guest_selector(context.event_callback_cs), context.event_callback_eip)
    vcpu.failsafe_callback = Callback(
        guest_selector(context.failsafe_callback_cs), context.failsafe_callback_eip
    )
    vcpu.cr2 = context.ctrlreg[2]
    vcpu.cr4 = fixed_cr4(context.ctrlreg[4])
    vcpu.iopl = context.user_regs.eflags >> 12 & 3
    for number in (0, 1, 2, 3, 6, 7):
        with suppress(HypercallError):  # a value that no guest may set leaves the register as it was
            set_debugreg(vcpu, number, context.debugreg[number])


def load_guest_context(vcpu: Vcpu) -> None:
    """Load the first registers of the vCPU that has just been given the processor."""
    context, vcpu.entry_context = vcpu.entry_context, None
    assert context is not None
    hypervisor = vcpu.domain.hypervisor
    cpu, registers = hypervisor.cpu, context.user_regs
    load_descriptor_registers(hypervisor)
    map_gdt(hypervisor, vcpu)
    load_ldt(vcpu)
    cpu.set_root(vcpu.processor_root << PAGE_SHIFT)
    u64 = cpu.window.u64
    for name, register in _GENERAL:
        u64[register] = getattr(registers, name)
    u64[layout.EIP // 8] = registers.eip
    flags.write_eflags(cpu.window, registers.eflags & LOADED_FLAGS & ~flags.RF | flags.IF)
    cpu.load_fpu(_first_fpu_image(context))
    set_task_switched(vcpu, bool(context.ctrlreg[0] & CR0_TS))
    segments = {name: data_segment(vcpu, getattr(registers, name)) for name in _DATA}
    for name, cached in segments.items():
        cpu.set_segment(_DATA[name], cached or null_segment())
    load_ring(vcpu, guest_selector(registers.cs), guest_selector(registers.ss))
    if None in segments.values():
        _enter_failsafe_callback(vcpu, context)


def data_segment(vcpu: Vcpu, selector: int) -> bytes | None:
    """The cached form of a selector for a data segment register; None where it can't be loaded."""
    if selector in CACHED_FLAT:
        return CACHED_FLAT[selector]
    if not selector & ~3:
        return null_segment(selector)
    descriptor = read_descriptor(vcpu, selector)
    if descriptor is None or not descriptor.present or not descriptor.is_readable:
        return None
    fits = descriptor.is_conforming or descriptor.dpl >= selector & 3
    return descriptor.cached(selector) if fits else None


def _enter_failsafe_callback(vcpu: Vcpu, context: Any) -> None:
    """Tell the guest's kernel that a data segment was no good: below the frame are DS, ES, FS and GS."""
    domain, registers = vcpu.domain, context.user_regs
    u64 = domain.hypervisor.cpu.window.u64
    masks_events = bool(context.flags & VGCF_failsafe_disables_events)
    domain.hypervisor.bounce(vcpu, FLAT_RING1_CS, vcpu.failsafe_callback.address, masks_events)
    stack = (u64[layout.RSP] - _SELECTORS.size) & 0xFFFFFFFF
    try:
        domain.memory.pack(stack, _SELECTORS, registers.ds, registers.es, registers.fs, registers.gs)
    except GuestFault as fault:
        domain.crash(f"no room for a failsafe frame: the stack at {fault.address:08x} is not writable")
    u64[layout.RSP] = stack
