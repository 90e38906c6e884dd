"""The forced-emulation prefix: `ud2` and the letters "xen" before `cpuid` ask for Xen's own CPUID."""

from typing import Final

from pvemu.abi.arch_x86 import XEN_EMULATE_PREFIX
from pvemu.cpu import layout
from pvemu.hypervisor.cpuid import guest_cpuid
from pvemu.hypervisor.pv.emul_priv_op import retire
from pvemu.hypervisor.pv.inject import inject_page_fault
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault

_CPUID: Final = b"\x0f\xa2"
_EIP32 = layout.EIP // 4


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
