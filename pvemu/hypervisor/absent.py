"""Hypercalls of things that this hypervisor has not, each with the answer that real Xen gives without them.

Crash kernels, profiling, performance counters, the hypervisor's own file system and device models: golden
pv32-*, families kexec_op, xenoprof_op, xenpmu_op, hypfs_op, dm_op; recorded: other_guests. (What is not
built into real Xen either, as argo, has no handler at all: -ENOSYS.)
"""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

_LAST_XENOPROF_OP: Final = 17
_XENOPROF_INIT: Final = 0
_MOST_BUFFERS: Final = 2
_BUFFER_SIZE: Final = 8
#: Bytes of struct xenoprof_init.
_XENOPROF_INIT_SIZE: Final = 72
_PAGING_OP_SIZE: Final = 144


def _for_domain_0(vcpu: Vcpu) -> int:
    """-EPERM for others; domain 0 is told that there is no such thing."""
    raise HypercallError(Errno.ENOSYS if vcpu.domain.privileged else Errno.EPERM)


@hypercall("kexec_op")
def kexec_op(vcpu: Vcpu, _op: int, _argument: int) -> int:
    """No kernel can be loaded for a crash."""
    return _for_domain_0(vcpu)


@hypercall("hypfs_op")
def hypfs_op(vcpu: Vcpu, _command: int, _arg1: int, _arg2: int, _arg3: int, _arg4: int) -> int:
    """The hypervisor has no file system of its own."""
    return _for_domain_0(vcpu)


@hypercall("arch_0")
def mca(vcpu: Vcpu, _op: int) -> int:
    """No machine checks are kept."""
    return _for_domain_0(vcpu)


@hypercall("arch_1")
def paging_domctl_continuation(vcpu: Vcpu, argument: int) -> int:
    """There is never a shadow operation to go on with."""
    vcpu.domain.memory.copy_from_guest(argument, _PAGING_OP_SIZE)
    raise HypercallError(Errno.EOPNOTSUPP)


@hypercall("xenoprof_op")
def xenoprof_op(vcpu: Vcpu, op: int, argument: int) -> int:
    """Nobody profiles, so nobody is the profiler that other commands are for."""
    if op > _LAST_XENOPROF_OP:
        raise HypercallError(Errno.EINVAL)
    if op == _XENOPROF_INIT:
        vcpu.domain.memory.copy_from_guest(argument, _XENOPROF_INIT_SIZE)
        raise HypercallError(Errno.ENODEV)
    raise HypercallError(Errno.EPERM)


@hypercall("xenpmu_op")
def xenpmu_op(_vcpu: Vcpu, _op: int, _argument: int) -> int:
    """Performance counters are switched off."""
    raise HypercallError(Errno.EOPNOTSUPP)


@hypercall("dm_op")
def dm_op(vcpu: Vcpu, domid: int, nr_bufs: int, bufs: int) -> int:
    """Device models are for guests with hardware virtualisation, and no domain is one."""
    if nr_bufs > _MOST_BUFFERS:
        raise HypercallError(Errno.E2BIG)
    vcpu.domain.memory.copy_from_guest(bufs, nr_bufs * _BUFFER_SIZE)
    if domid & 0xFFFF == vcpu.domain.domid:
        raise HypercallError(Errno.EPERM)
    known = domid & 0xFFFF in vcpu.domain.hypervisor.domains
    raise HypercallError(Errno.EINVAL if known else Errno.ESRCH)
