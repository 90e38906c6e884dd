"""The vcpu_op hypercall: bringing vCPUs up and down, their timers, and what is told of them in memory."""

from collections.abc import Callable
from typing import Final

from pvemu.abi.arch_x86 import vcpu_guest_context
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hvm_vcpu import vcpu_hvm_context
from pvemu.abi.sched import SHUTDOWN_poweroff
from pvemu.abi.vcpu import (
    VCPUOP_down,
    VCPUOP_get_physid,
    VCPUOP_get_runstate_info,
    VCPUOP_initialise,
    VCPUOP_is_up,
    VCPUOP_register_runstate_memory_area,
    VCPUOP_register_vcpu_info,
    VCPUOP_register_vcpu_time_memory_area,
    VCPUOP_send_nmi,
    VCPUOP_set_periodic_timer,
    VCPUOP_set_singleshot_timer,
    VCPUOP_stop_periodic_timer,
    VCPUOP_stop_singleshot_timer,
    VCPUOP_up,
    vcpu_get_physid,
    vcpu_register_vcpu_info,
    vcpu_runstate_info,
    vcpu_set_periodic_timer,
    vcpu_set_singleshot_timer,
)
from pvemu.abi.xen import VIRQ_TIMER, vcpu_time_info
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.hvm.vcpu_context import initialise
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.guest_context import set_guest_context
from pvemu.hypervisor.runstate import pack_runstate, settle_runstate
from pvemu.hypervisor.time import update_time
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.vcpu_info import register_vcpu_info
from pvemu.hypervisor.virq import send_virq
from pvemu.memory.guest import GuestFault

_SHORTEST_PERIOD: Final = 1_000_000
_LONGEST_PERIOD: Final = (1 << 62) - 1
#: System times are signed; one that looks negative has passed.
_SIGN: Final = 1 << 63


def _own(vcpu: Vcpu, caller: Vcpu) -> None:
    """Some things a vCPU can do only for itself; raises HypercallError(EINVAL)."""
    if vcpu is not caller:
        raise HypercallError(Errno.EINVAL)


# --- up and down ----------------------------------------------------------------------------------


