"""The daemon without sockets: the tree, all clients, the way of one request, domains that come and go."""

from collections.abc import Callable
from typing import Protocol

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError, PvemuError
from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from pvemu.services.privcmd import Privcmd
from pvemu.services.xenstore import watches
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.domains import Domains, KnownDomain
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.orphans import remove_orphans
from pvemu.services.xenstore.quotas import Quotas
from pvemu.services.xenstore.request import Request
from pvemu.services.xenstore.requests import REQUESTS
from pvemu.services.xenstore.ring_transport import RingTransport
from pvemu.services.xenstore.store import Store
from pvemu.services.xenstore.wire import Message, error_reply


class Transport(Protocol):
    """What carries a client's messages."""

    def flush(self) -> None:
        """Send what can be sent at once of what waits."""


class Listener(Protocol):
    """A client in this process, whose events are calls."""

    def deliver(self) -> bool:
        """Make the next call that waits; False when none does."""


class Xenstored:
    """Xenstore for all its clients.

    Attributes:
        store: the tree; connections: all clients, in the order in which they came.
        quotas: the limits for guests; XS_CONTROL changes them.

    Args:
        exists: whether the hypervisor has a domain of this number.
    """

    def __init__(self, privcmd: Privcmd, exists: Callable[[int], bool], quotas: Quotas | None = None) -> None:
        self.quotas = quotas or Quotas()
        self.store = Store(Domains(exists), self.quotas)
        self.connections: list[Connection] = []
        self._privcmd = privcmd
        self._waiting: dict[Transport, None] = {}
        self._listeners: dict[Listener, None] = {}
        self._is_delivering = False

    # --- requests --------------------------------------------------------------------------------

    def receive(self, client: Connection, message: Message) -> None:
        """Carry out a client's request and queue the reply."""
        request = self._request(client, message)
        try:
            payload = self._carry_out(request)
        except XenstoreError as error:
            client.send(error_reply(message, error.errno))
            return
        client.send(message._replace(payload=payload))
        if request.then is not None:
            request.then()

    def answer(self, client: Connection, message: Message) -> bytes:
        """Carry out the request of a client in this process; the reply's payload.

        Raises:
            XenstoreError: the request was refused.
        """
        request = self._request(client, message)
        payload = self._carry_out(request)
        if request.then is not None:
            request.then()
        self.flush()
        return payload

    def _request(self, client: Connection, message: Message) -> Request:
        return Request(self, client, message, client.transactions.get(message.transaction))

    def _carry_out(self, request: Request) -> bytes:
        row = REQUESTS.get(request.message.type)
        if row is None:
            raise XenstoreError(Errno.ENOSYS)
        if row.is_privileged and not request.client.privileged:
            raise XenstoreError(Errno.EACCES)
        if not row.heeds_transaction:
            request.transaction = None
        elif request.message.transaction and request.transaction is None:
            raise XenstoreError(Errno.ENOENT)
        payload = row.handler(request)
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            raise XenstoreError(Errno.E2BIG)
        return payload

    # --- output ----------------------------------------------------------------------------------

    def has_output(self, transport: Transport) -> None:
        """Something waits for a client: send it when the request that made it is done."""
        self._waiting[transport] = None

    def flush(self) -> None:
        """Send to all clients what waits for them."""
        while self._waiting:
            transport = next(iter(self._waiting))
            del self._waiting[transport]
            transport.flush()

    def has_event(self, listener: Listener) -> None:
        """An event waits for a client in this process."""
        self._listeners[listener] = None

    def settle(self) -> None:
        """Send what waits, and call those in this process who wait for events, until nothing waits.

        To be called when a request is done, never in the middle of one. From inside such a call it only
        sends: no call is made inside another.
        """
        self.flush()
        if self._is_delivering:
            return
        self._is_delivering = True
        try:
            while self._listeners:
                listener = next(iter(self._listeners))
                if not listener.deliver():
                    del self._listeners[listener]
                self.flush()
        finally:
            self._is_delivering = False

    def connect(self, connection: Connection) -> None:
        """A client has come."""
        self.connections.append(connection)

    def disconnect(self, connection: Connection) -> None:
        """A client has gone, with its watches and transactions; one that has gone before is no error."""
        connection.reset()
        connection.outbox.clear()
        if connection in self.connections:
            self.connections.remove(connection)

    # --- domains ---------------------------------------------------------------------------------

    def introduce(self, domid: int, mfn: int, port: int) -> None:
        """Talk to a domain over its ring page; @introduceDomain fires.

        For a domain that is known this binds a new event channel and begins anew on the same page.

        Raises:
            XenstoreError: EINVAL for a domain, a frame or a port that can't be used.
        """
        known = self.store.domains.learn(domid, self.store.generation)
        if known is None or not domid or not port:
            raise XenstoreError(Errno.EINVAL)
        if known.ring is None:
            try:
                page = self._privcmd.map_foreign(domid, mfn)
            except PvemuError:
                raise XenstoreError(Errno.EINVAL) from None
            known.ring = RingTransport(self, self._privcmd, domid, page)
            try:
                known.ring.bind(port)
            except HypercallError as error:
                known.ring = None
                raise XenstoreError(error.errno) from None
            self.connect(known.ring.connection)
            self.fire_special(watches.INTRODUCE_DOMAIN)
        else:
            try:
                known.ring.bind(port)
            except HypercallError:
                # As C xenstored: the domain stays introduced, without an event channel.
                known.ring.unbind()
        known.ring.begin()

    def release(self, domid: int) -> None:
        """Talk to a domain no more, and remove what it owns; @releaseDomain fires if it was introduced."""
        known = self.store.domains.find(domid)
        if known is None or not domid:
            return
        ring, known.ring = known.ring, None
        if ring is not None:
            ring.close()
            self.disconnect(ring.connection)
        for connection in self.connections:
            if connection.target == domid:
                connection.target = None
        remove_orphans(self.store, self.connections, domid)
        self.store.forget_domain(domid)
        if ring is not None:
            self.fire_special(watches.RELEASE_DOMAIN)

    def shutdown(self, domid: int) -> None:
        """A domain has shut down or crashed: @releaseDomain fires, once until XS_RESUME."""
        known = self.store.domains.find(domid)
        if known is not None and known.ring is not None and not known.has_shut_down:
            known.has_shut_down = True
            self.fire_special(watches.RELEASE_DOMAIN)

    def connected(self, domid: int) -> KnownDomain:
        """A domain that was introduced, or domain 0; raises XenstoreError ENOENT."""
        known = self.store.domains.find(domid)
        if known is None or not self.store.domains.is_introduced(domid):
            raise XenstoreError(Errno.ENOENT)
        return known

    def fire_special(self, name: str) -> None:
        """Tell those who may know that a domain has come or gone."""
        watches.fire(self.store, self.connections, name, exactly=True)
