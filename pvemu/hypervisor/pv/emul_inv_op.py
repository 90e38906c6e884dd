"""Invalid instructions: what of them the engine takes for privileged ones, and the forced-emulation prefix.

`ud2` and the letters "xen" before `cpuid` ask for Xen's own CPUID.
"""

from typing import Final

from pvemu.abi.arch_x86 import XEN_EMULATE_PREFIX
from pvemu.cpu import exits, layout
from pvemu.cpu.decode import LEGACY_PREFIXES, LONGEST
from pvemu.hypervisor.cpuid import guest_cpuid
from pvemu.hypervisor.pv.emul_priv_op import fetch, retire
from pvemu.hypervisor.pv.inject import inject_exception, inject_page_fault
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault

_CPUID: Final = b"\x0f\xa2"
_LOCK: Final = 0xF0
_CONTROL_REGISTERS: Final = frozenset({0, 2, 3, 4, 8})
_EIP32 = layout.EIP // 4
_CS_BASE = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.BASE) // 4


def refuse_instruction(vcpu: Vcpu) -> None:
    """Give the guest #GP(0) for the instruction at EIP, or #UD, which a processor finds first."""
    if _is_invalid(vcpu):
        invalid_op(vcpu)
    else:
        inject_exception(vcpu, exits.GP, 0)


def invalid_op(vcpu: Vcpu) -> None:
    """Handle #UD: the guest's, unless it is the forced-emulation prefix."""
    if not emulate_invalid_op(vcpu):
        inject_exception(vcpu, exits.UD)


def _is_invalid(vcpu: Vcpu) -> bool:
    """Whether it names a control register that no processor has, or has a LOCK that it does not take."""
    instruction = fetch(vcpu)
    if instruction is None:
        return _has_lock(vcpu)
    return any(
        operand.kind == "control" and operand.number not in _CONTROL_REGISTERS
        for operand in instruction.operands
    )


def _has_lock(vcpu: Vcpu) -> bool:
    window, memory = vcpu.domain.hypervisor.cpu.window, vcpu.domain.memory
    address = window.u32[_EIP32] + window.u32[_CS_BASE]
    found = False
    for place in range(address, address + LONGEST):
        try:
            byte = memory.copy_from_guest(place & 0xFFFFFFFF, 1)[0]
        except GuestFault:
            return False
        if byte not in LEGACY_PREFIXES:
            return found
        found |= byte == _LOCK
    return False


def emulate_invalid_op(vcpu: Vcpu) -> bool:
    """Emulate a forced cpuid at EIP; False when the instruction is another one."""
    window = vcpu.domain.hypervisor.cpu.window
    u64, address = window.u64, window.u32[_EIP32]
    memory = vcpu.domain.memory
    try:
        if memory.copy_from_guest(address, len(XEN_EMULATE_PREFIX)) != XEN_EMULATE_PREFIX:
            return False
        address += len(XEN_EMULATE_PREFIX)
        if memory.copy_from_guest(address, len(_CPUID)) != _CPUID:
            return False
    except GuestFault as fault:
        inject_page_fault(vcpu, 0, fault.address)
        return True
    leaf, subleaf = u64[layout.RAX] & 0xFFFFFFFF, u64[layout.RCX] & 0xFFFFFFFF
    u64[layout.RAX], u64[layout.RBX], u64[layout.RCX], u64[layout.RDX] = guest_cpuid(vcpu, leaf, subleaf)
    retire(vcpu, len(XEN_EMULATE_PREFIX) + len(_CPUID))
    return True
