"""One network interface of a guest: connects to its two rings, and to a port of the switch."""

from collections.abc import Callable, Mapping
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.netif import (
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
)
from pvemu.services.mapped_ring import MappedRing
from pvemu.services.net import receive, transmit
from pvemu.services.net.frame import Abilities, Frame
from pvemu.services.net.offload import acceptable, prepare
from pvemu.services.net.receive import ReceiveRing
from pvemu.services.net.switch import Switch
from pvemu.services.net.transmit import TransmitRing
from pvemu.services.privcmd import Privcmd
from pvemu.services.ring import PAGE_SIZE, RingBroken
from pvemu.services.xenbus import CannotConnect, XenbusBackend

_GSO_FEATURES: Final = {
    "feature-gso-tcpv4": XEN_NETIF_GSO_TYPE_TCPV4,
    "feature-gso-tcpv6": XEN_NETIF_GSO_TYPE_TCPV6,
}
_BROADCAST: Final = b"\xff" * 6


class _Connection:
    """Both rings with their event channels, and what the front end is able to do."""

    def __init__(self, privcmd: Privcmd, domid: int, bus: XenbusBackend) -> None:
        self._privcmd = privcmd
        self.bus = bus
        scatter_gather = bus.front_flag("feature-sg")
        self.abilities = Abilities(
            checksum4=not bus.front_flag("feature-no-csum-offload"),
            checksum6=bus.front_flag("feature-ipv6-csum-offload"),
            # A large packet needs several pages.
            gso_types=frozenset(
                kind for name, kind in _GSO_FEATURES.items() if scatter_gather and bus.front_flag(name)
            ),
            scatter_gather=scatter_gather,
        )
        self.filters_multicast = bus.front_flag("request-multicast-control")
        transmit_reference, receive_reference = (
            bus.front_number("tx-ring-ref"),
            bus.front_number("rx-ring-ref"),
        )
        self.transmit_ring = MappedRing(privcmd, domid, [transmit_reference], transmit.SLOT_SIZE)
        try:
            self.receive_ring = MappedRing(privcmd, domid, [receive_reference], receive.SLOT_SIZE)
        except CannotConnect:
            self.transmit_ring.unmap()
            raise
        self.transmit = TransmitRing(privcmd, domid, self.transmit_ring)
        self.receive = ReceiveRing(
            privcmd, domid, self.receive_ring, queueing=bus.front_flag("feature-rx-notify")
        )
        self.transmit_port = self.receive_port = 0

    def close(self) -> None:
        """Give everything back."""
        for port in {self.transmit_port, self.receive_port} - {0}:
            self._privcmd.close_port(port)
        self.transmit_ring.unmap()
        self.receive_ring.unmap()


class Vif:
    """The driver of one interface (see services.xenbus.Driver), and its port of the switch."""

    def __init__(self, privcmd: Privcmd, domid: int, switch: Switch) -> None:
        self._privcmd = privcmd
        self._domid = domid
        self._switch = switch
        self._connection: _Connection | None = None

    def features(self) -> Mapping[str, str]:
        """What Linux's netback publishes; of queues we have one, and no control ring."""
        return {
            "feature-sg": "1",
            "feature-gso-tcpv4": "1",
            "feature-gso-tcpv6": "1",
            "feature-ipv6-csum-offload": "1",
            "feature-rx-copy": "1",
            "feature-rx-flip": "0",
            "feature-multicast-control": "1",
            "feature-split-event-channels": "1",
            "multi-queue-max-queues": "1",
        }

    def connect(self, bus: XenbusBackend) -> Mapping[str, str]:
        """Map the rings, bind the event channels, and plug into the switch."""
        queues = bus.front_number("multi-queue-num-queues", default=1)
        if queues != 1:
            raise CannotConnect(Errno.EINVAL, f"guest requested {queues} queues, exceeding the maximum of 1")
        if not bus.front_flag("request-rx-copy"):
            raise CannotConnect(Errno.EOPNOTSUPP, "the frontend must set request-rx-copy")
        # One channel for each direction, or one for both.
        names = ("event-channel-tx", "event-channel-rx")
        if bus.front_text(names[0]) is None:
            names = ("event-channel", "event-channel")
        ports = [bus.front_number(name) for name in names]
        connection = _Connection(self._privcmd, self._domid, bus)
        try:
            if ports[0] == ports[1]:
                connection.transmit_port = connection.receive_port = self._bind(ports[0], self._serve_both)
            else:
                connection.transmit_port = self._bind(ports[0], self._serve_transmit)
                connection.receive_port = self._bind(ports[1], self._serve_receive)
        except CannotConnect:
            connection.close()
            raise
        self._connection = connection
        self._switch.attach(self)
        return {}

    def connected(self) -> None:
        """Send what the guest has on its ring already."""
        self._serve_both()

    def disconnect(self) -> None:
        """Unplug, free the event channels, and give the rings' pages back; what is queued is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._switch.detach(self)
            connection.close()

    def close(self) -> None:
        """There is nothing that outlives a connection."""

    def deliver(self, frame: Frame) -> None:
        """Give a frame to the guest in a form that it takes; dropped if there is none, or no room."""
        connection = self._connection
        if connection is None or not self._passes(connection, frame):
            return
        for piece in prepare(frame, connection.abilities):
            if len(piece.data) > PAGE_SIZE and not connection.abilities.scatter_gather:
                return
            if not connection.receive.put(piece):
                break
        self._serve_receive()

    def _bind(self, port: int, handler: Callable[[], None]) -> int:
        try:
            return self._privcmd.bind_interdomain(self._domid, port, handler)
        except HypercallError as refused:
            raise CannotConnect(refused.errno, f"binding event-channel {port}") from refused

    def _passes(self, connection: _Connection, frame: Frame) -> bool:
        address = frame.destination
        if not connection.filters_multicast or not address[0] & 1 or address == _BROADCAST:
            return True
        return address in connection.transmit.multicast

    def _serve_both(self) -> None:
        self._serve_transmit()
        self._serve_receive()

    def _serve_transmit(self) -> None:
        connection = self._connection
        if connection is None:
            return
        ring = connection.transmit_ring
        try:
            available = ring.waiting()
            while available:
                available, frame = connection.transmit.take(available)
                if frame is not None and (definite := acceptable(frame)) is not None:
                    self._switch.forward(self, definite)
            if ring.push():
                self._privcmd.notify(connection.transmit_port)
            ring.ask_for_event()
        except RingBroken as broken:
            connection.bus.fail(Errno.EINVAL, f"bogus transmit ring: {broken}")

    def _serve_receive(self) -> None:
        connection = self._connection
        if connection is None:
            return
        ring = connection.receive_ring
        try:
            if connection.receive.move() and ring.push():
                self._privcmd.notify(connection.receive_port)
        except RingBroken as broken:
            connection.bus.fail(Errno.EINVAL, f"bogus receive ring: {broken}")
