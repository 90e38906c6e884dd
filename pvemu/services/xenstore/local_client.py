"""The store for back ends and tools in this process, which speak as domain 0."""

from collections.abc import Callable, Iterable
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pvemu.abi import xs_wire
from pvemu.abi.errno import Errno
from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.wire import Message, strings

if TYPE_CHECKING:
    from pvemu.services.xenstore.daemon import Xenstored

OnChange = Callable[[str], None]
"""Called with the path that has changed, at or below the one that is watched."""


class Keys:
    """Reading and writing, in a transaction (`number`) or outside of one (0).

    Paths may be relative to /local/domain/0. Every method raises XenstoreError: ENOENT where there is no such
    node, EINVAL for a bad path, E2BIG for what doesn't fit into a message.
    """

    def __init__(self, xenstored: "Xenstored", connection: Connection, number: int) -> None:
        self._xenstored = xenstored
        self._connection = connection
        self._number = number

    def read(self, path: str) -> bytes:
        """The value of a node."""
        return self._request(xs_wire.XS_READ, path)

    def find(self, path: str) -> bytes | None:
        """The value of a node, None where there is none."""
        try:
            return self.read(path)
        except XenstoreError as error:
            if error.errno == Errno.ENOENT:
                return None
            raise

    def write(self, path: str, value: str | bytes) -> None:
        """Give a node a value; it is made, with all above it, where it is missing."""
        text = value.encode() if isinstance(value, str) else value
        self._request(xs_wire.XS_WRITE, path, text)

    def mkdir(self, path: str) -> None:
        """Make a node, with all above it, where it is missing."""
        self._request(xs_wire.XS_MKDIR, path)

    def rm(self, path: str) -> None:
        """Remove a node with all below it; its parent must be there."""
        self._request(xs_wire.XS_RM, path)

    def list(self, path: str) -> list[str]:
        """The names of a node's children, however many."""
        names: list[str] = []
        at = 0
        while True:
            part = self._request(xs_wire.XS_DIRECTORY_PART, path, b"%d\0" % at)
            _, *found = strings(part)
            names += [name.decode() for name in found if name]
            if not found[-1]:
                return names
            at += sum(len(name) + 1 for name in found)

    def permissions(self, path: str) -> tuple[str, ...]:
        """Owner and rights as Xen writes them: `n0` for a node of domain 0's, `r5` to let domain 5 read."""
        return tuple(text.decode() for text in strings(self._request(xs_wire.XS_GET_PERMS, path)))

    def set_permissions(self, path: str, permissions: Iterable[str]) -> None:
        """Replace owner and rights, spelled as `permissions` gives them."""
        self._request(xs_wire.XS_SET_PERMS, path, b"".join(_text(each) + b"\0" for each in permissions))

    def _request(self, kind: int, first: str, rest: bytes = b"") -> bytes:
        payload = _text(first) + b"\0" + rest
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            raise XenstoreError(Errno.E2BIG)
        return self._xenstored.answer(self._connection, Message(kind, 0, self._number, payload))


class LocalTransaction(Keys):
    """Changes that become visible all at once, at the end of the `with` block, or not at all.

    XenstoreError EAGAIN at the end says that something that was read has changed meanwhile: do it again. That
    can't happen as long as the block only talks to the store. An exception inside the block discards it.
    """

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit or discard."""
        self._request(xs_wire.XS_TRANSACTION_END, "T" if kind is None else "F")


class LocalWatch:
    """A path that is watched, until `cancel`."""

    def __init__(self, client: "LocalClient", path: str, token: bytes) -> None:
        self._client, self._path, self._token = client, path, token

    def cancel(self) -> None:
        """Watch no more; what waits is not delivered either. A second time is no error."""
        self._client.unwatch(self._path, self._token)


class LocalClient(Keys):
    """One client in this process; it needs no closing.

    Callbacks are not made inside its methods, nor inside each other, but by `XenstoreService.pump`, which
    also runs by itself after each event of a guest or a socket.
    """

    def __init__(self, xenstored: "Xenstored") -> None:
        connection = Connection(0, lambda: xenstored.has_event(self))
        super().__init__(xenstored, connection, 0)
        self._callbacks: dict[bytes, OnChange] = {}
        self._tokens = count(1)
        xenstored.connect(connection)

    def watch(self, path: str, callback: OnChange) -> LocalWatch:
        """Call when a path, or one below it, changes, appears or disappears; and once at once.

        The special paths are @introduceDomain and @releaseDomain. A relative path is reported as relative.
        """
        token = b"%d" % next(self._tokens)
        self._request(xs_wire.XS_WATCH, path, token + b"\0")
        self._callbacks[token] = callback
        return LocalWatch(self, path, token)

    def unwatch(self, path: str, token: bytes) -> None:
        """Forget a watch; LocalWatch.cancel is what calls this."""
        if self._callbacks.pop(token, None) is not None:
            self._request(xs_wire.XS_UNWATCH, path, token + b"\0")

    def control(self, *words: str) -> str:
        """What the daemon says to a command and its parameters (XS_CONTROL): `check`, `quota`, `help`."""
        first, *rest = words
        text = self._request(xs_wire.XS_CONTROL, first, b"".join(_text(word) + b"\0" for word in rest))
        return text.rstrip(b"\0").decode()

    def transaction(self) -> LocalTransaction:
        """Begin a transaction, for a `with` statement."""
        number = self._request(xs_wire.XS_TRANSACTION_START, "")
        return LocalTransaction(self._xenstored, self._connection, int(number[:-1]))

    def deliver(self) -> bool:
        """Make the next call that waits; False when none does."""
        event = self._connection.outbox.take()
        if event is None:
            return False
        path, token = strings(event.payload)
        callback = self._callbacks.get(token)
        if callback is not None:
            callback(path.decode("latin-1"))
        return True


def _text(text: str) -> bytes:
    # What no path can have becomes a question mark, which none can have either.
    return text.replace("\0", "?").encode("latin-1", "replace")
