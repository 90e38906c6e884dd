"""The instructions and exceptions of an HVM guest that exit, by exit number.

The engine has checked the privilege level before it reports a privileged instruction. EIP is on the
instruction, or behind it for software interrupts.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, layout
from pvemu.cpu.decode import Instruction
from pvemu.cpu.mode import CR4_DE, CR4_PCE
from pvemu.hypervisor.emulate.translation import mask, set_register
from pvemu.hypervisor.hvm import control_registers as control
from pvemu.hypervisor.hvm.cpuid import guest_cpuid
from pvemu.hypervisor.hvm.event import REFUSALS, Event, Source, event_of
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.fast_system_calls import system_call, system_enter
from pvemu.hypervisor.hvm.instruction_fetch import (
    DR6_SINGLE_STEP,
    fetch,
    fetch_code,
    instruction_length,
    operand_address,
    retire,
)
from pvemu.hypervisor.hvm.interrupts import halt
from pvemu.hypervisor.hvm.linear_memory import NoCode
from pvemu.hypervisor.hvm.msr import FEATURES_ENABLED, TSC, TSC_AUX, read_msr, write_msr
from pvemu.hypervisor.hvm.segment_registers import Fault
from pvemu.memory.guest_walk import GuestPageFault

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_Handle = Callable[["Vcpu"], None]

_ERROR_CODE, _HFLAGS = layout.ERROR_CODE // 4, layout.HFLAGS // 4
_DR: Final = layout.DR // 8
_LOW: Final = 0xFFFFFFFF
_ICEBP: Final = 0xF1
_DR6_FIXED, _DR7_FIXED = 0xFFFF0FF0, 0x400
_DR6_DEBUG_REGISTER: Final = 1 << 13
_DR7_GENERAL_DETECT: Final = 1 << 13
_WRITABLE_OF_DR6: Final = 0xE00F
_WRITABLE_OF_DR7: Final = 0xFFFF2BFF
_COUNTERS: Final = 4  #: of performance monitoring


def raise_exception(vcpu: "Vcpu", vector: int, error_code: int | None = None) -> None:
    """Deliver an exception of the instruction at EIP."""
    deliver(vcpu, Event(vector, error_code=error_code))


def _general_protection(vcpu: "Vcpu") -> None:
    raise_exception(vcpu, exits.GP, 0)


def _undefined(vcpu: "Vcpu") -> None:
    raise_exception(vcpu, exits.UD)


def _edx_eax(vcpu: "Vcpu") -> int:
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    return u64[layout.RAX] & _LOW | (u64[layout.RDX] & _LOW) << 32


def _set_edx_eax(vcpu: "Vcpu", value: int) -> None:
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    u64[layout.RAX], u64[layout.RDX] = value & _LOW, value >> 32 & _LOW


# --- exceptions and software interrupts ------------------------------------------------------------------


def _exception(vector: int) -> _Handle:
    if vector in exits.WITH_ERROR_CODE:
        return lambda vcpu: raise_exception(
            vcpu, vector, vcpu.domain.hypervisor.cpu.window.u32[_ERROR_CODE] & 0xFFFF
        )
    return lambda vcpu: raise_exception(vcpu, vector)


def _invalid_opcode(vcpu: "Vcpu") -> None:
    """The engine takes ICEBP for an unknown opcode."""
    try:
        code = fetch_code(vcpu)
    except (GuestPageFault, NoCode):
        code = b""
    if code[:1] == bytes((_ICEBP,)):
        vcpu.domain.hypervisor.cpu.window.u64[layout.EIP // 8] += 1
        deliver(vcpu, Event(exits.DB, Source.ICEBP))
    else:
        _undefined(vcpu)


def _software_interrupt(vector: int, length: int) -> _Handle:
    event = Event(vector, Source.SOFTWARE, length=length)
    return lambda vcpu: deliver(vcpu, event)


# --- instructions that only need their length ------------------------------------------------------------


def _cpuid(vcpu: "Vcpu") -> None:
    window = vcpu.domain.hypervisor.cpu.window
    u64 = window.u64
    if vcpu.hvm.msrs.get(FEATURES_ENABLED) and window.u32[_HFLAGS] & layout.HF_CPL:
        raise_exception(vcpu, exits.GP, 0)
        return
    leaf = guest_cpuid(vcpu, u64[layout.RAX] & _LOW, u64[layout.RCX] & _LOW)
    u64[layout.RAX], u64[layout.RBX], u64[layout.RCX], u64[layout.RDX] = leaf
    retire(vcpu, instruction_length(vcpu))


def _rdtsc(vcpu: "Vcpu") -> None:
    """RDTSC or RDTSCP, which the engine reports alike."""
    instruction = fetch(vcpu)
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    _set_edx_eax(vcpu, read_msr(vcpu, TSC) or 0)
    if instruction is not None and instruction.mnemonic == "rdtscp":
        u64[layout.RCX] = read_msr(vcpu, TSC_AUX) or 0
    retire(vcpu, 0 if instruction is None else instruction.length)


def _rdpmc(vcpu: "Vcpu") -> None:
    """Performance counters: they read as zero, for nothing is ever counted."""
    window = vcpu.domain.hypervisor.cpu.window
    forbidden = window.u32[_HFLAGS] & layout.HF_CPL and not vcpu.hvm.cr4 & CR4_PCE
    if forbidden or window.u64[layout.RCX] & _LOW >= _COUNTERS:
        _general_protection(vcpu)
    else:
        _set_edx_eax(vcpu, 0)
        retire(vcpu, instruction_length(vcpu))


def _msr(vcpu: "Vcpu") -> None:
    """RDMSR or WRMSR: the error code of the exit says which."""
    window = vcpu.domain.hypervisor.cpu.window
    number = window.u64[layout.RCX] & _LOW
    # The length comes first: the register may change how code is read.
    length = instruction_length(vcpu)
    if window.u32[_ERROR_CODE]:
        if not write_msr(vcpu, number, _edx_eax(vcpu)):
            _general_protection(vcpu)
            return
    else:
        value = read_msr(vcpu, number)
        if value is None:
            _general_protection(vcpu)
            return
        _set_edx_eax(vcpu, value)
    retire(vcpu, length)


def _halt(vcpu: "Vcpu") -> None:
    retire(vcpu, instruction_length(vcpu))
    halt(vcpu)


def _skip(vcpu: "Vcpu") -> None:
    """INVD, WBINVD: caches are none of a guest's business."""
    retire(vcpu, instruction_length(vcpu))


