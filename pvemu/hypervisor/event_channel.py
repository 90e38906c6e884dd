"""Event channels, in the two-level form: a bit of the shared_info page for each port.

Answers: golden pv32-*, family evtchn; behav32, lines evt-*. A domain that runs outside the machine (a
service of dom0) has no vCPUs; its events are queued for it instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.event_channel import (
    EVTCHN_2L_NR_CHANNELS,
    EVTCHNOP_alloc_unbound,
    EVTCHNOP_bind_interdomain,
    EVTCHNOP_bind_ipi,
    EVTCHNOP_bind_virq,
    EVTCHNOP_close,
    EVTCHNOP_send,
    EVTCHNOP_status,
    EVTCHNOP_unmask,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
    evtchn_alloc_unbound,
    evtchn_bind_interdomain,
    evtchn_bind_ipi,
    evtchn_bind_virq,
    evtchn_close,
    evtchn_op,
    evtchn_send,
    evtchn_status,
    evtchn_unmask,
)
from pvemu.abi.structure import Structure
from pvemu.abi.xen import (
    DOMID_SELF,
    NR_VIRQS,
    VIRQ_DEBUG,
    VIRQ_TIMER,
    VIRQ_XENOPROF,
    VIRQ_XENPMU,
    shared_info,
)
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_PENDING: Final = shared_info.offset("evtchn_pending", 4)
_MASK: Final = shared_info.offset("evtchn_mask", 4)
_SELECTOR_OFFSET: Final = 4  #: of vcpu_info.evtchn_pending_sel
_PORTS: Final = EVTCHN_2L_NR_CHANNELS.of(4)
#: Virtual interrupts that each vCPU has for itself; the others are bound on vCPU 0.
_PER_VCPU_VIRQS: Final = frozenset({VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU})


class State(IntEnum):
    """What a port is bound to."""

    FREE = 0
    RESERVED = 1
    UNBOUND = 2
    INTERDOMAIN = 3
    VIRQ = 4
    IPI = 5


_STATUS: Final = {
    State.FREE: EVTCHNSTAT_closed,
    State.RESERVED: EVTCHNSTAT_closed,
    State.UNBOUND: EVTCHNSTAT_unbound,
    State.INTERDOMAIN: EVTCHNSTAT_interdomain,
    State.VIRQ: EVTCHNSTAT_virq,
    State.IPI: EVTCHNSTAT_ipi,
}


@dataclass
class EventChannel:
    """One port of a domain.

    `remote` is the domain that may bind to it (UNBOUND) or is bound to it (INTERDOMAIN), `remote_port` its
    port there; `virq` is for VIRQ; `vcpu` is the vCPU that is told.
    """

    state: State = State.RESERVED
    vcpu: int = 0
    remote: int = 0
    remote_port: int = 0
    virq: int = 0


def _error(errno: Errno) -> HypercallError:
    return HypercallError(errno)


def channel(domain: "Domain", port: int) -> EventChannel:
    """The port of a domain; raises HypercallError(EINVAL) beyond its ports."""
    if not 0 <= port < len(domain.channels):
        if 0 <= port < _PORTS:
            return EventChannel(State.FREE)
        raise _error(Errno.EINVAL)
    return domain.channels[port]


def allocate_port(domain: "Domain", bound: EventChannel) -> int:
    """Bind the lowest free port (never 0); raises HypercallError(ENOSPC) when there is none."""
    if not domain.channels:
        domain.channels.append(EventChannel(State.RESERVED))
    for port, existing in enumerate(domain.channels):
        if existing.state is State.FREE:
            domain.channels[port] = bound
            return port
    if len(domain.channels) >= _PORTS:
        raise _error(Errno.ENOSPC)
    domain.channels.append(bound)
    return len(domain.channels) - 1


def _domain(caller: "Domain", domid: int) -> "Domain":
    """The domain that a guest names; raises HypercallError(ESRCH)."""
    found = caller if caller.is_self(domid) else caller.hypervisor.domains.get(domid)
    if found is None:
        raise _error(Errno.ESRCH)
    return found


# --- operations -----------------------------------------------------------------------------------


def alloc_unbound(caller: "Domain", domid: int, remote: int) -> int:
    """Make a port to which a remote domain may bind; its number.

    Raises:
        HypercallError: ESRCH, no such domain; EPERM, another's port asked for without privilege.
    """
    domain = _domain(caller, domid)
    if domain is not caller and not caller.privileged:
        raise _error(Errno.EPERM)
    remote = caller.domid if remote == DOMID_SELF else remote
    return allocate_port(domain, EventChannel(State.UNBOUND, remote=remote))


def bind_interdomain(caller: "Domain", remote_domid: int, remote_port: int) -> int:
    """Bind a new port to one that a remote domain offers to the caller; its number.

    Raises:
        HypercallError: ESRCH, no such domain; EINVAL, no such offer.
    """
    remote = _domain(caller, remote_domid)
    offer = channel(remote, remote_port)
    if offer.state is not State.UNBOUND or offer.remote != caller.domid:
        raise _error(Errno.EINVAL)
    port = allocate_port(
        caller, EventChannel(State.INTERDOMAIN, remote=remote.domid, remote_port=remote_port)
    )
    offer.state, offer.remote, offer.remote_port = State.INTERDOMAIN, caller.domid, port
    # Whatever was sent before the binding is noticed now.
    set_pending(caller, port)
    return port


def bind_virq(caller: "Domain", virq: int, vcpu_id: int) -> int:
    """Bind a virtual interrupt; the port.

    Raises:
        HypercallError: EINVAL, no such interrupt, or a global one not on vCPU 0; ENOENT, no such vCPU;
            EEXIST, bound already.
    """
    if virq >= NR_VIRQS or (virq not in _PER_VCPU_VIRQS and vcpu_id):
        raise _error(Errno.EINVAL)
    if vcpu_id >= len(caller.vcpus):
        raise _error(Errno.ENOENT)
    if any(c.state is State.VIRQ and (c.virq, c.vcpu) == (virq, vcpu_id) for c in caller.channels):
        raise _error(Errno.EEXIST)
    port = allocate_port(caller, EventChannel(State.VIRQ, vcpu=vcpu_id, virq=virq))
    if virq == VIRQ_TIMER:
        caller.vcpus[vcpu_id].timer_port = port
    return port


def bind_ipi(caller: "Domain", vcpu_id: int) -> int:
    """Bind a port that the domain rings itself on one of its vCPUs; raises HypercallError(ENOENT)."""
    if vcpu_id >= len(caller.vcpus):
        raise _error(Errno.ENOENT)
    return allocate_port(caller, EventChannel(State.IPI, vcpu=vcpu_id))


def close(caller: "Domain", port: int) -> int:
    """Free a port; a remote end becomes unbound again. Raises HypercallError(EINVAL)."""
    closing = channel(caller, port)
    if closing.state in (State.FREE, State.RESERVED):
        raise _error(Errno.EINVAL)
    if closing.state is State.INTERDOMAIN:
        remote = caller.hypervisor.domains.get(closing.remote)
        if remote is not None:
            other = remote.channels[closing.remote_port]
            other.state, other.remote, other.remote_port = State.UNBOUND, caller.domid, 0
    if closing.state is State.VIRQ and closing.virq == VIRQ_TIMER:
        caller.vcpus[closing.vcpu].timer_port = 0
    caller.channels[port] = EventChannel(State.FREE)
    _clear_bit(caller, _PENDING, port)
    return 0


def send(caller: "Domain", port: int) -> int:
    """Ring a port: the other end of an interdomain channel, or an IPI.

    Raises:
        HypercallError: EINVAL, the port is bound to nothing that could be rung.
    """
    ringing = channel(caller, port)
    if ringing.state is State.INTERDOMAIN:
        remote = caller.hypervisor.domains.get(ringing.remote)
        if remote is not None:
            set_pending(remote, ringing.remote_port)
    elif ringing.state is State.IPI:
        set_pending(caller, port)
    elif ringing.state is not State.UNBOUND:
        raise _error(Errno.EINVAL)
    return 0


def unmask(caller: "Domain", port: int) -> int:
    """Clear a port's mask bit, and notice what was pending meanwhile; raises HypercallError(EINVAL)."""
    bound = channel(caller, port)
    if bound.state is State.FREE:
        raise _error(Errno.EINVAL)
    _clear_bit(caller, _MASK, port)
    if _bit(caller, _PENDING, port):
        _select(caller, port, bound.vcpu)
    return 0


