"""The hvm_op hypercall, as a PV guest finds it: all but the time is about guests of another kind.

Answers: golden pv32-*, family hvm_op; recorded: other_guests.
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
    xen_hvm_get_mem_type,
    xen_hvm_get_time,
    xen_hvm_pagetable_dying,
    xen_hvm_param,
    xen_hvm_xentrace,
)
from pvemu.abi.structure import Structure
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

_EVENT_MASK: Final = 0xF000
_MOST_EXTRA: Final = 28


def _read(vcpu: Vcpu, structure: Structure, argument: int) -> Any:
    word = vcpu.domain.word
    return structure.unpack(word, vcpu.domain.memory.copy_from_guest(argument, structure.size(word)))


def _refuse(errno: Errno) -> HypercallError:
    return HypercallError(errno)


def _names_a_domain(vcpu: Vcpu, domid: int) -> bool:
    return vcpu.domain.is_self(domid) or domid in vcpu.domain.hypervisor.domains


def _param(vcpu: Vcpu, argument: int) -> int:
    """A parameter of a guest: -EINVAL, for it is no HVM guest."""
    op = _read(vcpu, xen_hvm_param, argument)
    if op.index < HVM_NR_PARAMS and not _names_a_domain(vcpu, op.domid):
        raise _refuse(Errno.ESRCH)
    raise _refuse(Errno.EINVAL)


def _pagetable_dying(vcpu: Vcpu, argument: int) -> int:
    op = _read(vcpu, xen_hvm_pagetable_dying, argument)
    if not _names_a_domain(vcpu, op.domid):
        raise _refuse(Errno.ESRCH)
    raise _refuse(Errno.EINVAL if vcpu.domain.is_self(op.domid) else Errno.EOPNOTSUPP)


def _get_time(vcpu: Vcpu, argument: int) -> int:
    now = vcpu.domain.hypervisor.system_time()
    vcpu.domain.memory.copy_to_guest(argument, xen_hvm_get_time.pack(vcpu.domain.word, now=now))
    return 0


def _xentrace(vcpu: Vcpu, argument: int) -> int:
    """Put an event into the trace, which nobody reads."""
    op = _read(vcpu, xen_hvm_xentrace, argument)
    if op.extra_bytes > _MOST_EXTRA or op.event & _EVENT_MASK:
        raise _refuse(Errno.EINVAL)
    return 0


def _get_mem_type(vcpu: Vcpu, argument: int) -> int:
    """-ESRCH for every domain: real Xen 4.17 finds only those with hardware virtualisation here."""
    _read(vcpu, xen_hvm_get_mem_type, argument)
    raise _refuse(Errno.ESRCH)


def _guest_request(_vcpu: Vcpu, argument: int) -> int:
    """Tell whoever watches this guest, which is nobody."""
    if argument:
        raise _refuse(Errno.EINVAL)
    return 0


def _answer(errno: Errno) -> Callable[[Vcpu, int], int]:
    return lambda _vcpu, _argument: -int(errno)


_COMMANDS: Final[dict[int, Callable[[Vcpu, int], int]]] = {
    HVMOP_set_param: _param,
    HVMOP_get_param: _param,
    HVMOP_flush_tlbs: _answer(Errno.EINVAL),
    HVMOP_pagetable_dying: _pagetable_dying,
    HVMOP_get_time: _get_time,
    HVMOP_xentrace: _xentrace,
    HVMOP_get_mem_type: _get_mem_type,
    HVMOP_set_evtchn_upcall_vector: _answer(Errno.EINVAL),
    HVMOP_guest_request_vm_event: _guest_request,
    HVMOP_altp2m: _answer(Errno.EOPNOTSUPP),
}


@hypercall("hvm_op")
def hvm_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one HVMOP_* command."""
    if command not in _COMMANDS:
        raise _refuse(Errno.ENOSYS)
    return _COMMANDS[command](vcpu, argument)
