"""The ring page of one domain: its requests and replies, as two byte rings (public header io/xs_wire.h)."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    xenstore_domain_interface,
)
from pvemu.services.privcmd import Privcmd
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.wire import Parser, ProtocolViolation

if TYPE_CHECKING:
    from pvemu.services.xenstore.daemon import Xenstored


def _word(field: str) -> int:
    return xenstore_domain_interface.offset(field, 4) >> 2


_REQ: Final = xenstore_domain_interface.offset("req", 4)
_RSP: Final = xenstore_domain_interface.offset("rsp", 4)
_REQ_CONS, _REQ_PROD = _word("req_cons"), _word("req_prod")
_RSP_CONS, _RSP_PROD = _word("rsp_cons"), _word("rsp_prod")
_FEATURES, _CONNECTION, _ERROR = _word("server_features"), _word("connection"), _word("error")
_MASK: Final = XENSTORE_RING_SIZE - 1
_WRAP: Final = 0xFFFFFFFF


class RingTransport:
    """The store's end of a domain's ring.

    The guest can write anything into the page at any time between two events. Each index is read once a step
    and checked; a ring whose indexes make no sense, or a message that is too long, ends the connection with
    the reason in the page's `error` field, until the guest asks to reconnect or is introduced anew.

    Attributes:
        connection: the client at the guest's end.
    """

    def __init__(self, xenstored: "Xenstored", privcmd: Privcmd, domid: int, page: memoryview) -> None:
        self._xenstored = xenstored
        self._privcmd = privcmd
        self._domid = domid
        self._words = page.cast("I")
        self._requests = page[_REQ : _REQ + XENSTORE_RING_SIZE]
        self._replies = page[_RSP : _RSP + XENSTORE_RING_SIZE]
        self._parser = Parser()
        self._port: int | None = None
        self._is_open = False
        self._has_moved = False
        self.connection = Connection(domid, lambda: xenstored.has_output(self))

    # --- life ------------------------------------------------------------------------------------

    def bind(self, port: int) -> None:
        """Bind to a port that the domain offers, instead of the one before; raises HypercallError."""
        self.unbind()
        self._port = self._privcmd.bind_interdomain(self._domid, port, self._on_event)

    def unbind(self) -> None:
        """Give the event channel up."""
        if self._port is not None:
            self._privcmd.close_port(self._port)
            self._port = None

    def begin(self) -> None:
        """Begin with an empty ring and nothing left of what was before; answers a request to reconnect."""
        self._forget()
        for index in (_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD):
            self._words[index] = 0
        self._words[_FEATURES] = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR
        self._words[_ERROR] = XENSTORE_ERROR_NONE
        self._is_open = True
        if self._words[_CONNECTION] == XENSTORE_RECONNECT:
            self._words[_CONNECTION] = XENSTORE_CONNECTED
            self._notify()

    def close(self) -> None:
        """Touch the page no more."""
        self.unbind()
        self._forget()
        self._is_open = False

    def _forget(self) -> None:
        self._parser.reset()
        self.connection.reset()
        self.connection.outbox.clear()

    def _fail(self, error: int) -> None:
        self._forget()
        self._is_open = False
        self._words[_ERROR] = error
        self._notify()

    def _notify(self) -> None:
        self._has_moved = False
        if self._port is not None:
            self._privcmd.notify(self._port)

    # --- data ------------------------------------------------------------------------------------

    def _on_event(self) -> None:
        if self._words[_CONNECTION] == XENSTORE_RECONNECT:
            self.begin()
        self._send()
        while self._step():
            self._send()
        if self._has_moved:
            self._notify()
        self._xenstored.settle()

    def _step(self) -> bool:
        """Take what completes a header or a message, and carry that out; False when nothing more can be done.

        This ends: each step takes at least a byte, of which the ring holds 1024, and the guest doesn't run.
        """
        client = self.connection
        is_full = not client.privileged and client.outbox.replies >= self._xenstored.quotas.outstanding
        if not self._is_open or is_full:
            return False
        try:
            if not self._take(self._parser.wanted):
                return False
            message = self._parser.next()
        except ProtocolViolation:
            self._fail(XENSTORE_ERROR_PROTO)
            return False
        if message is not None:
            self._xenstored.receive(client, message)
        return True

    def _take(self, wanted: int) -> int:
        """Bytes of requests, as many as are wanted and there; how many were got."""
        consumer, producer = self._words[_REQ_CONS], self._words[_REQ_PROD]
        present = (producer - consumer) & _WRAP
        if present > XENSTORE_RING_SIZE:
            self._fail(XENSTORE_ERROR_RINGIDX)
            return 0
        count = min(present, wanted)
        start = consumer & _MASK
        first = min(count, XENSTORE_RING_SIZE - start)
        self._parser.push(self._requests[start : start + first])
        self._parser.push(self._requests[: count - first])
        self._words[_REQ_CONS] = (consumer + count) & _WRAP
        self._has_moved |= count > 0
        return count

    def flush(self) -> None:
        """Put what waits into the ring, as far as there is room, and tell the guest."""
        self._send()
        if self._has_moved:
            self._notify()

    def _send(self) -> None:
        outbox = self.connection.outbox
        while self._is_open and outbox:
            consumer, producer = self._words[_RSP_CONS], self._words[_RSP_PROD]
            used = (producer - consumer) & _WRAP
            if used > XENSTORE_RING_SIZE:
                self._fail(XENSTORE_ERROR_RINGIDX)
                return
            start = producer & _MASK
            piece = outbox.peek()[: min(XENSTORE_RING_SIZE - used, XENSTORE_RING_SIZE - start)]
            if not piece:
                return
            self._replies[start : start + len(piece)] = piece
            self._words[_RSP_PROD] = (producer + len(piece)) & _WRAP
            self._has_moved = True
            outbox.sent(len(piece))
