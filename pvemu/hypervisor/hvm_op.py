"""The hvm_op hypercall: the parameters of HVM guests, and what else only they can ask for.

A PV guest can call it, but all except the time is about guests of the other kind. Answers to PV guests:
golden pv32-*, family hvm_op; recorded: other_guests.
"""

from collections.abc import Callable
from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hvm_op import (
    HVM_NR_PARAMS,
    HVMOP_altp2m,
    HVMOP_flush_tlbs,
    HVMOP_get_mem_type,
    HVMOP_get_param,
    HVMOP_get_time,
    HVMOP_guest_request_vm_event,
    HVMOP_pagetable_dying,
    HVMOP_set_evtchn_upcall_vector,
    HVMOP_set_param,
    HVMOP_xentrace,
    xen_hvm_evtchn_upcall_vector,
    xen_hvm_get_mem_type,
    xen_hvm_get_time,
    xen_hvm_pagetable_dying,
    xen_hvm_param,
    xen_hvm_xentrace,
)
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.guest_structure import copy_back, read_structure
from pvemu.hypervisor.hvm.parameters import get_parameter, set_parameter
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

_EVENT_MASK: Final = 0xF000
_MOST_EXTRA: Final = 28
#: What a gfn can be (hvmmem_type_t): HVMMEM_ram_rw, HVMMEM_ram_ro, HVMMEM_mmio_dm.
_MEMORY, _READ_ONLY, _DEVICE = range(3)
#: Vectors below are not for interrupts.
_LEAST_VECTOR: Final = 0x10


def _param(vcpu: Vcpu, argument: int) -> tuple[Any, Domain]:
    """The structure of a request about a parameter, and the domain.

    Raises:
        HypercallError: EINVAL, no such parameter, or no HVM guest; ESRCH.
    """
    op = read_structure(vcpu.domain, xen_hvm_param, argument)
    if op.index >= HVM_NR_PARAMS:
        raise HypercallError(Errno.EINVAL)
    domain = vcpu.domain.named(op.domid)
    if not domain.is_hvm:
        raise HypercallError(Errno.EINVAL)
    return op, domain


def _set_param(vcpu: Vcpu, argument: int) -> int:
    op, domain = _param(vcpu, argument)
    set_parameter(vcpu, domain, op.index, op.value)
    return 0


def _get_param(vcpu: Vcpu, argument: int) -> int:
    op, domain = _param(vcpu, argument)
    op.value = get_parameter(vcpu, domain, op.index)
    copy_back(vcpu.domain, xen_hvm_param, argument, op)
    return 0


def _set_evtchn_upcall_vector(vcpu: Vcpu, argument: int) -> int:
    """Have a vCPU told of events by a vector of its own; the first one comes at once."""
    domain = vcpu.domain
    if not domain.is_hvm:
        raise HypercallError(Errno.EINVAL)
    op = read_structure(vcpu.domain, xen_hvm_evtchn_upcall_vector, argument)
    if op.vector < _LEAST_VECTOR:
        raise HypercallError(Errno.EINVAL)
    if op.vcpu >= len(domain.vcpus):
        raise HypercallError(Errno.ENOENT)
    told = domain.vcpus[op.vcpu]
    told.hvm.callback_vector = op.vector
    domain.hvm.upcalls.tell(told)
    return 0


def _flush_tlbs(vcpu: Vcpu, argument: int) -> int:
    if argument or not vcpu.domain.is_hvm:
        raise HypercallError(Errno.EINVAL)
    vcpu.domain.hvm.paging.root_changed(vcpu)
    return 0


def _pagetable_dying(vcpu: Vcpu, argument: int) -> int:
    """A hint that helps shadow paging; ours does without."""
    op = read_structure(vcpu.domain, xen_hvm_pagetable_dying, argument)
    domain = vcpu.domain.named(op.domid)
    if domain is not vcpu.domain:
        raise HypercallError(Errno.EOPNOTSUPP)
    if not domain.is_hvm or domain.hvm.paging.has_guest_cr3:
        raise HypercallError(Errno.EINVAL)
    return 0


def _get_time(vcpu: Vcpu, argument: int) -> int:
    now = vcpu.domain.hypervisor.system_time()
    vcpu.domain.memory.copy_to_guest(argument, xen_hvm_get_time.pack(vcpu.domain.word, now=now))
    return 0


def _xentrace(vcpu: Vcpu, argument: int) -> int:
    """Put an event into the trace, which nobody reads."""
    op = read_structure(vcpu.domain, xen_hvm_xentrace, argument)
    if op.extra_bytes > _MOST_EXTRA or op.event & _EVENT_MASK:
        raise HypercallError(Errno.EINVAL)
    return 0


def _get_mem_type(vcpu: Vcpu, argument: int) -> int:
    """What a gfn is: memory, memory that can't be written, or nothing."""
    op = read_structure(vcpu.domain, xen_hvm_get_mem_type, argument)
    domain = vcpu.domain.named(op.domid)
    if domain is not vcpu.domain and not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)
    if not domain.is_hvm:
        raise HypercallError(Errno.EINVAL)
    if domain.p2m.get(op.pfn) is None:
        op.mem_type = _DEVICE
    else:
        op.mem_type = _MEMORY if domain.p2m.is_writable(op.pfn) else _READ_ONLY
    copy_back(vcpu.domain, xen_hvm_get_mem_type, argument, op)
    return 0


def _guest_request(_vcpu: Vcpu, argument: int) -> int:
    """Tell whoever watches this guest, which is nobody."""
    if argument:
        raise HypercallError(Errno.EINVAL)
    return 0


def _answer(errno: Errno) -> Callable[[Vcpu, int], int]:
    return lambda _vcpu, _argument: -int(errno)


_COMMANDS: Final[dict[int, Callable[[Vcpu, int], int]]] = {
    HVMOP_set_param: _set_param,
    HVMOP_get_param: _get_param,
    HVMOP_flush_tlbs: _flush_tlbs,
    HVMOP_pagetable_dying: _pagetable_dying,
    HVMOP_get_time: _get_time,
    HVMOP_xentrace: _xentrace,
    HVMOP_get_mem_type: _get_mem_type,
    HVMOP_set_evtchn_upcall_vector: _set_evtchn_upcall_vector,
    HVMOP_guest_request_vm_event: _guest_request,
    HVMOP_altp2m: _answer(Errno.EOPNOTSUPP),
}


@hypercall("hvm_op")
def hvm_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one HVMOP_* command."""
    if command not in _COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    return _COMMANDS[command](vcpu, argument)
