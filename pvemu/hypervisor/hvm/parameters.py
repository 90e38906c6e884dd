"""The parameters of an HVM domain (header hvm/params.h): who may read and set which, and what that does."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hvm_op import (
    HVM_PARAM_ACPI_IOPORTS_LOCATION,
    HVM_PARAM_ACPI_S_STATE,
    HVM_PARAM_ALTP2M,
    HVM_PARAM_BUFIOREQ_EVTCHN,
    HVM_PARAM_BUFIOREQ_PFN,
    HVM_PARAM_CALLBACK_IRQ,
    HVM_PARAM_CONSOLE_EVTCHN,
    HVM_PARAM_CONSOLE_PFN,
    HVM_PARAM_IOREQ_PFN,
    HVM_PARAM_IOREQ_SERVER_PFN,
    HVM_PARAM_MCA_CAP,
    HVM_PARAM_NESTEDHVM,
    HVM_PARAM_NR_IOREQ_SERVER_PAGES,
    HVM_PARAM_PAE_ENABLED,
    HVM_PARAM_STORE_EVTCHN,
    HVM_PARAM_STORE_PFN,
    HVM_PARAM_TIMER_MODE,
    HVM_PARAM_TRIPLE_FAULT_REASON,
    HVM_PARAM_VIRIDIAN,
    HVM_PARAM_VM86_TSS,
    HVM_PARAM_VM86_TSS_SIZED,
    HVM_PARAM_VM_GENERATION_ID_ADDR,
    HVM_PARAM_X87_FIP_WIDTH,
    HVMPTM_one_missed_tick_pending,
)
from pvemu.abi.sched import SHUTDOWN_MAX
from pvemu.hypervisor.hvm.word import latch_shared_info

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

#: What happens when a parameter is set to a value: which one is set then, and to what.
_Effect = Callable[["Vcpu", "Domain", int, int], tuple[int, int]]

#: What a guest may set, and what it may read.
_GUEST_SETS: Final = frozenset(
    {
        HVM_PARAM_CALLBACK_IRQ,
        HVM_PARAM_VM86_TSS,
        HVM_PARAM_VM86_TSS_SIZED,
        HVM_PARAM_ACPI_IOPORTS_LOCATION,
        HVM_PARAM_VM_GENERATION_ID_ADDR,
        HVM_PARAM_STORE_EVTCHN,
        HVM_PARAM_CONSOLE_EVTCHN,
        HVM_PARAM_X87_FIP_WIDTH,
    }
)
_GUEST_READS: Final = _GUEST_SETS | {HVM_PARAM_STORE_PFN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_ALTP2M}
#: What nobody sets or reads any more; 13 was the device model's domain, the others of them events of memory.
_RETIRED: Final = frozenset(
    {HVM_PARAM_PAE_ENABLED, 13, 20, 21, 22, 23, HVM_PARAM_NESTEDHVM, 25, HVM_PARAM_BUFIOREQ_EVTCHN, 30}
)
#: What is set once.
_SET_ONCE: Final = frozenset(
    {
        HVM_PARAM_VIRIDIAN,
        HVM_PARAM_IOREQ_PFN,
        HVM_PARAM_BUFIOREQ_PFN,
        HVM_PARAM_IOREQ_SERVER_PFN,
        HVM_PARAM_NR_IOREQ_SERVER_PAGES,
        HVM_PARAM_ALTP2M,
        HVM_PARAM_MCA_CAP,
    }
)
_FIP_WIDTHS: Final = (0, 4, 8)
#: The task state for virtual-8086 mode: least bytes, bytes of one that is given without a size, and most.
_TASK_SIZE: Final = 104
_OLD_TASK_SIZE: Final = 128
_LARGEST_TASK: Final = _TASK_SIZE + 0x100 // 8 + 0x10000 // 8 + 1
_LOW: Final = 0xFFFFFFFF


def _check(caller: "Vcpu", domain: "Domain", index: int, allowed: frozenset[int]) -> None:
    if domain is not caller.domain and not caller.domain.privileged:
        raise HypercallError(Errno.EPERM)
    if index in _RETIRED:
        raise HypercallError(Errno.EINVAL)
    if index not in allowed and domain is caller.domain:
        raise HypercallError(Errno.EPERM)


def get_parameter(caller: "Vcpu", domain: "Domain", index: int) -> int:
    """HVMOP_get_param.

    Raises:
        HypercallError: EPERM, not for a guest to read, or another's; EINVAL, nobody has it any more.
    """
    _check(caller, domain, index, _GUEST_READS)
    parameters = domain.hvm.parameters
    if index == HVM_PARAM_VM86_TSS:
        return parameters.get(HVM_PARAM_VM86_TSS_SIZED, 0) & _LOW
    return parameters.get(index, 0)


def set_parameter(caller: "Vcpu", domain: "Domain", index: int, value: int) -> None:
    """HVMOP_set_param.

    Raises:
        HypercallError: EPERM, not for a guest to set, or another's; EINVAL, nobody has it any more, or no
            value for it; EEXIST, it has another one, and that is settled.
    """
    _check(caller, domain, index, _GUEST_SETS)
    parameters = domain.hvm.parameters
    if index in _SET_ONCE and parameters.get(index, 0) not in (0, value):
        raise HypercallError(Errno.EEXIST)
    effect = _EFFECTS.get(index)
    if effect is not None:
        index, value = effect(caller, domain, index, value)
    parameters[index] = value


# --- what a value does, and which value is kept then ----------------------------------------------


def _set_callback(caller: "Vcpu", domain: "Domain", index: int, value: int) -> tuple[int, int]:
    domain.hvm.upcalls.set_callback_via(value)
    if domain is caller.domain:
        latch_shared_info(caller)
    return index, value


def _only(*allowed: int) -> _Effect:
    def check(_caller: "Vcpu", _domain: "Domain", index: int, value: int) -> tuple[int, int]:
        if value not in allowed:
            raise HypercallError(Errno.EINVAL)
        return index, value

    return check


def _up_to(last: int) -> _Effect:
    return _only(*range(last + 1))


def _set_old_task(caller: "Vcpu", domain: "Domain", _index: int, value: int) -> tuple[int, int]:
    """A task state without a size; an address beyond 32 bits is no mistake that real Xen forgives."""
    if value >> 32:
        _crash_own(caller, domain, "a task state for virtual-8086 mode beyond 4 GiB")
    return HVM_PARAM_VM86_TSS_SIZED, value | _OLD_TASK_SIZE << 32 if value else 0


def _set_task(caller: "Vcpu", domain: "Domain", index: int, value: int) -> tuple[int, int]:
    """A task state with its size in the upper half; so large a one is never used that it is not cut off."""
    if value >> 32 < _TASK_SIZE:
        _crash_own(caller, domain, "a task state for virtual-8086 mode that is too small")
    return index, value & _LOW | min(value >> 32, _LARGEST_TASK) << 32


def _crash_own(caller: "Vcpu", domain: "Domain", reason: str) -> None:
    if domain is caller.domain:
        domain.crash(reason)
    raise HypercallError(Errno.EINVAL)


_EFFECTS: Final[dict[int, _Effect]] = {
    HVM_PARAM_CALLBACK_IRQ: _set_callback,
    HVM_PARAM_VM86_TSS: _set_old_task,
    HVM_PARAM_VM86_TSS_SIZED: _set_task,
    HVM_PARAM_X87_FIP_WIDTH: _only(*_FIP_WIDTHS),
    HVM_PARAM_TRIPLE_FAULT_REASON: _up_to(SHUTDOWN_MAX),
    HVM_PARAM_TIMER_MODE: _up_to(HVMPTM_one_missed_tick_pending),
    HVM_PARAM_ACPI_S_STATE: _only(0),
    HVM_PARAM_ACPI_IOPORTS_LOCATION: _only(1),
}
