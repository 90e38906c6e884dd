"""The event ports of a domain: what each is bound to, which are free, and how pending ones are stored.

Xen makes room for ports 64 at a time; a port beyond that room is -EINVAL where a free one within it is
merely closed (asked of real Xen: EVTCHNOP_status of ports 63 and 64).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.event_channel import EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PRIORITY_DEFAULT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

#: Ports that Xen makes room for at once (a page of its struct evtchn).
PORTS_PER_BUCKET: Final = 64


class State(IntEnum):
    """What a port is bound to."""

    FREE = 0
    RESERVED = 1
    UNBOUND = 2
    INTERDOMAIN = 3
    VIRQ = 4
    IPI = 5
    PIRQ = 6


@dataclass(slots=True)
class EventChannel:
    """One port of a domain.

    `remote` is the domain that may bind to it (UNBOUND) or is bound to it (INTERDOMAIN), `remote_port` its
    port there; `virq` is for VIRQ, `pirq` for PIRQ; `vcpu` is the vCPU that is told. The rest is for events
    in queues: the queue in which the port was last, and whether it was rung before there was a word for it.
    """

    state: State = State.FREE
    vcpu: int = 0
    remote: int = 0
    remote_port: int = 0
    virq: int = 0
    pirq: int = 0
    priority: int = EVTCHN_FIFO_PRIORITY_DEFAULT
    last_vcpu: int = 0
    last_priority: int = 0
    raised_early: bool = False


class Delivery(Protocol):
    """How a domain is told of events: bits (event_2l.py), queues (event_fifo.py), or a call.

    `limit` is the number of ports that can be told apart so.
    """

    limit: int

    def bind(self, port: int) -> None:
        """A free port has been bound."""

    def set_pending(self, port: int) -> None:
        """Mark a bound port pending, and tell its vCPU unless the port is masked or was pending already."""

    def clear_pending(self, port: int) -> None:
        """Take back that a port is pending."""

    def unmask(self, port: int) -> None:
        """Clear a port's mask, and tell its vCPU of what was pending meanwhile."""

    def is_pending(self, port: int) -> bool:
        """Whether a port is pending."""

    def is_busy(self, port: int) -> bool:
        """Whether a free port can't be bound yet, because the guest has not taken it from its queue."""

    def destroy(self) -> None:
        """Give back the memory of the guest that was used for it."""


class CallDelivery:
    """Events of a domain that lives outside the machine: queued for a call, and never masked."""

    def __init__(self, domain: "Domain") -> None:
        self._domain = domain
        self.limit = EVTCHN_FIFO_NR_CHANNELS

    def set_pending(self, port: int) -> None:
        """Queue the call."""
        self._domain.hypervisor.notify_service(self._domain, port)

    def is_pending(self, _port: int) -> bool:
        """Never: a call can't be looked at."""
        return False

    def is_busy(self, _port: int) -> bool:
        """Never."""
        return False

    def bind(self, _port: int) -> None:
        """Nothing to prepare."""

    def clear_pending(self, _port: int) -> None:
        """What is queued comes; its handler is gone by then."""

    def unmask(self, _port: int) -> None:
        """Nothing is masked."""

    def destroy(self) -> None:
        """Nothing to give back."""


def channel(domain: "Domain", port: int) -> EventChannel:
    """A port that there is room for, free or not; raises HypercallError(EINVAL) beyond."""
    channels = domain.channels
    if port >= len(channels):
        raise HypercallError(Errno.EINVAL)
    return channels[port]


def first_bucket() -> list[EventChannel]:
    """The ports of a new domain: port 0 is never used."""
    return [EventChannel(State.RESERVED)] + [EventChannel() for _ in range(PORTS_PER_BUCKET - 1)]


def find_free_port(domain: "Domain") -> int:
    """The lowest port that can be bound.

    Raises:
        HypercallError: ENOSPC, there is none; EINVAL, the domain is being destroyed.
    """
    if domain.is_dying:
        raise HypercallError(Errno.EINVAL)
    channels, events = domain.channels, domain.events
    first_free: int | None = None
    limit = min(events.limit, domain.max_event_port + 1)
    for port in range(domain.lowest_free_port, limit):
        if port >= len(channels):
            channels.extend(EventChannel() for _ in range(PORTS_PER_BUCKET))
        if channels[port].state is State.FREE:
            if first_free is None:
                domain.lowest_free_port = first_free = port
            if not events.is_busy(port):
                return port
    raise HypercallError(Errno.ENOSPC)


def pirq_port(domain: "Domain", pirq: int) -> int | None:
    """The port to which an interrupt of a device is bound; None: to none."""
    for port, bound in enumerate(domain.channels):
        if bound.state is State.PIRQ and bound.pirq == pirq:
            return port
    return None


def bind_port(domain: "Domain", port: int, state: State, vcpu: int = 0) -> EventChannel:
    """Put a free port to use."""
    bound = domain.channels[port]
    bound.state, bound.vcpu = state, vcpu
    domain.events.bind(port)
    return bound


def free_port(domain: "Domain", port: int) -> None:
    """Make a port free again, so that nothing of it is pending when it is bound anew."""
    domain.events.clear_pending(port)
    freed = domain.channels[port]
    freed.state, freed.vcpu = State.FREE, 0
    domain.lowest_free_port = min(domain.lowest_free_port, port)
