"""Clients of a store for tests: they speak the wire protocol over a ring page or a socket."""

import socket
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from pvemu.abi import xs_wire
from pvemu.abi.xs_wire import XENSTORE_RING_SIZE, xenstore_domain_interface, xsd_sockmsg

HEADER: Final = xsd_sockmsg.codec(4)
NAMES: Final = {
    value: name.removeprefix("XS_")
    for name, value in vars(xs_wire).items()
    if name.startswith("XS_") and name not in ("XS_DEBUG", "XS_WATCH_PATH", "XS_WATCH_TOKEN")
}
NUMBERS: Final = {name: value for value, name in NAMES.items()}
MOST_TURNS: Final = 5000


class Reply(NamedTuple):
    """A message from the store, its type by name."""

    type: str
    payload: bytes
    request: int = 0
    transaction: int = 0


class Hangs(AssertionError):
    """The store doesn't answer."""


class Closed(Exception):
    """The store has ended the connection."""


class Pipe(Protocol):
    """A way for bytes to and from the store."""

    def write(self, data: bytes) -> int:
        """Take what there is room for; how much that was."""

    def read(self) -> bytes:
        """What has come."""


class RingPipe:
    """The guest's end of a ring page."""

    def __init__(self, page: memoryview, kick: Callable[[], None]) -> None:
        self.page = page
        self.words = page.cast("I")
        self.kick = kick
        at = xenstore_domain_interface.offset
        self.req, self.rsp = at("req", 4), at("rsp", 4)
        self.index = {name: at(name, 4) >> 2 for name in ("req_cons", "req_prod", "rsp_cons", "rsp_prod")}

    def word(self, name: str) -> int:
        return self.words[self.index[name]]

    def write(self, data: bytes) -> int:
        producer = self.word("req_prod")
        room = XENSTORE_RING_SIZE - (producer - self.word("req_cons") & 0xFFFFFFFF)
        data = data[:room]
        for at, byte in enumerate(data):
            self.page[self.req + (producer + at) % XENSTORE_RING_SIZE] = byte
        self.words[self.index["req_prod"]] = producer + len(data) & 0xFFFFFFFF
        self.kick()
        return len(data)

    def read(self) -> bytes:
        consumer, producer = self.word("rsp_cons"), self.word("rsp_prod")
        count = producer - consumer & 0xFFFFFFFF
        found = bytes(self.page[self.rsp + (consumer + at) % XENSTORE_RING_SIZE] for at in range(count))
        self.words[self.index["rsp_cons"]] = producer
        if count:
            self.kick()
        return found


class SocketPipe:
    """A program's end of the socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.setblocking(False)

    def write(self, data: bytes) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Closed from error

    def read(self) -> bytes:
        try:
            found = self.socket.recv(65536)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Closed from error
        if not found:
            raise Closed
        return found


class Client:
    """Sends requests over a pipe, and keeps the events that come between the replies.

    Args:
        turn: lets the store run.
    """

    def __init__(self, pipe: Pipe, turn: Callable[[], None]) -> None:
        self.pipe = pipe
        self.turn = turn
        self.events: list[bytes] = []
        self._pending = b""
        self._number = 0

    def request(self, kind: str, payload: bytes, transaction: int = 0) -> Reply:
        """Send a request and wait for its reply."""
        self._number += 1
        message = HEADER.pack(NUMBERS[kind], self._number, transaction, len(payload)) + payload
        for _ in range(MOST_TURNS):
            message = message[self.pipe.write(message) :] if message else b""
            self.turn()
            self._pending += self.pipe.read()
            while (reply := self._message()) is not None:
                if reply.type == "WATCH_EVENT":
                    assert reply.request == reply.transaction == 0
                    self.events.append(reply.payload)
                else:
                    assert (reply.request, reply.transaction) == (self._number, transaction)
                    return reply
        raise Hangs

    def take_events(self) -> list[bytes]:
        """The events that have come, after making sure that no more are on their way."""
        self.request("GET_DOMAIN_PATH", b"0\0")
        events, self.events = self.events, []
        return events

    def _message(self) -> Reply | None:
        if len(self._pending) < HEADER.size:
            return None
        kind, request, transaction, length = HEADER.unpack_from(self._pending)
        if len(self._pending) < HEADER.size + length:
            return None
        payload = self._pending[HEADER.size : HEADER.size + length]
        self._pending = self._pending[HEADER.size + length :]
        return Reply(NAMES[kind], payload, request, transaction)
