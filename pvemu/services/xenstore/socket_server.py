"""Xenstore on a Unix socket, for the tools that find xenstored there (XENSTORED_PATH)."""

import errno
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pvemu.abi.errors import PvemuError
from pvemu.services.outside import Outside
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.wire import Parser, ProtocolViolation

if TYPE_CHECKING:
    from pvemu.services.xenstore.daemon import Xenstored

#: The bytes of a path that fit into an address, its NUL left out.
LONGEST_PATH: Final = 107
#: Clients at once; more wait until one leaves.
MOST_CLIENTS: Final = 64
_BACKLOG: Final = 16
_READ_SIZE: Final = 4096
#: With so many bytes waiting for a client, its next requests wait as well.
_ENOUGH_WAITING: Final = 64 << 10
#: With so many, events that it doesn't fetch, a client is dropped.
LARGEST_BACKLOG: Final = 1 << 20
_FOR_THE_OWNER: Final = 0o600


class _Client:
    """One program at the other end of a connection."""

    def __init__(self, server: "SocketServer", peer: socket.socket) -> None:
        self._server = server
        self._peer = peer
        self._parser = Parser()
        self._is_open = True
        self._has_left = False
        self.connection = Connection(0, lambda: server.xenstored.has_output(self))

    def begin(self) -> None:
        """Wait for requests."""
        self._wait()

    def close(self) -> None:
        """Forget the client; a second time is no error."""
        if self._is_open:
            self._is_open = False
            self._server.outside.forget(self._peer)
            self._peer.close()
            self._server.has_gone(self)

    def flush(self) -> None:
        """Send what can be sent now; a client that fetches nothing is dropped beyond a bound."""
        outbox = self.connection.outbox
        try:
            while self._is_open and outbox:
                outbox.sent(self._peer.send(outbox.peek()))
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        if outbox.size > LARGEST_BACKLOG:
            self.close()
        elif self._is_open:
            self._wait()

    def _wait(self) -> None:
        is_free = self.connection.outbox.size < _ENOUGH_WAITING
        self._server.outside.watch(
            self._peer,
            on_readable=self._on_readable if is_free and not self._has_left else None,
            on_writable=self._on_writable if self.connection.outbox else None,
        )

    def _on_readable(self) -> None:
        try:
            data = self._peer.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._has_left = not data
        self._parser.push(data)
        self._serve()

    def _on_writable(self) -> None:
        self.flush()
        self._serve()

    def _serve(self) -> None:
        """Carry out the requests that are complete, while what waits for the client is not too much."""
        while self._is_open and self.connection.outbox.size < _ENOUGH_WAITING:
            try:
                message = self._parser.next()
            except ProtocolViolation:
                self.close()
                break
            if message is None:
                if self._has_left:
                    self.close()
                break
            self._server.xenstored.receive(self.connection, message)
            self._server.xenstored.flush()
        self._server.xenstored.settle()


class SocketServer:
    """Listens on a path, and serves every program that connects as domain 0.

    Only the user who runs this process can connect.

    Args:
        path: where the socket's file is to be; one that a process left behind which is gone is replaced.

    Raises:
        PvemuError: the path is too long, can't be written, is in use, or is another kind of file.
    """

    def __init__(self, xenstored: "Xenstored", outside: Outside, path: Path) -> None:
        self.xenstored = xenstored
        self.outside = outside
        self._path = path
        self._clients: list[_Client] = []
        self._listener = _listen(path)
        self._identity = _identity(path)
        self._accept_more()

    def close(self) -> None:
        """Drop all clients and remove the socket's file, if it is still ours."""
        for client in self._clients.copy():
            client.close()
        self.outside.forget(self._listener)
        self._listener.close()
        if _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)

    def has_gone(self, client: _Client) -> None:
        """A client was closed."""
        self.xenstored.disconnect(client.connection)
        if client in self._clients:
            self._clients.remove(client)
        self._accept_more()

    def _accept_more(self) -> None:
        self.outside.watch(self._listener, on_readable=self._on_connection)

    def _on_connection(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptor is free: wait until a client leaves, if there is one to wait for.
            self._pause()
            return
        peer.setblocking(False)
        client = _Client(self, peer)
        self._clients.append(client)
        self.xenstored.connect(client.connection)
        client.begin()
        if len(self._clients) >= MOST_CLIENTS:
            self._pause()

    def _pause(self) -> None:
        if self._clients:
            self.outside.forget(self._listener)


def _listen(path: Path) -> socket.socket:
    if len(bytes(path)) > LONGEST_PATH:
        raise PvemuError(
            f"{path}: a socket's path has at most {LONGEST_PATH} bytes: take a shorter one for xenstore"
        )
    if "\0" in str(path):
        raise PvemuError(f"{str(path)!r}: a path can't have a NUL: take another one for xenstore")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(_FOR_THE_OWNER)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise PvemuError(f"{path}: can't make xenstore's socket here: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket's file on which nobody listens."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise PvemuError(f"{path} is not a socket: take another path for xenstore")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(str(path))
    if result != errno.ECONNREFUSED:
        raise PvemuError(f"{path} is in use by another process: take another path for xenstore")
    try:
        path.unlink()
    except OSError as error:
        raise PvemuError(f"{path}: can't replace the socket that was left here: {error.strerror}") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
