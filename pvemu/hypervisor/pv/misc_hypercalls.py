"""Small hypercalls of a PV guest's processor state: the kernel's stack, the FPU, the virtual IOPL."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.physdev import PHYSDEVOP_set_iopl, physdev_set_iopl
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.emul_priv_op import set_task_switched
from pvemu.hypervisor.pv.traps import guest_selector
from pvemu.hypervisor.vcpu import Vcpu

_HIGHEST_IOPL: Final = 3


@hypercall("stack_switch")
def stack_switch(vcpu: Vcpu, ss: int, esp: int) -> int:
    """Name the stack on which traps from ring 3 are delivered. A bad selector shows itself only then."""
    vcpu.kernel_selector, vcpu.kernel_stack = guest_selector(ss), esp
    return 0


@hypercall("fpu_taskswitch")
def fpu_taskswitch(vcpu: Vcpu, switched: int) -> int:
    """Make the next use of the FPU raise exception 7, or not."""
    set_task_switched(vcpu, bool(switched))
    return 0


@hypercall("physdev_op")
def physdev_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Set the virtual I/O privilege level; other commands are for domains with hardware."""
    if command != PHYSDEVOP_set_iopl:
        raise HypercallError(Errno.ENOSYS)
    domain = vcpu.domain
    raw = domain.memory.copy_from_guest(argument, physdev_set_iopl.size(domain.word))
    level = physdev_set_iopl.unpack(domain.word, raw).iopl
    if level > _HIGHEST_IOPL:
        raise HypercallError(Errno.EINVAL)
    vcpu.iopl = level
    return 0
