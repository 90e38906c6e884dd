"""The scheduler operations of a guest: yield, block, shut down; and the one-shot timer of set_timer_op."""

from collections.abc import Callable
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.sched import (
    SCHEDOP_block,
    SCHEDOP_shutdown,
    SCHEDOP_shutdown_code,
    SCHEDOP_yield,
)
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

#: Xen keeps a shutdown reason in a byte.
_REASON_BITS: Final = 0xFF
#: A timeout further away than this (13 days) counts as a wrapped number, and comes in a tenth of a second.
_FARTHEST: Final = 1 << 50
_TENTH_OF_A_SECOND: Final = 100_000_000


def _yield(vcpu: Vcpu, _argument: int) -> int:
    vcpu.domain.hypervisor.reschedule()
    return 0


def _block(vcpu: Vcpu, _argument: int) -> int:
    """Unmask upcalls and sleep, unless one is pending already."""
    hypervisor = vcpu.domain.hypervisor
    hypervisor.ram.u8[vcpu.info + 1] = 0
    if not hypervisor.ram.u8[vcpu.info]:
        vcpu.blocked = True
        hypervisor.reschedule()
    return 0


def _shutdown(vcpu: Vcpu, argument: int) -> int:
    vcpu.domain.shutdown(vcpu.domain.memory.read_u32(argument) & _REASON_BITS)
    return 0


def _shutdown_code(vcpu: Vcpu, argument: int) -> int:
    """Name the reason in advance; the first one named is the one that counts."""
    vcpu.domain.announce_shutdown(vcpu.domain.memory.read_u32(argument) & _REASON_BITS)
    return 0


_COMMANDS: Final[dict[int, Callable[[Vcpu, int], int]]] = {
    SCHEDOP_yield: _yield,
    SCHEDOP_block: _block,
    SCHEDOP_shutdown: _shutdown,
    SCHEDOP_shutdown_code: _shutdown_code,
}


@hypercall("sched_op")
def sched_op(vcpu: Vcpu, command: int, argument: int, _start_info_mfn: int) -> int:
    """Carry out one SCHEDOP_* command."""
    if command not in _COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    return _COMMANDS[command](vcpu, argument)


@hypercall("sched_op_compat")
def sched_op_compat(vcpu: Vcpu, command: int, argument: int) -> int:
    """The older form, whose argument is the shutdown reason itself."""
    if command == SCHEDOP_shutdown:
        vcpu.domain.shutdown(argument & _REASON_BITS)
        return 0
    if command not in (SCHEDOP_yield, SCHEDOP_block):
        raise HypercallError(Errno.ENOSYS)
    return _COMMANDS[command](vcpu, 0)


@hypercall("set_timer_op")
def set_timer_op(vcpu: Vcpu, timeout: int) -> int:
    """Set the one-shot timer to a system time in nanoseconds; 0 cancels it, one in the past fires at once."""
    timer = vcpu.singleshot_timer
    assert timer is not None
    if timeout == 0:
        timer.cancel()
        return 0
    hypervisor = vcpu.domain.hypervisor
    now = hypervisor.system_time()
    if timeout - now >= _FARTHEST:
        timeout = now + _TENTH_OF_A_SECOND
    timer.set(hypervisor.cycle_of(max(timeout, now)))
    hypervisor.shorten_slice()
    return 0