# --- control registers -----------------------------------------------------------------------------------

_READ_CONTROL: Final[dict[int, Callable[["Vcpu"], int]]] = {
    0: control.read_cr0,
    3: lambda vcpu: vcpu.hvm.cr3,
    4: lambda vcpu: vcpu.hvm.cr4,
    8: control.read_cr8,
}


_WRITE_CONTROL: Final[dict[int, Callable[["Vcpu", int], bool]]] = {
    0: control.write_cr0,
    3: control.write_cr3,
    4: control.write_cr4,
    8: control.write_cr8,
}


def _register_bits(vcpu: "Vcpu") -> int:
    """How much of a general register counts in a move: all of it in 64-bit code, else the lower half."""
    in_long_code = vcpu.domain.hypervisor.cpu.window.u32[_HFLAGS] & layout.HF_CS64
    return (1 << 64) - 1 if in_long_code else _LOW


def _read_control(number: int) -> _Handle:
    def read(vcpu: "Vcpu") -> None:
        instruction = fetch(vcpu)
        if instruction is None:
            _undefined(vcpu)
        elif instruction.mnemonic == "smsw":
            _store_machine_status_word(vcpu, instruction)
        else:
            value = _READ_CONTROL[number](vcpu) & _register_bits(vcpu)
            vcpu.domain.hypervisor.cpu.window.u64[instruction.operands[0].number] = value
            retire(vcpu, instruction.length)

    return read


def _write_control(number: int) -> _Handle:
    def write(vcpu: "Vcpu") -> None:
        instruction = fetch(vcpu)
        if instruction is None:
            _undefined(vcpu)
        elif instruction.mnemonic == "clts":
            control.clear_task_switched(vcpu)
            retire(vcpu, instruction.length)
        elif instruction.mnemonic == "lmsw":
            _load_machine_status_word(vcpu, instruction)
        else:
            source = instruction.operands[1].number
            value = vcpu.domain.hypervisor.cpu.window.u64[source] & _register_bits(vcpu)
            _done_or_refused(vcpu, _WRITE_CONTROL[number](vcpu, value), instruction)

    return write


def _done_or_refused(vcpu: "Vcpu", done: bool, instruction: Instruction) -> None:
    if done:
        retire(vcpu, instruction.length)
    else:
        _general_protection(vcpu)


def _store_machine_status_word(vcpu: "Vcpu", instruction: Instruction) -> None:
    """SMSW: two bytes into memory; in a register as many as the operand has."""
    window = vcpu.domain.hypervisor.cpu.window
    operand, value = instruction.operands[0], control.read_cr0(vcpu)
    if operand.kind == "memory":
        try:
            place = operand_address(window, instruction, operand, 2, write=True)
            user = window.u32[_HFLAGS] & layout.HF_CPL == layout.HF_CPL
            vcpu.hvm.linear_memory.write(place, (value & 0xFFFF).to_bytes(2, "little"), user=user)
        except REFUSALS as refusal:
            deliver(vcpu, event_of(refusal))
            return
    else:
        set_register(window, operand.number, instruction.operand_size)(value & mask(instruction.operand_size))
    retire(vcpu, instruction.length)