def _initialise(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    """Give a vCPU its first registers; one beyond the 32nd must have a vcpu_info of its own before."""
    if vcpu.info == vcpu.domain.hypervisor.dummy_vcpu_info:
        raise HypercallError(Errno.EINVAL)
    if vcpu.domain.is_hvm:
        context = read_structure(caller.domain, vcpu_hvm_context, argument)
        if vcpu.is_initialised:
            raise HypercallError(Errno.EEXIST)
        initialise(vcpu, context)
        return 0
    context = read_structure(caller.domain, vcpu_guest_context, argument)
    if vcpu.is_initialised:
        raise HypercallError(Errno.EEXIST)
    if not set_guest_context(vcpu, context):
        raise Continuation(VCPUOP_initialise, vcpu.id, argument)
    return 0


def _up(vcpu: Vcpu, _caller: Vcpu, _argument: int) -> int:
    if not vcpu.is_initialised:
        raise HypercallError(Errno.EINVAL)
    if not vcpu.online:
        vcpu.online = True
        vcpu.domain.hypervisor.make_runnable(vcpu)
    return 0


def _down(vcpu: Vcpu, _caller: Vcpu, _argument: int) -> int:
    """Take a vCPU offline; when it is the last one, the domain powers off."""
    domain = vcpu.domain
    if not any(other.online for other in domain.vcpus if other is not vcpu):
        domain.shutdown(SHUTDOWN_poweroff)
        return 0
    vcpu.online = False
    settle_runstate(vcpu)
    domain.hypervisor.reschedule()
    return 0


def _is_up(vcpu: Vcpu, _caller: Vcpu, _argument: int) -> int:
    return 1 if vcpu.online else 0


def _send_nmi(vcpu: Vcpu, _caller: Vcpu, argument: int) -> int:
    """Deliver an NMI when the vCPU runs next: for the caller, after this hypercall."""
    if argument:
        raise HypercallError(Errno.EINVAL)
    vcpu.nmi_pending = True
    if vcpu.domain.is_hvm:
        vcpu.hvm.attention = True
    hypervisor = vcpu.domain.hypervisor
    hypervisor.wake(vcpu)
    hypervisor.reschedule()
    return 0


def _get_physid(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    """The processor's numbers, for domain 0, whose vCPUs have no other one to run on."""
    if not caller.domain.privileged:
        raise HypercallError(Errno.EINVAL)
    memory = caller.domain.memory
    memory.copy_to_guest(argument, vcpu_get_physid.pack(caller.domain.word, phys_id=_PHYS_IDS[bool(vcpu.id)]))
    return 0


#: APIC id in the lower half, ACPI id in the upper: of the one processor there is, and of none.
_PHYS_IDS: Final = (0, 0xFF << 32 | 0xFFFFFFFF)


# --- timers ---------------------------------------------------------------------------------------


def _set_periodic_timer(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    """Ring VIRQ_TIMER every so many nanoseconds, while the vCPU runs: at least a millisecond."""
    period = read_structure(caller.domain, vcpu_set_periodic_timer, argument).period_ns
    if not _SHORTEST_PERIOD <= period <= _LONGEST_PERIOD:
        raise HypercallError(Errno.EINVAL)
    vcpu.periodic_period = period
    if vcpu is caller:
        vcpu.domain.hypervisor.run_periodic_timer(vcpu)
    return 0


def _stop_periodic_timer(vcpu: Vcpu, _caller: Vcpu, _argument: int) -> int:
    vcpu.periodic_period = 0
    vcpu.periodic_timer.cancel()
    return 0


def _set_singleshot_timer(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    """Ring VIRQ_TIMER once at a system time; one that has passed is no error, even with VCPU_SSHOTTMR_future.

    Real Xen 4.17 looks at no flag (golden: vcpu_op-set_singleshot-past-future-flag).
    """
    timeout = read_structure(caller.domain, vcpu_set_singleshot_timer, argument).timeout_abs_ns
    _own(vcpu, caller)
    hypervisor = vcpu.domain.hypervisor
    if timeout < hypervisor.system_time():
        vcpu.singleshot_timer.cancel()
        send_virq(vcpu, VIRQ_TIMER)
        return 0
    vcpu.singleshot_timer.set(hypervisor.cycle_of(hypervisor.system_time() if timeout & _SIGN else timeout))
    return 0


def _stop_singleshot_timer(vcpu: Vcpu, caller: Vcpu, _argument: int) -> int:
    _own(vcpu, caller)
    vcpu.singleshot_timer.cancel()
    return 0


# --- what is told in memory -----------------------------------------------------------------------


def _register_vcpu_info(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    place = read_structure(caller.domain, vcpu_register_vcpu_info, argument)
    register_vcpu_info(vcpu, caller, place.mfn, place.offset)
    update_time(vcpu, vcpu.domain.hypervisor.tsc())
    return 0


def _get_runstate_info(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    packed = pack_runstate(vcpu, caller.domain.word, exact=True)
    caller.domain.memory.copy_to_guest(argument, packed)
    return 0


def _area(caller: Vcpu, argument: int, size: int) -> int:
    """The address that a request for a memory area names; raises HypercallError(EFAULT)."""
    memory = caller.domain.memory
    address = memory.read_word(argument, caller.domain.word)
    if not memory.range_okay(address, size):
        raise HypercallError(Errno.EFAULT)
    return address


def _register_runstate_area(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    """Copy the runstate to an address whenever the vCPU gets or leaves the processor; 0 for no more."""
    word = caller.domain.word
    vcpu.runstate_area = _area(caller, argument, vcpu_runstate_info.size(word))
    try:
        packed = pack_runstate(vcpu, word, exact=vcpu is not caller)
        caller.domain.memory.copy_to_guest(vcpu.runstate_area, packed)
    except GuestFault:
        return 0  # the place is taken down even if it can't be written yet
    return 0


def _register_time_area(vcpu: Vcpu, caller: Vcpu, argument: int) -> int:
    """Copy vcpu_time_info to a virtual address whenever it changes; 0 for no more."""
    vcpu.time_area = _area(caller, argument, vcpu_time_info.size(4))
    update_time(vcpu, vcpu.domain.hypervisor.tsc())
    return 0


_COMMANDS: Final[dict[int, Callable[[Vcpu, Vcpu, int], int]]] = {
    VCPUOP_initialise: _initialise,
    VCPUOP_up: _up,
    VCPUOP_down: _down,
    VCPUOP_is_up: _is_up,
    VCPUOP_get_runstate_info: _get_runstate_info,
    VCPUOP_register_runstate_memory_area: _register_runstate_area,
    VCPUOP_set_periodic_timer: _set_periodic_timer,
    VCPUOP_stop_periodic_timer: _stop_periodic_timer,
    VCPUOP_set_singleshot_timer: _set_singleshot_timer,
    VCPUOP_stop_singleshot_timer: _stop_singleshot_timer,
    VCPUOP_register_vcpu_info: _register_vcpu_info,
    VCPUOP_send_nmi: _send_nmi,
    VCPUOP_get_physid: _get_physid,
    VCPUOP_register_vcpu_time_memory_area: _register_time_area,
}


@hypercall("vcpu_op")
def vcpu_op(vcpu: Vcpu, command: int, vcpu_id: int, argument: int) -> int:
    """Carry out one VCPUOP_* command for a vCPU of the calling domain; -ENOENT: it has no such vCPU."""
    if vcpu_id >= len(vcpu.domain.vcpus):
        raise HypercallError(Errno.ENOENT)
    if command not in _COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    return _COMMANDS[command](vcpu.domain.vcpus[vcpu_id], vcpu, argument)
