"""The event_channel_op hypercall: each command with its structure, and the older form of the call."""

from collections.abc import Callable
from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.event_channel import (
    EVTCHNOP_alloc_unbound,
    EVTCHNOP_bind_interdomain,
    EVTCHNOP_bind_ipi,
    EVTCHNOP_bind_pirq,
    EVTCHNOP_bind_vcpu,
    EVTCHNOP_bind_virq,
    EVTCHNOP_close,
    EVTCHNOP_expand_array,
    EVTCHNOP_init_control,
    EVTCHNOP_reset,
    EVTCHNOP_send,
    EVTCHNOP_set_priority,
    EVTCHNOP_status,
    EVTCHNOP_unmask,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_pirq,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
    evtchn_alloc_unbound,
    evtchn_bind_interdomain,
    evtchn_bind_ipi,
    evtchn_bind_pirq,
    evtchn_bind_vcpu,
    evtchn_bind_virq,
    evtchn_close,
    evtchn_expand_array,
    evtchn_init_control,
    evtchn_op,
    evtchn_send,
    evtchn_set_priority,
    evtchn_status,
    evtchn_unmask,
)
from pvemu.abi.structure import Structure
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.event_channel import (
    alloc_unbound,
    bind_interdomain,
    bind_ipi,
    bind_pirq,
    bind_vcpu,
    bind_virq,
    check_privilege,
    close,
    reset,
    send,
    set_priority,
    unmask,
)
from pvemu.hypervisor.event_fifo import expand_array, init_control
from pvemu.hypervisor.event_ports import State, channel
from pvemu.hypervisor.guest_structure import copy_back, read_structure
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

_STATUS: Final = {
    State.FREE: EVTCHNSTAT_closed,
    State.RESERVED: EVTCHNSTAT_closed,
    State.UNBOUND: EVTCHNSTAT_unbound,
    State.INTERDOMAIN: EVTCHNSTAT_interdomain,
    State.VIRQ: EVTCHNSTAT_virq,
    State.IPI: EVTCHNSTAT_ipi,
    State.PIRQ: EVTCHNSTAT_pirq,
}
#: Goes on with a reset that was stopped (EVTCHNOP_reset_cont: Xen's own, in no public header).
_RESET_CONT: Final = 14


def _do_alloc_unbound(vcpu: Vcpu, op: Any) -> int:
    op.port = alloc_unbound(vcpu.domain, op.dom, op.remote_dom)
    return 0


def _do_bind_interdomain(vcpu: Vcpu, op: Any) -> int:
    op.local_port = bind_interdomain(vcpu.domain, op.remote_dom, op.remote_port)
    return 0


def _do_bind_virq(vcpu: Vcpu, op: Any) -> int:
    op.port = bind_virq(vcpu.domain, op.virq, op.vcpu)
    return 0


def _do_bind_ipi(vcpu: Vcpu, op: Any) -> int:
    op.port = bind_ipi(vcpu.domain, op.vcpu)
    return 0


def _do_bind_pirq(vcpu: Vcpu, op: Any) -> int:
    op.port = bind_pirq(vcpu.domain, op.pirq)
    return 0


def _do_status(vcpu: Vcpu, op: Any) -> int:
    domain = vcpu.domain.named(op.dom)
    bound = channel(domain, op.port)
    check_privilege(vcpu.domain, domain)
    op.status, op.vcpu = _STATUS[bound.state], bound.vcpu
    if bound.state is State.UNBOUND:
        op.u = {"unbound": {"dom": bound.remote}}
    elif bound.state is State.INTERDOMAIN:
        op.u = {"interdomain": {"dom": bound.remote, "port": bound.remote_port}}
    elif bound.state is State.VIRQ:
        op.u = {"virq": bound.virq}
    elif bound.state is State.PIRQ:
        op.u = {"pirq": bound.pirq}
    return 0


def _do_init_control(vcpu: Vcpu, op: Any) -> int:
    op.link_bits = init_control(vcpu.domain, op.vcpu, op.control_gfn, op.offset)
    return 0


#: Command -> its structure, what carries it out, whether the structure is written back.
_COMMANDS: Final[dict[int, tuple[Structure, Callable[[Vcpu, Any], int], bool]]] = {
    EVTCHNOP_alloc_unbound: (evtchn_alloc_unbound, _do_alloc_unbound, True),
    EVTCHNOP_bind_interdomain: (evtchn_bind_interdomain, _do_bind_interdomain, True),
    EVTCHNOP_bind_virq: (evtchn_bind_virq, _do_bind_virq, True),
    EVTCHNOP_bind_ipi: (evtchn_bind_ipi, _do_bind_ipi, True),
    EVTCHNOP_bind_pirq: (evtchn_bind_pirq, _do_bind_pirq, True),
    EVTCHNOP_bind_vcpu: (evtchn_bind_vcpu, lambda vcpu, op: bind_vcpu(vcpu.domain, op.port, op.vcpu), False),
    EVTCHNOP_status: (evtchn_status, _do_status, True),
    EVTCHNOP_close: (evtchn_close, lambda vcpu, op: close(vcpu.domain, op.port), False),
    EVTCHNOP_send: (evtchn_send, lambda vcpu, op: send(vcpu.domain, op.port), False),
    EVTCHNOP_unmask: (evtchn_unmask, lambda vcpu, op: unmask(vcpu.domain, op.port), False),
    EVTCHNOP_init_control: (evtchn_init_control, _do_init_control, True),
    EVTCHNOP_expand_array: (
        evtchn_expand_array,
        lambda vcpu, op: expand_array(vcpu.domain, op.array_gfn),
        False,
    ),
    EVTCHNOP_set_priority: (
        evtchn_set_priority,
        lambda vcpu, op: set_priority(vcpu.domain, op.port, op.priority),
        False,
    ),
}
#: What the older form of the hypercall knows.
_COMPAT_COMMANDS: Final = range(EVTCHNOP_bind_interdomain, EVTCHNOP_unmask + 1)


@hypercall("event_channel_op")
def event_channel_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one EVTCHNOP_* command."""
    domain = vcpu.domain
    if command == EVTCHNOP_send:
        return send(domain, domain.memory.read_u32(argument))
    if command in (EVTCHNOP_reset, _RESET_CONT):
        domid = domain.memory.read_u16(argument)
        if reset(domain, domid, resuming=command == _RESET_CONT):
            return 0
        raise Continuation(_RESET_CONT, argument)
    if command not in _COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    structure, carry_out, writes_back = _COMMANDS[command]
    op = read_structure(domain, structure, argument)
    result = carry_out(vcpu, op)
    if writes_back:
        copy_back(domain, structure, argument, op)
    return result


@hypercall("event_channel_op_compat")
def event_channel_op_compat(vcpu: Vcpu, argument: int) -> int:
    """The older form: the command stands before its structure, and all of the union must be readable."""
    domain = vcpu.domain
    raw = domain.memory.copy_from_guest(argument, evtchn_op.size(domain.word))
    command = int.from_bytes(raw[:4], "little")
    if command not in _COMPAT_COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    return event_channel_op(vcpu, command, argument + evtchn_op.offset("u", domain.word))
