"""What a guest asks of the scheduler: yield, block, poll, shut down, watchdogs; and set_timer_op."""

from collections.abc import Callable
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.sched import (
    SCHEDOP_block,
    SCHEDOP_pin_override,
    SCHEDOP_poll,
    SCHEDOP_remote_shutdown,
    SCHEDOP_shutdown,
    SCHEDOP_shutdown_code,
    SCHEDOP_watchdog,
    SCHEDOP_yield,
    sched_pin_override,
    sched_poll,
    sched_remote_shutdown,
    sched_watchdog,
)
from pvemu.hypervisor.event_ports import State, channel
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.hvm.pending import events_need_delivery
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.bounce import upcall_due
from pvemu.hypervisor.upcall import ANY_PORT, start_polling
from pvemu.hypervisor.vcpu import Vcpu

#: Xen keeps a shutdown reason in a byte.
_REASON_BITS: Final = 0xFF
#: A timeout further away than this (13 days) counts as a wrapped number, and comes in a tenth of a second.
_FARTHEST: Final = 1 << 50
_TENTH_OF_A_SECOND: Final = 100_000_000
_MOST_POLLED: Final = 128
_PORT_SIZE: Final = 4


def _has_reason_to_run(vcpu: Vcpu) -> bool:
    """Whether an event is to be delivered at once (Xen: local_events_need_delivery)."""
    return events_need_delivery(vcpu) if vcpu.domain.is_hvm else upcall_due(vcpu)


def _yield(vcpu: Vcpu, _argument: int) -> int:
    vcpu.has_yielded = True
    vcpu.domain.hypervisor.reschedule()
    return 0


def _block(vcpu: Vcpu, _argument: int) -> int:
    """Unmask upcalls and sleep, unless one is pending already."""
    hypervisor = vcpu.domain.hypervisor
    hypervisor.ram.u8[vcpu.info + 1] = 0
    if not _has_reason_to_run(vcpu):
        vcpu.blocked = True
        hypervisor.reschedule()
    return 0


def _poll(vcpu: Vcpu, argument: int) -> int:
    """Sleep until one of up to 128 ports is pending, an upcall is due, or a system time has come.

    The ports are looked at one after the other, and a pending one ends that: what is wrong with those behind
    it is not seen. Without a port any event counts.
    """
    domain = vcpu.domain
    request = read_structure(vcpu.domain, sched_poll, argument)
    if request.nr_ports > _MOST_POLLED:
        raise HypercallError(Errno.EINVAL)
    if _has_reason_to_run(vcpu):
        return 0
    port = ANY_PORT
    for index in range(request.nr_ports):
        port = domain.memory.read_u32(request.ports + index * _PORT_SIZE)
        if channel(domain, port).state <= State.RESERVED:
            raise HypercallError(Errno.EINVAL)
        if domain.events.is_pending(port):
            return 0
    start_polling(vcpu, port if request.nr_ports == 1 else ANY_PORT)
    if request.timeout:
        hypervisor = domain.hypervisor
        vcpu.poll_timer.set(hypervisor.cycle_of(max(request.timeout, hypervisor.system_time())))
    return 0


def _shutdown(vcpu: Vcpu, argument: int) -> int:
    vcpu.domain.shutdown(vcpu.domain.memory.read_u32(argument) & _REASON_BITS)
    return 0


def _shutdown_code(vcpu: Vcpu, argument: int) -> int:
    """Name the reason in advance; the first one named is the one that counts."""
    vcpu.domain.announce_shutdown(vcpu.domain.memory.read_u32(argument) & _REASON_BITS)
    return 0


def _remote_shutdown(vcpu: Vcpu, argument: int) -> int:
    """Shut another domain down; only a real number names one, not DOMID_SELF."""
    request = read_structure(vcpu.domain, sched_remote_shutdown, argument)
    target = vcpu.domain.hypervisor.domains.get(request.domain_id)
    if target is None:
        raise HypercallError(Errno.ESRCH)
    if not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)
    target.shutdown(request.reason & _REASON_BITS)
    return 0


def _watchdog(vcpu: Vcpu, argument: int) -> int:
    request = read_structure(vcpu.domain, sched_watchdog, argument)
    return vcpu.domain.watchdogs.set(request.id, request.timeout)


def _pin_override(vcpu: Vcpu, argument: int) -> int:
    """Pin the calling vCPU to a processor, of which there is one: 0; or let it go again: below 0."""
    if not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)
    processor = read_structure(vcpu.domain, sched_pin_override, argument).pcpu
    if processor > 0 or (processor < 0 and not vcpu.pinned_override):
        raise HypercallError(Errno.EINVAL)
    if processor == 0 and vcpu.pinned_override:
        raise HypercallError(Errno.EBUSY)
    vcpu.pinned_override = processor == 0
    return 0


_COMMANDS: Final[dict[int, Callable[[Vcpu, int], int]]] = {
    SCHEDOP_yield: _yield,
    SCHEDOP_block: _block,
    SCHEDOP_shutdown: _shutdown,
    SCHEDOP_poll: _poll,
    SCHEDOP_remote_shutdown: _remote_shutdown,
    SCHEDOP_shutdown_code: _shutdown_code,
    SCHEDOP_watchdog: _watchdog,
    SCHEDOP_pin_override: _pin_override,
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
    if timeout == 0:
        vcpu.singleshot_timer.cancel()
        return 0
    hypervisor = vcpu.domain.hypervisor
    now = hypervisor.system_time()
    if timeout - now >= _FARTHEST:
        timeout = now + _TENTH_OF_A_SECOND
    vcpu.singleshot_timer.set(hypervisor.cycle_of(max(timeout, now)))
    return 0
