"""The vm_assist hypercall: what the hypervisor is to do for the guest beyond the ABI's minimum."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import (
    VMASST_CMD_disable,
    VMASST_CMD_enable,
    VMASST_TYPE_4gb_segments,
    VMASST_TYPE_4gb_segments_notify,
    VMASST_TYPE_architectural_iopl,
    VMASST_TYPE_pae_extended_cr3,
    VMASST_TYPE_runstate_update_flag,
    VMASST_TYPE_writable_pagetables,
)
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

#: The assists that a 32-bit PV guest can have (golden: vm_assist).
_VALID: Final = frozenset(
    {
        VMASST_TYPE_4gb_segments,
        VMASST_TYPE_4gb_segments_notify,
        VMASST_TYPE_writable_pagetables,
        VMASST_TYPE_pae_extended_cr3,
        VMASST_TYPE_architectural_iopl,
        VMASST_TYPE_runstate_update_flag,
    }
)
#: And those that an HVM guest can have.
_VALID_IN_HVM: Final = frozenset({VMASST_TYPE_runstate_update_flag})
#: Those of a PV guest as bits.
VALID_ASSISTS: Final = sum(1 << kind for kind in _VALID)
#: As a bit: the guest's virtual I/O privilege level is seen in its flags, and its kernel counts as ring 0.
ARCHITECTURAL_IOPL: Final = 1 << VMASST_TYPE_architectural_iopl


@hypercall("vm_assist")
def vm_assist(vcpu: Vcpu, command: int, kind: int) -> int:
    """Switch one assist on or off. The kind is looked at before the command."""
    if kind not in (_VALID_IN_HVM if vcpu.domain.is_hvm else _VALID):
        raise HypercallError(Errno.EINVAL)
    if command == VMASST_CMD_enable:
        vcpu.domain.vm_assist |= 1 << kind
    elif command == VMASST_CMD_disable:
        vcpu.domain.vm_assist &= ~(1 << kind)
    else:
        raise HypercallError(Errno.ENOSYS)
    return 0