def send_virq(vcpu: Vcpu, virq: int) -> None:
    """Ring a virtual interrupt of a vCPU, if the guest has bound it."""
    for port, bound in enumerate(vcpu.domain.channels):
        if bound.state is State.VIRQ and (bound.virq, bound.vcpu) == (virq, vcpu.id):
            set_pending(vcpu.domain, port)


def set_pending(domain: "Domain", port: int) -> None:
    """Mark a port pending, and its vCPU unless the port is masked or was pending already."""
    if not domain.vcpus:
        domain.hypervisor.notify_service(domain, port)
        return
    if _set_bit(domain, _PENDING, port):
        return
    if not _bit(domain, _MASK, port):
        _select(domain, port, domain.channels[port].vcpu)


def _select(domain: "Domain", port: int, vcpu_id: int) -> None:
    vcpu = domain.vcpus[vcpu_id]
    ram = domain.hypervisor.ram
    selector = vcpu.info + _SELECTOR_OFFSET >> 2
    bit = 1 << (port >> 5)
    if ram.u32[selector] & bit:
        return
    ram.u32[selector] |= bit
    ram.u8[vcpu.info] = 1
    domain.hypervisor.wake(vcpu)


def _bit(domain: "Domain", base: int, port: int) -> int:
    word = domain.hypervisor.ram.u32[(domain.shared_info + base >> 2) + (port >> 5)]
    return word >> (port & 31) & 1