def _load_machine_status_word(vcpu: "Vcpu", instruction: Instruction) -> None:
    window = vcpu.domain.hypervisor.cpu.window
    operand = instruction.operands[0]
    if operand.kind == "memory":
        try:
            place = operand_address(window, instruction, operand, 2)
            value = int.from_bytes(vcpu.hvm.linear_memory.read(place, 2), "little")
        except REFUSALS as refusal:
            deliver(vcpu, event_of(refusal))
            return
    else:
        value = window.u64[operand.number] & 0xFFFF
    _done_or_refused(vcpu, control.load_machine_status_word(vcpu, value), instruction)


# --- debug registers -------------------------------------------------------------------------------------


def _debug_register(number: int, move: Callable[["Vcpu", int, int], None]) -> _Handle:
    """MOV to or from a debug register; 4 and 5 are other names of 6 and 7, which CR4.DE takes away."""

    def handle(vcpu: "Vcpu") -> None:
        u64 = vcpu.domain.hypervisor.cpu.window.u64
        instruction = fetch(vcpu)
        if instruction is None or (number in (4, 5) and vcpu.hvm.cr4 & CR4_DE):
            _undefined(vcpu)
        elif u64[_DR + 7] & _DR7_GENERAL_DETECT:
            u64[_DR + 6] |= _DR6_DEBUG_REGISTER
            deliver_debug_fault(vcpu)
        else:
            target, source = instruction.operands
            general = target if target.kind == "general" else source
            actual = number + 2 if number in (4, 5) else number
            try:
                move(vcpu, actual, general.number)
            except Fault as fault:
                deliver(vcpu, event_of(fault))
            else:
                retire(vcpu, instruction.length)

    return handle


def _from_debug_register(vcpu: "Vcpu", number: int, general: int) -> None:
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    u64[general] = u64[_DR + number] & _register_bits(vcpu)


def _to_debug_register(vcpu: "Vcpu", number: int, general: int) -> None:
    """DR6 and DR7 have fixed bits, and their upper halves must be zero.

    The registers are kept for the guest, but no breakpoint is ever hit.
    """
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    value = u64[general] & _register_bits(vcpu)
    if number >= 6 and value >> 32:
        raise Fault(exits.GP, 0)
    if number == 6:
        value = value & _WRITABLE_OF_DR6 | _DR6_FIXED
    elif number == 7:
        value = value & _WRITABLE_OF_DR7 | _DR7_FIXED
    u64[_DR + number] = value


def deliver_debug_fault(vcpu: "Vcpu") -> None:
    """#DB; a processor clears DR7.GD on the way into the handler, which may then use the registers."""
    vcpu.domain.hypervisor.cpu.window.u64[_DR + 7] &= ~_DR7_GENERAL_DETECT
    raise_exception(vcpu, exits.DB)


def _single_step(vcpu: "Vcpu") -> None:
    vcpu.domain.hypervisor.cpu.window.u64[_DR + 6] |= DR6_SINGLE_STEP
    deliver_debug_fault(vcpu)


#: Instructions of AMD-V and MONITOR, MWAIT: CPUID does not offer them.
_ABSENT: Final = (
    *(exits.VMRUN, exits.VMLOAD, exits.VMSAVE, exits.STGI, exits.CLGI, exits.SKINIT, exits.INVLPGA),
    *(exits.MONITOR, exits.MWAIT),
)

#: What each exit of an HVM guest's processor does. Page faults, INVLPG, VMMCALL and nested page faults are
#: not the processor's affair alone, and not here; `page_fault` is for those that are the guest's own.
HANDLERS: Final[dict[int, _Handle]] = {
    **{vector: _software_interrupt(vector, 2) for vector in range(256)},
    **{vector: _software_interrupt(vector, 1) for vector in (exits.BP, exits.OF)},
    **{exits.EXCEPTION + vector: _exception(vector) for vector in range(32) if vector != exits.PF},
    exits.EXCEPTION + exits.DB: _single_step,
    exits.EXCEPTION + exits.UD: _invalid_opcode,
    **{exits.READ_CR + number: _read_control(number) for number in _READ_CONTROL},
    **{exits.WRITE_CR + number: _write_control(number) for number in _WRITE_CONTROL},
    **{exits.READ_DR + number: _debug_register(number, _from_debug_register) for number in range(8)},
    **{exits.WRITE_DR + number: _debug_register(number, _to_debug_register) for number in range(8)},
    exits.CPUID: _cpuid,
    exits.RDTSC: _rdtsc,
    exits.RDPMC: _rdpmc,
    exits.MSR: _msr,
    exits.HLT: _halt,
    exits.INVD: _skip,
    exits.WBINVD: _skip,
    **dict.fromkeys(_ABSENT, _undefined),
    # A window that nobody forgets is an exit again and again. What still waits asks anew, on the way back in.
    exits.INTERRUPT_WINDOW: lambda vcpu: vcpu.domain.hypervisor.cpu.forget_interrupt_window(),
    exits.NMI_WINDOW: lambda vcpu: vcpu.domain.hypervisor.cpu.forget_nmi_window(),
    exits.SYSCALL: system_call,
    exits.SYSENTER: system_enter,
}
