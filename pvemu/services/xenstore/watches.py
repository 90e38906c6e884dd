"""Watches: who is told about which path, and the events that a change makes."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from pvemu.abi.errno import Errno
from pvemu.abi.xs_wire import XENSTORE_REL_PATH_MAX
from pvemu.services.xenstore import paths
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.permissions import Permissions, Rights, rights_of
from pvemu.services.xenstore.store import Node, Store

RELEASE_DOMAIN: Final = "@releaseDomain"
INTRODUCE_DOMAIN: Final = "@introduceDomain"


class Watch(NamedTuple):
    """One watch of a connection: its absolute path, what the client calls it, how events spell their paths.

    Attributes:
        base: the path before the client's own spelling of a relative path; empty for an absolute one.
    """

    path: str
    token: bytes
    base: str

    def spelled(self, path: str) -> str:
        """A path at or below the watch's, as the client expects it."""
        return path[len(self.base) + 1 :] if self.base else path


def add_watch(store: Store, connection: Connection, path: str, token: bytes) -> Watch:
    """Begin to watch a path or an event.

    Raises:
        XenstoreError: EINVAL for a bad path, EEXIST when the connection has this very watch, E2BIG when a
            guest has too many.
    """
    full = paths.absolute(path, connection.base)
    is_good = (
        len(full) <= XENSTORE_REL_PATH_MAX
        if paths.is_special(full)
        else paths.is_valid(full, store.quotas.path_max)
    )
    if not is_good:
        raise XenstoreError(Errno.EINVAL)
    if (full, token) in connection.watches:
        raise XenstoreError(Errno.EEXIST)
    if not connection.privileged and len(connection.watches) > store.quotas.watches:
        raise XenstoreError(Errno.E2BIG)
    watch = Watch(full, token, "" if full == path else connection.base)
    connection.watches[full, token] = watch
    return watch


def remove_watch(connection: Connection, path: str, token: bytes) -> None:
    """Stop watching; raises XenstoreError ENOENT when there is no such watch."""
    if connection.watches.pop((paths.absolute(path, connection.base), token), None) is None:
        raise XenstoreError(Errno.ENOENT)


def fire(
    store: Store,
    connections: Iterable[Connection],
    path: str,
    *,
    exactly: bool,
    node: Node | None = None,
    permissions_before: Permissions | None = None,
) -> None:
    """Tell everybody who watches a path, or one above it, and may know.

    Args:
        exactly: only watches of this very path; for what disappears with the node that was removed.
        node: what was there, when it isn't any more.
        permissions_before: who could read it before the change may know about it, too.
    """
    for connection in connections:
        hits = [
            watch
            for watch in connection.watches.values()
            if (path == watch.path if exactly else paths.is_child(path, watch.path))
        ]
        if hits and _may_know(store, connection, path, node, permissions_before):
            for watch in hits:
                connection.send_event(watch.spelled(path), watch.token)


def _may_know(
    store: Store, connection: Connection, path: str, node: Node | None, before: Permissions | None
) -> bool:
    if paths.is_special(path):
        permissions = store.special.get(path)
        return permissions is not None and Rights.READ in rights_of(connection, permissions)
    if before is not None and Rights.READ in rights_of(connection, before):
        return True
    node = node or store.read(path)
    if node is None:
        return False
    if Rights.READ in rights_of(connection, node.permissions):
        return True
    above = store.read(paths.parent(path))
    return above is not None and Rights.READ in rights_of(connection, above.permissions)
