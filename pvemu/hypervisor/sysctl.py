"""The sysctl hypercall: what a privileged domain asks about the whole machine.

Answers: golden pv32-*, family sysctl. What the machine has not (frequency scaling, pools of processors,
traces) is -ENOSYS.
"""

from typing import Any, Final

from pvemu.abi.domctl import XEN_SCHEDULER_CREDIT2, xen_domctl_getdomaininfo
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.sysctl import (
    XEN_SYSCTL_INTERFACE_VERSION,
    XEN_SYSCTL_availheap,
    XEN_SYSCTL_cputopoinfo,
    XEN_SYSCTL_getcpuinfo,
    XEN_SYSCTL_getdomaininfolist,
    XEN_SYSCTL_PHYSCAP_gnttab_v1,
    XEN_SYSCTL_PHYSCAP_gnttab_v2,
    XEN_SYSCTL_PHYSCAP_pv,
    XEN_SYSCTL_physinfo,
    XEN_SYSCTL_sched_id,
    XEN_SYSCTL_SCHEDOP_getinfo,
    XEN_SYSCTL_SCHEDOP_putinfo,
    XEN_SYSCTL_scheduler_op,
    xen_sysctl,
    xen_sysctl_availheap,
    xen_sysctl_cpuinfo,
    xen_sysctl_cputopo,
    xen_sysctl_cputopoinfo,
    xen_sysctl_getcpuinfo,
    xen_sysctl_getdomaininfolist,
    xen_sysctl_physinfo,
    xen_sysctl_sched_id,
    xen_sysctl_scheduler_op,
)
from pvemu.cpu.clock import CYCLES_PER_SECOND
from pvemu.hypervisor.domctl_op import domain_info
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.versioned_op import Commands, carry_out_versioned
from pvemu.memory.ram import PAGE_SHIFT

_MAX_NODE_ID: Final = 63
#: Limits of the rate limit in microseconds (public header: XEN_SYSCTL_SCHED_RATELIMIT_*).
_SHORTEST_RATELIMIT, _LONGEST_RATELIMIT = 100, 500_000
_CYCLES_PER_MICROSECOND: Final = CYCLES_PER_SECOND // 1_000_000


def _physinfo(vcpu: Vcpu, op: Any) -> None:
    """One processor of one core and one node, and the machine's memory."""
    hypervisor = vcpu.domain.hypervisor
    op.threads_per_core = op.cores_per_socket = op.nr_cpus = op.nr_nodes = 1
    op.max_cpu_id, op.max_node_id = 0, _MAX_NODE_ID
    op.cpu_khz = CYCLES_PER_SECOND // 1000
    op.capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2
    op.arch_capabilities = op.scrub_pages = op.outstanding_pages = 0
    op.total_pages = hypervisor.ram.frames
    op.free_pages = hypervisor.heap.free_frames
    op.max_mfn = hypervisor.ram.frames - 1
    op.hw_cap = [0] * 8


def _sched_id(_vcpu: Vcpu, op: Any) -> None:
    op.sched_id = XEN_SCHEDULER_CREDIT2


def _getdomaininfolist(vcpu: Vcpu, op: Any) -> None:
    """Write what there is to know of the domains from a number up, as many as there is room for."""
    memory, word = vcpu.domain.memory, vcpu.domain.word
    size = xen_domctl_getdomaininfo.size(word)
    domains = vcpu.domain.hypervisor.domains
    wanted = [number for number in sorted(domains) if number >= op.first_domain][: op.max_domains]
    for index, number in enumerate(wanted):
        packed = xen_domctl_getdomaininfo.pack(word, **domain_info(domains[number]))
        memory.copy_to_guest(op.buffer + index * size, packed)
    op.num_domains = len(wanted)


