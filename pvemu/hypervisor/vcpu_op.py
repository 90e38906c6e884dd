"""The vcpu_op hypercall: whether vCPUs are up, and their timers."""

from collections.abc import Callable
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.vcpu import VCPUOP_is_up, VCPUOP_stop_periodic_timer, VCPUOP_stop_singleshot_timer
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu


def _is_up(vcpu: Vcpu, _caller: Vcpu, _argument: int) -> int:
    return 1 if vcpu.online else 0


def _stop_periodic_timer(vcpu: Vcpu, _caller: Vcpu, _argument: int) -> int:
    vcpu.periodic_period = 0
    return 0


def _stop_singleshot_timer(vcpu: Vcpu, caller: Vcpu, _argument: int) -> int:
    if vcpu is not caller:
        raise HypercallError(Errno.EINVAL)
    assert vcpu.singleshot_timer is not None
    vcpu.singleshot_timer.cancel()
    return 0


_COMMANDS: Final[dict[int, Callable[[Vcpu, Vcpu, int], int]]] = {
    VCPUOP_is_up: _is_up,
    VCPUOP_stop_periodic_timer: _stop_periodic_timer,
    VCPUOP_stop_singleshot_timer: _stop_singleshot_timer,
}


@hypercall("vcpu_op")
def vcpu_op(vcpu: Vcpu, command: int, vcpu_id: int, argument: int) -> int:
    """Carry out one VCPUOP_* command for a vCPU of the calling domain; -ENOENT: it has no such vCPU."""
    if vcpu_id >= len(vcpu.domain.vcpus):
        raise HypercallError(Errno.ENOENT)
    if command not in _COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    return _COMMANDS[command](vcpu.domain.vcpus[vcpu_id], vcpu, argument)
