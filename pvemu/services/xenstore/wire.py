"""Messages of the xenstore protocol, and how they are cut out of a stream of bytes (io/xs_wire.h)."""

from typing import Final, NamedTuple

from pvemu.abi.errno import Errno
from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT, xsd_errors, xsd_sockmsg

_HEADER: Final = xsd_sockmsg.codec(4)
HEADER_SIZE: Final = _HEADER.size


class ProtocolViolation(Exception):
    """A client announced more than XENSTORE_PAYLOAD_MAX bytes: there is no next message to be found."""


class Message(NamedTuple):
    """One request or reply.

    Attributes:
        type: XS_*.
        request: the client's own number of it (req_id); transaction: tx_id, 0 outside of one.
    """

    type: int
    request: int
    transaction: int
    payload: bytes

    def encode(self) -> bytes:
        """The bytes of header and payload."""
        return _HEADER.pack(self.type, self.request, self.transaction, len(self.payload)) + self.payload


class Parser:
    """Cuts messages out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def wanted(self) -> int:
        """How many bytes more complete the header, or the message, that has begun; 0 when one is complete.

        Raises:
            ProtocolViolation: the stream is of no use any more.
        """
        return max(0, self._end() - len(self._pending))

    def push(self, data: bytes | memoryview) -> None:
        """Take bytes."""
        self._pending += data

    def next(self) -> Message | None:
        """The next message that is complete, if one is.

        Raises:
            ProtocolViolation: the stream is of no use any more.
        """
        end = self._end()
        if len(self._pending) < end:
            return None
        kind, request, transaction, _ = _HEADER.unpack_from(self._pending)
        payload = bytes(self._pending[HEADER_SIZE:end])
        del self._pending[:end]
        return Message(kind, request, transaction, payload)

    def reset(self) -> None:
        """Forget all bytes."""
        self._pending.clear()

    def _end(self) -> int:
        """Where the header ends, or the message when its header is there."""
        if len(self._pending) < HEADER_SIZE:
            return HEADER_SIZE
        length: int = _HEADER.unpack_from(self._pending)[3]
        if length > XENSTORE_PAYLOAD_MAX:
            raise ProtocolViolation
        return HEADER_SIZE + length


def error_payload(errno: Errno) -> bytes:
    """What an XS_ERROR message carries; an error that the header doesn't list is EINVAL."""
    return (errno if errno in xsd_errors else Errno.EINVAL).name.encode() + b"\0"


def error_reply(request: Message, errno: Errno) -> Message:
    """The message that refuses a request."""
    return Message(XS_ERROR, request.request, request.transaction, error_payload(errno))


def watch_event(path: str, token: bytes) -> Message:
    """The message that tells a client about a change."""
    return Message(XS_WATCH_EVENT, 0, 0, path.encode("latin-1") + b"\0" + token + b"\0")


def strings(payload: bytes) -> list[bytes]:
    """The NUL-terminated strings of a payload; what follows the last NUL is no string."""
    return payload.split(b"\0")[:-1]


def only_string(payload: bytes) -> bytes | None:
    """The string of a payload that is one string and its NUL, else None."""
    return payload[:-1] if payload.find(b"\0") == len(payload) - 1 and payload else None
