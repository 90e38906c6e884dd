"""Small hypercalls of a PV guest's processor state: the kernel's stack, and the FPU."""

from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.emul_priv_op import set_task_switched
from pvemu.hypervisor.pv.traps import guest_selector
from pvemu.hypervisor.vcpu import Vcpu


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
