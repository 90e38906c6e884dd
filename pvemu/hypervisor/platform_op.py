"""The platform_op hypercall: what domain 0 asks about the computer. There are its clock and one processor."""

from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.platform import (
    XEN_PCPU_FLAGS_INVALID,
    XEN_PCPU_FLAGS_ONLINE,
    XENPF_INTERFACE_VERSION,
    XENPF_cpu_offline,
    XENPF_cpu_online,
    XENPF_get_cpuinfo,
    XENPF_settime32,
    XENPF_settime64,
    xen_platform_op,
    xenpf_cpu_ol,
    xenpf_pcpuinfo,
    xenpf_settime32,
    xenpf_settime64,
)
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.time import NANOSECONDS_PER_SECOND, write_wallclock
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.versioned_op import Commands, carry_out_versioned

_SIGN: Final = 1 << 63


def _set_time(vcpu: Vcpu, op: Any) -> None:
    """Set the wallclock: it is so late at a system time. All domains see it."""
    hypervisor = vcpu.domain.hypervisor
    at_start = op.secs * NANOSECONDS_PER_SECOND + op.nsecs - op.system_time
    seconds, nanoseconds = divmod(at_start % (2 * _SIGN), NANOSECONDS_PER_SECOND)
    hypervisor.wallclock = seconds
    for domain in hypervisor.domains.values():
        if domain.shared_info_frame:
            write_wallclock(domain, seconds, nanoseconds)


def _set_time64(vcpu: Vcpu, op: Any) -> None:
    if op.mbz:
        raise HypercallError(Errno.EINVAL)
    _set_time(vcpu, op)


def _get_cpuinfo(_vcpu: Vcpu, op: Any) -> None:
    op.max_present = 0
    op.flags, op.apic_id, op.acpi_id = XEN_PCPU_FLAGS_ONLINE, 0, 0
    if op.xen_cpuid:
        op.flags, op.apic_id, op.acpi_id = XEN_PCPU_FLAGS_INVALID, 0xFFFFFFFF, 0xFFFFFFFF


def _cpu_online(_vcpu: Vcpu, op: Any) -> None:
    if op.cpuid:
        raise HypercallError(Errno.EINVAL)


def _cpu_offline(_vcpu: Vcpu, op: Any) -> None:
    raise HypercallError(Errno.EINVAL if op.cpuid else Errno.EOPNOTSUPP)


_COMMANDS: Final[Commands] = {
    XENPF_settime32: (xenpf_settime32, _set_time, False),
    XENPF_settime64: (xenpf_settime64, _set_time64, False),
    XENPF_get_cpuinfo: (xenpf_pcpuinfo, _get_cpuinfo, True),
    XENPF_cpu_online: (xenpf_cpu_ol, _cpu_online, False),
    XENPF_cpu_offline: (xenpf_cpu_ol, _cpu_offline, False),
}


@hypercall("platform_op")
def platform_op(vcpu: Vcpu, argument: int) -> int:
    """Carry out one XENPF_* command: -EFAULT, -EACCES for another version, -EPERM, then -ENOSYS."""
    return carry_out_versioned(vcpu, argument, xen_platform_op, XENPF_INTERFACE_VERSION, _COMMANDS)
