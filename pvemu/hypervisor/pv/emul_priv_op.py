"""Trap and emulate: the privileged instructions that Xen carries out for a guest's kernel in ring 1.

An instruction of this table that traps with #GP(0) is emulated; what Xen does not emulate goes to the
guest as #GP. Results: golden pv32-*, families trap, cr, msr, iopl1.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pvemu.abi.errors import HypercallError
from pvemu.cpu import exits, flags, layout
from pvemu.cpu.decode import LONGEST, Instruction
from pvemu.cpu.mode import CR0_TS, CR4_DE, CR4_TSD
from pvemu.hypervisor.continuation import RESTART
from pvemu.hypervisor.pv.debug_registers import ALIASES, get_debugreg, set_debugreg
from pvemu.hypervisor.pv.inject import CR2, inject_exception, inject_single_step, kernel_mode
from pvemu.hypervisor.pv.mm import load_base
from pvemu.hypervisor.pv.msr import read_msr, read_tsc_aux, write_msr
from pvemu.hypervisor.vcpu import INITIAL_CR4, Vcpu
from pvemu.hypervisor.vm_assist import ARCHITECTURAL_IOPL
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

#: CR0 as the guest reads it, without TS: PG AM WP NE ET MP PE.
GUEST_CR0: Final = 0x80050033
#: Bits of CR4 that a guest may choose.
_CR4_CHOICES: Final = CR4_TSD | CR4_DE

_EIP, _EIP32 = layout.EIP // 8, layout.EIP // 4
_EFLAGS = layout.EFLAGS // 8
_CS_BASE = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.BASE) // 4
_LOW: Final = 0xFFFFFFFF

#: An emulation returns whether it was possible; if not, the guest gets its #GP.
_Emulation = Callable[[Vcpu, Instruction], bool]


def emulate_privileged_op(vcpu: Vcpu) -> bool:
    """Emulate the instruction at EIP and step over it; False when it is not for Xen to emulate."""
    instruction = fetch(vcpu)
    if instruction is None:
        return False
    # XSETBV is emulated, but the guest has not switched XSAVE on in its CR4.
    if instruction.mnemonic == "xsetbv" or _names_no_debug_register(vcpu, instruction):
        inject_exception(vcpu, exits.UD)
        return True
    emulate = _EMULATIONS.get(instruction.mnemonic)
    if emulate is None or not emulate(vcpu, instruction):
        return False
    if emulate is _cli_or_sti:  # Xen steps over them so shortly that no single step is seen
        step_over(vcpu, instruction.length)
    else:
        retire(vcpu, instruction.length)
    return True


def fetch(vcpu: Vcpu) -> Instruction | None:
    """The instruction at EIP, as far as its bytes can be read; None when they make none."""
    domain = vcpu.domain
    hypervisor, memory = domain.hypervisor, domain.memory
    u32 = hypervisor.cpu.window.u32
    linear = (u32[_EIP32] + u32[_CS_BASE]) & _LOW
    page = memory.readable.get(linear >> PAGE_SHIFT)
    if page is not None and linear & PAGE_MASK <= PAGE_SIZE - LONGEST:
        machine = page | linear & PAGE_MASK
        return hypervisor.decoder.decode(machine, hypervisor.ram.memory[machine : machine + LONGEST])
    try:
        machine = memory.readable_machine_address(linear)
    except GuestFault:
        return None
    inside = PAGE_SIZE - (linear & PAGE_MASK)
    code = hypervisor.ram.memory[machine : machine + min(LONGEST, inside)]
    if inside < LONGEST:
        with suppress(GuestFault):
            code += memory.copy_from_guest(linear + inside, LONGEST - inside)
    return hypervisor.decoder.decode(machine, code)


def step_over(vcpu: Vcpu, length: int) -> None:
    """Go on behind an instruction of `length` bytes."""
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    u64[_EIP] = (u64[_EIP] + length) & _LOW
    u64[_EFLAGS] &= ~flags.RF


def retire(vcpu: Vcpu, length: int) -> None:
    """Go on behind an emulated instruction; with TF set that is a single step."""
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    u64[_EIP] = (u64[_EIP] + length) & _LOW
    rest = u64[_EFLAGS]
    if rest & flags.RF:
        u64[_EFLAGS] = rest & ~flags.RF
    if rest & flags.TF:
        inject_single_step(vcpu)


def read_tsc(vcpu: Vcpu) -> bool:
    """RDTSC or RDTSCP at EIP (the engine reports both alike); False in ring 3 when CR4.TSD forbids it."""
    instruction = fetch(vcpu)
    if instruction is None or (vcpu.cr4 & CR4_TSD and not kernel_mode(vcpu)):
        return False
    hypervisor = vcpu.domain.hypervisor
    _set_edx_eax(vcpu, hypervisor.tsc())
    if instruction.mnemonic == "rdtscp":
        hypervisor.cpu.window.u64[layout.RCX] = read_tsc_aux(vcpu)
    retire(vcpu, instruction.length)
    return True


def _set_edx_eax(vcpu: Vcpu, value: int) -> None:
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    u64[layout.RAX], u64[layout.RDX] = value & _LOW, value >> 32 & _LOW


def _edx_eax(vcpu: Vcpu) -> int:
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    return u64[layout.RAX] & _LOW | (u64[layout.RDX] & _LOW) << 32


def set_task_switched(vcpu: Vcpu, switched: bool) -> None:
    """Set or clear the guest's CR0.TS."""
    vcpu.task_switched = switched
    vcpu.domain.hypervisor.cpu.set_task_switched(switched)


