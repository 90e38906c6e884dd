"""Event channels: the operations by which domains bind, ring and free ports.

Answers: golden pv32-*, family evtchn; behav32, lines evt-*. How a pending event is stored is in
event_2l.py and event_fifo.py.
"""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import DOMID_SELF, NR_VIRQS
from pvemu.hypervisor.event_2l import TwoLevel
from pvemu.hypervisor.event_fifo import Fifo
from pvemu.hypervisor.event_ports import State, bind_port, channel, find_free_port, free_port, pirq_port
from pvemu.hypervisor.virq import is_global

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

#: As plain names, for the path that every event takes.
_UNBOUND, _INTERDOMAIN, _IPI = State.UNBOUND, State.INTERDOMAIN, State.IPI
#: A reset looks at the time after so many ports.
_PORTS_BETWEEN_LOOKS: Final = 64
#: Cycles of virtual time that closing a port takes.
_CLOSE_COST: Final = 500


def check_privilege(caller: "Domain", domain: "Domain") -> None:
    """Another domain's ports are for a privileged one; raises HypercallError(EPERM)."""
    if domain is not caller and not caller.privileged:
        raise HypercallError(Errno.EPERM)


def _check_vcpu(domain: "Domain", vcpu_id: int) -> None:
    """A domain outside the machine counts as having one vCPU; raises HypercallError(ENOENT)."""
    if vcpu_id >= max(len(domain.vcpus), 1):
        raise HypercallError(Errno.ENOENT)


# --- binding --------------------------------------------------------------------------------------


def alloc_unbound(caller: "Domain", domid: int, remote: int) -> int:
    """Make a port to which a remote domain may bind; its number.

    Raises:
        HypercallError: ESRCH, no such domain; ENOSPC; EPERM, another's port asked for without privilege.
    """
    domain = caller.named(domid)
    port = find_free_port(domain)
    check_privilege(caller, domain)
    bind_port(domain, port, State.UNBOUND).remote = caller.domid if remote == DOMID_SELF else remote
    return port


def bind_interdomain(caller: "Domain", remote_domid: int, remote_port: int) -> int:
    """Bind a new port to one that a remote domain offers to the caller; its number.

    Raises:
        HypercallError: ESRCH, no such domain; ENOSPC; EINVAL, no such offer.
    """
    remote = caller.named(remote_domid)
    port = find_free_port(caller)
    offer = channel(remote, remote_port)
    if offer.state is not State.UNBOUND or offer.remote != caller.domid:
        raise HypercallError(Errno.EINVAL)
    bound = bind_port(caller, port, State.INTERDOMAIN)
    bound.remote, bound.remote_port = remote.domid, remote_port
    offer.state, offer.remote, offer.remote_port = State.INTERDOMAIN, caller.domid, port
    # Whatever was sent before the binding is noticed now.
    caller.events.set_pending(port)
    return port


def bind_virq(caller: "Domain", virq: int, vcpu_id: int) -> int:
    """Bind a virtual interrupt; the port.

    Raises:
        HypercallError: EINVAL, no such interrupt, or a global one not on vCPU 0; ENOENT, no such vCPU;
            EEXIST, bound already; ENOSPC.
    """
    if virq >= NR_VIRQS or (is_global(virq) and vcpu_id):
        raise HypercallError(Errno.EINVAL)
    _check_vcpu(caller, vcpu_id)
    if (virq, vcpu_id) in caller.virq_ports:
        raise HypercallError(Errno.EEXIST)
    port = find_free_port(caller)
    bind_port(caller, port, State.VIRQ, vcpu_id).virq = virq
    caller.virq_ports[virq, vcpu_id] = port
    return port


def bind_ipi(caller: "Domain", vcpu_id: int) -> int:
    """Bind a port that the domain rings itself on one of its vCPUs; raises HypercallError(ENOENT, ENOSPC)."""
    _check_vcpu(caller, vcpu_id)
    port = find_free_port(caller)
    bind_port(caller, port, State.IPI, vcpu_id)
    return port


def bind_pirq(caller: "Domain", pirq: int) -> int:
    """Bind an interrupt of a device that was mapped before (PHYSDEVOP_map_pirq); the port.

    Raises:
        HypercallError: EINVAL, no such number; EPERM, not the domain's, which an HVM guest is not asked;
            EEXIST, bound already; ENOSPC.
    """
    if pirq >= caller.nr_pirqs:
        raise HypercallError(Errno.EINVAL)
    if pirq not in caller.pirqs and not caller.is_hvm:
        raise HypercallError(Errno.EPERM)
    if pirq_port(caller, pirq) is not None:
        raise HypercallError(Errno.EEXIST)
    port = find_free_port(caller)
    bind_port(caller, port, State.PIRQ).pirq = pirq
    return port