def _set_bit(domain: "Domain", base: int, port: int) -> int:
    """Set a bit; what it was."""
    at = (domain.shared_info + base >> 2) + (port >> 5)
    words, bit = domain.hypervisor.ram.u32, 1 << (port & 31)
    was = words[at] & bit
    words[at] |= bit
    return was


def _clear_bit(domain: "Domain", base: int, port: int) -> None:
    at = (domain.shared_info + base >> 2) + (port >> 5)
    domain.hypervisor.ram.u32[at] &= ~(1 << (port & 31)) & 0xFFFFFFFF


# --- the hypercalls -------------------------------------------------------------------------------


def _do_alloc_unbound(caller: "Domain", op: Any) -> int:
    op.port = alloc_unbound(caller, op.dom, op.remote_dom)
    return 0


def _do_bind_interdomain(caller: "Domain", op: Any) -> int:
    op.local_port = bind_interdomain(caller, op.remote_dom, op.remote_port)
    return 0


def _do_bind_virq(caller: "Domain", op: Any) -> int:
    op.port = bind_virq(caller, op.virq, op.vcpu)
    return 0


def _do_bind_ipi(caller: "Domain", op: Any) -> int:
    op.port = bind_ipi(caller, op.vcpu)
    return 0


def _do_status(caller: "Domain", op: Any) -> int:
    domain = _domain(caller, op.dom)
    bound = channel(domain, op.port)
    if domain is not caller and not caller.privileged:
        raise _error(Errno.EPERM)
    op.status, op.vcpu = _STATUS[bound.state], bound.vcpu
    if bound.state is State.UNBOUND:
        op.u = {"unbound": {"dom": bound.remote}}
    elif bound.state is State.INTERDOMAIN:
        op.u = {"interdomain": {"dom": bound.remote, "port": bound.remote_port}}
    elif bound.state is State.VIRQ:
        op.u = {"virq": bound.virq}
    return 0


#: Command -> its structure, what carries it out, whether the structure is written back.
_COMMANDS: Final[dict[int, tuple[Structure, Callable[["Domain", Any], int], bool]]] = {
    EVTCHNOP_alloc_unbound: (evtchn_alloc_unbound, _do_alloc_unbound, True),
    EVTCHNOP_bind_interdomain: (evtchn_bind_interdomain, _do_bind_interdomain, True),
    EVTCHNOP_bind_virq: (evtchn_bind_virq, _do_bind_virq, True),
    EVTCHNOP_bind_ipi: (evtchn_bind_ipi, _do_bind_ipi, True),
    EVTCHNOP_status: (evtchn_status, _do_status, True),
    EVTCHNOP_close: (evtchn_close, lambda caller, op: close(caller, op.port), False),
    EVTCHNOP_send: (evtchn_send, lambda caller, op: send(caller, op.port), False),
    EVTCHNOP_unmask: (evtchn_unmask, lambda caller, op: unmask(caller, op.port), False),
}


@hypercall("event_channel_op")
def event_channel_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one EVTCHNOP_* command."""
    if command not in _COMMANDS:
        raise _error(Errno.ENOSYS)
    structure, carry_out, writes_back = _COMMANDS[command]
    domain = vcpu.domain
    raw = domain.memory.copy_from_guest(argument, structure.size(domain.word))
    if command == EVTCHNOP_send:
        return send(domain, int.from_bytes(raw, "little"))
    op = structure.unpack(domain.word, raw)
    result = carry_out(domain, op)
    if writes_back:
        domain.memory.copy_to_guest(argument, structure.pack(domain.word, **vars(op)))
    return result


@hypercall("event_channel_op_compat")
def event_channel_op_compat(vcpu: Vcpu, argument: int) -> int:
    """The older form: the command stands before its structure."""
    command = vcpu.domain.memory.read_u32(argument)
    return event_channel_op(vcpu, command, argument + evtchn_op.offset("u", vcpu.domain.word))
