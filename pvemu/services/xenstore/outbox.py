"""What waits to be sent to one client: replies and watch events, in order."""

from collections import deque
from typing import Final

from pvemu.abi.xs_wire import XS_WATCH_EVENT
from pvemu.services.xenstore.wire import Message

_SPECIAL: Final = b"@"


class Outbox:
    """A queue of messages, read as bytes.

    Attributes:
        size: bytes that wait.
        replies: replies among them, one that is partly sent included.
    """

    def __init__(self) -> None:
        self._messages: deque[tuple[Message, bytes]] = deque()
        self._sent = 0  # bytes of the first message
        self._events: set[bytes] = set()
        self.size = 0
        self.replies = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._messages)

    def has_event(self, message: Message) -> bool:
        """Whether the same event waits already, so that nothing is lost without a second one.

        Special events are counted by those who get them, and are never the same.
        """
        return message.payload in self._events

    def put(self, message: Message) -> None:
        """Add a message at the end."""
        data = message.encode()
        self._messages.append((message, data))
        self.size += len(data)
        if message.type != XS_WATCH_EVENT:
            self.replies += 1
        elif not message.payload.startswith(_SPECIAL):
            self._events.add(message.payload)

    def peek(self) -> memoryview:
        """The unsent bytes of the first message; empty when nothing waits."""
        return memoryview(self._messages[0][1])[self._sent :] if self._messages else memoryview(b"")

    def sent(self, count: int) -> None:
        """So many bytes of the first message have left; with its last one it is forgotten."""
        message, data = self._messages[0]
        self._sent += count
        self.size -= count
        if self._sent == len(data):
            self._drop(message)

    def take(self) -> Message | None:
        """The first message, whole, for a client in this process; None when nothing waits."""
        if not self._messages:
            return None
        message, data = self._messages[0]
        self.size -= len(data)
        self._drop(message)
        return message

    def clear(self) -> None:
        """Forget everything, a message that is partly sent included."""
        self._messages.clear()
        self._events.clear()
        self._sent = self.size = self.replies = 0

    def _drop(self, message: Message) -> None:
        self._messages.popleft()
        self._sent = 0
        if message.type == XS_WATCH_EVENT:
            self._events.discard(message.payload)
        else:
            self.replies -= 1