def bind_vcpu(caller: "Domain", port: int, vcpu_id: int) -> int:
    """Choose the vCPU that is told of a port from now on.

    Raises:
        HypercallError: ENOENT, no such vCPU; EINVAL, an IPI, a virtual interrupt of one vCPU, or no bound
            port.
    """
    _check_vcpu(caller, vcpu_id)
    bound = channel(caller, port)
    movable = bound.state in (State.UNBOUND, State.INTERDOMAIN, State.PIRQ)
    if not movable and not (bound.state is State.VIRQ and is_global(bound.virq)):
        raise HypercallError(Errno.EINVAL)
    bound.vcpu = vcpu_id
    return 0


# --- freeing --------------------------------------------------------------------------------------


def close(caller: "Domain", port: int) -> int:
    """Free a port; a remote end becomes unbound again. Raises HypercallError(EINVAL)."""
    closing = channel(caller, port)
    if closing.state in (State.FREE, State.RESERVED):
        raise HypercallError(Errno.EINVAL)
    if closing.state is State.VIRQ:
        del caller.virq_ports[closing.virq, 0 if is_global(closing.virq) else closing.vcpu]
    peer = closing.remote if closing.state is State.INTERDOMAIN else None
    free_port(caller, port)
    if peer is not None:
        other = caller.hypervisor.domains[peer].channels[closing.remote_port]
        other.state, other.remote = State.UNBOUND, caller.domid
    return 0


def reset(caller: "Domain", domid: int, *, resuming: bool) -> bool:
    """Close all ports, and go back to events as bits; False when it was stopped, to be resumed.

    Raises:
        HypercallError: ESRCH, no such domain; EPERM, another's; EINVAL, another's that is not paused;
            EBUSY, there is no reset to resume, or one to be resumed first.
    """
    domain = caller.named(domid)
    check_privilege(caller, domain)
    if domain is not caller and not domain.pause_count:
        raise HypercallError(Errno.EINVAL)
    if resuming != bool(domain.next_reset_port):
        raise HypercallError(Errno.EBUSY)
    domain.next_reset_port = domain.next_reset_port or 1
    if not close_all(domain):
        return False
    domain.next_reset_port = 0
    domain.events.destroy()
    domain.events = TwoLevel(domain) if domain.vcpus else domain.events
    return True


def close_all(domain: "Domain") -> bool:
    """Close the ports from `domain.next_reset_port` up; False when time was up before the last one."""
    hypervisor = domain.hypervisor
    while domain.next_reset_port < len(domain.channels):
        port = domain.next_reset_port
        if domain.channels[port].state not in (State.FREE, State.RESERVED):
            close(domain, port)
            hypervisor.charge(_CLOSE_COST)
        domain.next_reset_port += 1
        if port % _PORTS_BETWEEN_LOOKS == 0 and hypervisor.preempt_due():
            return False
    return True


# --- ringing --------------------------------------------------------------------------------------


def send(caller: "Domain", port: int) -> int:
    """Ring a port: the other end of an interdomain channel, or an IPI.

    Raises:
        HypercallError: EINVAL, the port is bound to nothing that could be rung.
    """
    channels = caller.channels
    if port >= len(channels):
        raise HypercallError(Errno.EINVAL)
    ringing = channels[port]
    state = ringing.state
    if state is _INTERDOMAIN:
        caller.hypervisor.domains[ringing.remote].events.set_pending(ringing.remote_port)
    elif state is _IPI:
        caller.events.set_pending(port)
    elif state is not _UNBOUND:
        raise HypercallError(Errno.EINVAL)
    return 0


def unmask(caller: "Domain", port: int) -> int:
    """Clear a port's mask, and notice what was pending meanwhile; raises HypercallError(EINVAL)."""
    if channel(caller, port).state > State.RESERVED:
        caller.events.unmask(port)
    return 0


def set_priority(caller: "Domain", port: int, priority: int) -> int:
    """Choose the queue of a port.

    Raises:
        HypercallError: EINVAL, no such port or priority; ENOSYS, events are bits; EACCES, the port is free.
    """
    bound = channel(caller, port)
    if not isinstance(caller.events, Fifo):
        raise HypercallError(Errno.ENOSYS)
    if bound.state <= State.RESERVED:
        raise HypercallError(Errno.EACCES)
    caller.events.set_priority(port, priority)
    return 0