def _read_control(vcpu: Vcpu, number: int) -> int | None:
    if number == 0:
        return GUEST_CR0 | (CR0_TS if vcpu.task_switched else 0)
    if number == 3:
        # A root above 4 GiB has its upper bits in the lower ones (public header: xen_pfn_to_cr3).
        return (vcpu.cr3 << 12 | vcpu.cr3 >> 20) & _LOW
    return {2: vcpu.cr2, 4: vcpu.cr4}.get(number)


def fixed_cr4(value: int) -> int:
    """CR4 with what a guest may choose in it, and the rest as it always is."""
    return INITIAL_CR4 | value & _CR4_CHOICES


def _load_base_whole(vcpu: Vcpu, mfn: int) -> bool:
    """Change the root table, and take the old one apart if nothing else needs it; False if it can't be one.

    A hypercall would be stopped when time is up; an instruction is not, for each step gets on with it.
    """
    types = vcpu.domain.hypervisor.page_types
    while (failure := load_base(vcpu, mfn)) == RESTART:
        pass
    while types.demoting and not types.finish():
        pass
    return not failure


def _write_control(vcpu: Vcpu, number: int, value: int) -> bool:
    if number == 0:
        if (value ^ GUEST_CR0) & ~CR0_TS:
            return False
        set_task_switched(vcpu, bool(value & CR0_TS))
    elif number == 2:
        vcpu.cr2 = value
        vcpu.domain.hypervisor.ram.u32[vcpu.info + CR2 >> 2] = value
    elif number == 3:
        return _load_base_whole(vcpu, (value >> 12 | value << 20) & _LOW)
    elif number == 4:
        vcpu.cr4 = fixed_cr4(value)
    else:
        return False
    return True


def _move_control(vcpu: Vcpu, instruction: Instruction) -> bool:
    """MOV to and from a control or debug register."""
    target, source = instruction.operands
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    if source.kind == "control":
        value = _read_control(vcpu, source.number)
        if value is None:
            return False
        u64[target.number] = value
        return True
    if target.kind == "control":
        return _write_control(vcpu, target.number, u64[source.number] & _LOW)
    try:
        if source.kind == "debug":
            u64[target.number] = get_debugreg(vcpu, source.number) & _LOW
        elif target.kind == "debug":
            set_debugreg(vcpu, target.number, u64[source.number] & _LOW)
        else:
            return False
    except HypercallError:
        return False
    return True


def _names_no_debug_register(vcpu: Vcpu, instruction: Instruction) -> bool:
    """Whether the kernel moves to or from DR4 or DR5 although its CR4.DE takes them away."""
    return (
        instruction.mnemonic == "mov"
        and bool(vcpu.cr4 & CR4_DE)
        and kernel_mode(vcpu)
        and any(operand.kind == "debug" and operand.number in ALIASES for operand in instruction.operands)
    )


def _clts(vcpu: Vcpu, _instruction: Instruction) -> bool:
    set_task_switched(vcpu, False)
    return True


def _rdmsr(vcpu: Vcpu, _instruction: Instruction) -> bool:
    value = read_msr(vcpu, vcpu.domain.hypervisor.cpu.window.u64[layout.RCX] & _LOW)
    if value is None:
        return False
    _set_edx_eax(vcpu, value)
    return True


def _wrmsr(vcpu: Vcpu, _instruction: Instruction) -> bool:
    number = vcpu.domain.hypervisor.cpu.window.u64[layout.RCX] & _LOW
    return write_msr(vcpu, number, _edx_eax(vcpu))


def iopl_permits(vcpu: Vcpu) -> bool:
    """Whether the guest's virtual I/O privilege level lets the running code use ports, cli and sti.

    With an architectural IOPL the kernel counts as ring 0, else as ring 1 (golden: virtual_iopl).
    """
    if not kernel_mode(vcpu):
        return vcpu.iopl >= 3
    return vcpu.iopl >= 1 or bool(vcpu.domain.vm_assist & ARCHITECTURAL_IOPL)


def _cli_or_sti(vcpu: Vcpu, _instruction: Instruction) -> bool:
    """With enough virtual IOPL they do nothing: real Xen leaves the upcall mask alone, too."""
    return iopl_permits(vcpu)


def _kernel_only(emulate: _Emulation) -> _Emulation:
    return lambda vcpu, instruction: kernel_mode(vcpu) and emulate(vcpu, instruction)


def _nothing(_vcpu: Vcpu, _instruction: Instruction) -> bool:
    return True


_EMULATIONS: Final[dict[str, _Emulation]] = {
    "mov": _kernel_only(_move_control),
    "clts": _kernel_only(_clts),
    "rdmsr": _kernel_only(_rdmsr),
    "wrmsr": _kernel_only(_wrmsr),
    "wbinvd": _kernel_only(_nothing),
    "cli": _cli_or_sti,
    "sti": _cli_or_sti,
}


def _may_use_port(vcpu: Vcpu, port: int, size: int) -> bool:
    """Whether the virtual IOPL or the guest's own bitmap (PHYSDEVOP_set_iobitmap) lets it use a port.

    Two bytes of the bitmap are read at once: if one of them can't be read, all is forbidden (recorded:
    port_bitmaps).
    """
    if iopl_permits(vcpu):
        return True
    if port + size > vcpu.io_ports:
        return False
    try:
        denied = vcpu.domain.memory.read_u16(vcpu.io_bitmap + (port >> 3))
    except GuestFault:
        return False
    return not denied >> (port & 7) & (1 << size) - 1


def port_in(vcpu: Vcpu, port: int, size: int) -> int | None:
    """IN: all ones, as from a port that nobody answers; None when the guest may not."""
    return (1 << 8 * size) - 1 if _may_use_port(vcpu, port, size) else None


def port_out(vcpu: Vcpu, port: int, size: int, _value: int) -> bool:
    """OUT: into the void; False when the guest may not."""
    return _may_use_port(vcpu, port, size)
