"""The nmi_op hypercall: where the guest's kernel is entered for an NMI. It is an entry of its trap table."""

from typing import Final

from pvemu.abi.arch_x86 import FLAT_RING1_CS
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.nmi import XENNMI_register_callback, XENNMI_unregister_callback, xennmi_callback
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import NO_HANDLER, TrapHandler, Vcpu

_NMI: Final = 2


def register_nmi_callback(vcpu: Vcpu, address: int) -> None:
    """Enter the kernel there for NMIs, with upcalls masked."""
    vcpu.traps[_NMI] = TrapHandler(FLAT_RING1_CS, address, 0, masks_events=True)


def unregister_nmi_callback(vcpu: Vcpu) -> None:
    """Tell the guest of no more NMIs."""
    vcpu.traps[_NMI] = NO_HANDLER


@hypercall("nmi_op")
def nmi_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one XENNMI_* command."""
    if command == XENNMI_register_callback:
        memory, word = vcpu.domain.memory, vcpu.domain.word
        raw = memory.copy_from_guest(argument, xennmi_callback.size(word))
        register_nmi_callback(vcpu, xennmi_callback.unpack(word, raw).handler_address)
    elif command == XENNMI_unregister_callback:
        unregister_nmi_callback(vcpu)
    else:
        raise HypercallError(Errno.ENOSYS)
    return 0
