"""What a privileged domain asks about another's vCPUs: their registers, where they may run, their share."""

from typing import Any, Final

from pvemu.abi.arch_x86 import vcpu_guest_context
from pvemu.abi.domctl import (
    XEN_SCHEDULER_CREDIT2,
    XEN_VCPUAFFINITY_FORCE,
    XEN_VCPUAFFINITY_HARD,
    XEN_VCPUAFFINITY_SOFT,
    XEN_DOMCTL_SCHEDOP_getinfo,
    XEN_DOMCTL_SCHEDOP_putinfo,
)
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.vcpu import RUNSTATE_running
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domain_lifecycle import reset_vcpu
from pvemu.hypervisor.pv.guest_context import change_guest_context, get_guest_context, set_guest_context
from pvemu.hypervisor.vcpu import Vcpu

#: The bitmap of processors: there is one.
_ALL_PROCESSORS: Final = 1


def _vcpu_of(domain: Domain, vcpu_id: int) -> Vcpu:
    """A domain's vCPU; raises HypercallError(EINVAL)."""
    if vcpu_id >= len(domain.vcpus):
        raise HypercallError(Errno.EINVAL)
    return domain.vcpus[vcpu_id]


def set_context(caller: Vcpu, domain: Domain, op: Any, argument: int) -> None:
    """Load a vCPU's registers; those of one that runs already, only with the tables that it has.

    Without a structure of them the vCPU is as before it ever had any.

    Raises:
        HypercallError: EINVAL, one's own domain, no such vCPU, or tables that are not fit; EFAULT;
            EOPNOTSUPP, other tables than it has.
        Continuation: time was up.
    """
    if domain is caller.domain:
        raise HypercallError(Errno.EINVAL)
    vcpu = _vcpu_of(domain, op.vcpu)
    if not op.ctxt:
        reset_vcpu(vcpu)
        return
    word = domain.word
    raw = caller.domain.memory.copy_from_guest(op.ctxt, vcpu_guest_context.size(word))
    context = vcpu_guest_context.unpack(word, raw)
    if vcpu.is_initialised:
        change_guest_context(vcpu, context)
    elif set_guest_context(vcpu, context):
        domain.hypervisor.make_runnable(vcpu)
    else:
        raise Continuation(argument)


def get_context(caller: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Copy out a vCPU's registers; raises HypercallError: EINVAL, none or oneself; ENODATA, none yet."""
    vcpu = _vcpu_of(domain, op.vcpu)
    if vcpu is caller:
        raise HypercallError(Errno.EINVAL)
    if not vcpu.is_initialised:
        raise HypercallError(Errno.ENODATA)
    caller.domain.memory.copy_to_guest(op.ctxt, get_guest_context(vcpu))


def get_info(_caller: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Whether a vCPU is up, blocked or running, and for how long it ran."""
    vcpu = _vcpu_of(domain, op.vcpu)
    op.online, op.blocked = int(vcpu.online), int(vcpu.blocked)
    op.running = int(vcpu.runstate.state == RUNSTATE_running)
    op.cpu_time = vcpu.runstate.until(domain.hypervisor.system_time())[RUNSTATE_running]
    op.cpu = 0


# --- where it may run -----------------------------------------------------------------------------


def _check_affinity(op: Any) -> None:
    """Something must be asked for, and each map that is must be there; raises HypercallError(EINVAL)."""
    for flag, bitmap in ((XEN_VCPUAFFINITY_HARD, op.cpumap_hard), (XEN_VCPUAFFINITY_SOFT, op.cpumap_soft)):
        if op.flags & flag and not bitmap.bitmap:
            raise HypercallError(Errno.EINVAL)
    if not op.flags & (XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT):
        raise HypercallError(Errno.EINVAL)


def _write_map(caller: Vcpu, bitmap: Any) -> None:
    """Write a bitmap of the one processor, with zeros up to the caller's end of it."""
    size = (bitmap.nr_bits + 7) // 8
    caller.domain.memory.copy_to_guest(bitmap.bitmap, _ALL_PROCESSORS.to_bytes(1, "little")[:size])
    if size > 1:
        caller.domain.memory.copy_to_guest(bitmap.bitmap + 1, bytes(min(size - 1, _LONGEST_MAP)))


_LONGEST_MAP: Final = 1 << 12


def set_affinity(caller: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Choose the processors on which a vCPU may run: the one there is must be among them."""
    vcpu = _vcpu_of(domain, op.vcpu)
    _check_affinity(op)
    if op.flags & XEN_VCPUAFFINITY_FORCE:
        vcpu.pinned_override = False
    for flag, bitmap in ((XEN_VCPUAFFINITY_HARD, op.cpumap_hard), (XEN_VCPUAFFINITY_SOFT, op.cpumap_soft)):
        if op.flags & flag:
            wanted = caller.domain.memory.copy_from_guest(bitmap.bitmap, 1)[0] if bitmap.nr_bits else 0
            if not wanted & _ALL_PROCESSORS:
                raise HypercallError(Errno.EINVAL)
            _write_map(caller, bitmap)


def get_affinity(caller: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """On which processors a vCPU may run."""
    _vcpu_of(domain, op.vcpu)
    _check_affinity(op)
    for flag, bitmap in ((XEN_VCPUAFFINITY_HARD, op.cpumap_hard), (XEN_VCPUAFFINITY_SOFT, op.cpumap_soft)):
        if op.flags & flag:
            _write_map(caller, bitmap)


# --- its share ------------------------------------------------------------------------------------


def scheduler_op(_caller: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Ask for or set the weight and the cap of a domain; a weight of 0 leaves it, a cap of 0 is none.

    Raises:
        HypercallError: EINVAL, another scheduler's parameters, or a cap above 100 percent of each vCPU.
    """
    share = op.u.credit2
    if op.sched_id != XEN_SCHEDULER_CREDIT2:
        raise HypercallError(Errno.EINVAL)
    if op.cmd == XEN_DOMCTL_SCHEDOP_getinfo:
        op.u = {"credit2": {"weight": domain.weight, "cap": domain.cap}}
    elif op.cmd == XEN_DOMCTL_SCHEDOP_putinfo and share.cap <= 100 * len(domain.vcpus):
        domain.hypervisor.scheduler.set_share(domain, share.weight or domain.weight, share.cap)
        op.u = {"credit2": vars(share)}
    else:
        raise HypercallError(Errno.EINVAL)