def _getcpuinfo(vcpu: Vcpu, op: Any) -> None:
    """For how long the processor had nothing to do."""
    hypervisor = vcpu.domain.hypervisor
    op.nr_cpus = min(op.max_cpus, 1)
    if op.nr_cpus:
        idle = hypervisor.system_time() - hypervisor.scheduler.busy_time()
        packed = xen_sysctl_cpuinfo.pack(vcpu.domain.word, idletime=idle)
        vcpu.domain.memory.copy_to_guest(op.info, packed)


def _availheap(vcpu: Vcpu, op: Any) -> None:
    """Free memory whose addresses have so many bits, on a node or on all (-1)."""
    heap = vcpu.domain.hypervisor.heap
    first = 1 << max(op.min_bitwidth - 1 - PAGE_SHIFT, 0) if op.min_bitwidth else 0
    end = 1 << max(op.max_bitwidth - PAGE_SHIFT, 0) if op.max_bitwidth else heap.end
    frames = heap.free_between(first, min(end, heap.end)) if op.node <= 0 else 0
    op.avail_bytes = frames << PAGE_SHIFT


def _cputopoinfo(vcpu: Vcpu, op: Any) -> None:
    """Where the processors are: core 0 of socket 0."""
    if not op.cputopo:
        op.num_cpus = 1
        return
    op.num_cpus = min(op.num_cpus, 1)
    if op.num_cpus:
        vcpu.domain.memory.copy_to_guest(op.cputopo, bytes(xen_sysctl_cputopo.size(vcpu.domain.word)))


def _scheduler_op(vcpu: Vcpu, op: Any) -> None:
    """Ask for or set how long a vCPU runs at least, in microseconds; 0: it may lose the processor at once.

    Raises:
        HypercallError: EINVAL, another command, scheduler or time; ESRCH, no such pool of processors.
    """
    scheduler = vcpu.domain.hypervisor.scheduler
    if op.cmd not in (XEN_SYSCTL_SCHEDOP_putinfo, XEN_SYSCTL_SCHEDOP_getinfo):
        raise HypercallError(Errno.EINVAL)
    if op.cpupool_id:
        raise HypercallError(Errno.ESRCH)
    wanted = op.u.sched_credit2.ratelimit_us
    if op.sched_id != XEN_SCHEDULER_CREDIT2:
        raise HypercallError(Errno.EINVAL)
    if op.cmd == XEN_SYSCTL_SCHEDOP_putinfo:
        if wanted and not _SHORTEST_RATELIMIT <= wanted <= _LONGEST_RATELIMIT:
            raise HypercallError(Errno.EINVAL)
        scheduler.ratelimit = wanted * _CYCLES_PER_MICROSECOND
    op.u = {"sched_credit2": {"ratelimit_us": scheduler.ratelimit // _CYCLES_PER_MICROSECOND}}


_COMMANDS: Final[Commands] = {
    XEN_SYSCTL_physinfo: (xen_sysctl_physinfo, _physinfo, True),
    XEN_SYSCTL_sched_id: (xen_sysctl_sched_id, _sched_id, True),
    XEN_SYSCTL_getdomaininfolist: (xen_sysctl_getdomaininfolist, _getdomaininfolist, True),
    XEN_SYSCTL_getcpuinfo: (xen_sysctl_getcpuinfo, _getcpuinfo, True),
    XEN_SYSCTL_availheap: (xen_sysctl_availheap, _availheap, True),
    XEN_SYSCTL_cputopoinfo: (xen_sysctl_cputopoinfo, _cputopoinfo, True),
    XEN_SYSCTL_scheduler_op: (xen_sysctl_scheduler_op, _scheduler_op, True),
}


@hypercall("sysctl")
def sysctl(vcpu: Vcpu, argument: int) -> int:
    """Carry out one XEN_SYSCTL_* command: -EFAULT, -EACCES for another version, -EPERM, then -ENOSYS."""
    return carry_out_versioned(vcpu, argument, xen_sysctl, XEN_SYSCTL_INTERFACE_VERSION, _COMMANDS)
