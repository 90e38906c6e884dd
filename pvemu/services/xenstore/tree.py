"""What clients do with the tree: every operation with its checks, in a transaction or outside of one."""

from collections.abc import Iterator
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.services.xenstore import paths, watches
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.permissions import (
    ALL_RIGHTS,
    Permissions,
    Rights,
    owned_by,
    rights_of,
)
from pvemu.services.xenstore.store import Node, Store
from pvemu.services.xenstore.transaction import Transaction

_TO_SET_PERMISSIONS: Final = Rights.WRITE | Rights.OWNER


class Tree:
    """The store as one request sees it.

    All paths are absolute. All methods raise XenstoreError: EINVAL for a bad path, EACCES, ENOENT, and ENOSPC
    where a quota is used up.

    Args:
        client: who asks; None for the service itself, which may do everything.
        connections: who may have to be told.
    """

    def __init__(
        self,
        store: Store,
        connections: list[Connection],
        client: Connection | None,
        transaction: Transaction | None = None,
    ) -> None:
        self._store = store
        self._connections = connections
        self._client = client
        self._transaction = transaction
        self._is_limited = client is not None and not client.privileged

    # --- operations ------------------------------------------------------------------------------

    def node(self, path: str) -> Node:
        """A node that the client may read."""
        return self._get(path, Rights.READ)

    def write(self, path: str, value: bytes) -> None:
        """Give a node a value; it is made, with all above it, where it is missing."""
        try:
            node = self._get(path, Rights.WRITE)
        except XenstoreError as error:
            if error.errno != Errno.ENOENT:
                raise
            self._create(path, value)
        else:
            self._write(path, node._replace(value=value), is_limited=self._is_limited)
        self._fire(path)

    def mkdir(self, path: str) -> None:
        """Make a node, with all above it, where it is missing."""
        try:
            self._get(path, Rights.WRITE)
        except XenstoreError as error:
            if error.errno != Errno.ENOENT:
                raise
            self._create(path, b"")
            self._fire(path)

    def remove(self, path: str) -> None:
        """Remove a node with all below it; a node that is missing is no error where its parent is there."""
        try:
            self._get(path, Rights.WRITE)
        except XenstoreError as error:
            if error.errno != Errno.ENOENT or self._read(paths.parent(path)) is None:
                raise
            return
        if path == paths.ROOT:
            raise XenstoreError(Errno.EINVAL)
        self.remove_subtree(path)

    def set_permissions(self, path: str, permissions: Permissions) -> None:
        """Replace the list of a node or of a special event.

        Raises:
            XenstoreError: besides those of all, EPERM when a guest would change the owner.
        """
        if paths.is_special(path):
            self._set_special(path, permissions)
            return
        node = self._get(path, _TO_SET_PERMISSIONS)
        before, owner = node.permissions, permissions[0].domid
        if self._is_limited and owner != before[0].domid:
            raise XenstoreError(Errno.EPERM)
        self._write(path, node._replace(permissions=permissions), is_limited=self._is_limited)
        self._count(before[0].domid, -1)
        self._count(owner, 1)
        self._fire(path, permissions_before=before)

    def remove_subtree(self, path: str) -> None:
        """Remove a node with all below it, the deepest first, without asking for rights."""
        name = paths.leaf(path)
        above = paths.parent(path)
        holder = self._read(above)
        if holder is None:
            raise XenstoreError(Errno.EINVAL)
        for below, node in self._deepest_first(path):
            self._put(below, None)
            self._fire(below, exactly=below != path, node=node)
            self._count(node.permissions[0].domid, -1)
            if below != path:
                # Its parent changes as well, but is removed next.
                self._store.next_generation()
        if name not in holder.children:
            # Made outside of a transaction that had read its parent before, and so can't be committed.
            raise XenstoreError(Errno.EIO)
        remaining = tuple(child for child in holder.children if child != name)
        self._write(above, holder._replace(children=remaining), is_limited=False)

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, path: str) -> Node | None:
        view = self._transaction or self._store
        return view.read(path)

    def _rights(self, node: Node) -> Rights:
        return ALL_RIGHTS if self._client is None else rights_of(self._client, node.permissions)

    def _get(self, path: str, rights: Rights) -> Node:
        """A node on which the client has all these rights.

        Who may not know about a node is told EACCES, whether it exists or not: that depends on what the
        client may do with the nearest node above that exists.
        """
        if not paths.is_valid(path, self._store.quotas.path_max):
            raise XenstoreError(Errno.EINVAL)
        node = self._read(path)
        if node is not None and rights in self._rights(node):
            return node
        reason = Errno.ENOENT if node is None else Errno.EACCES
        above = path
        while True:
            above = paths.parent(above)
            holder = self._read(above)
            if holder is not None:
                raise XenstoreError(reason if self._rights(holder) & rights else Errno.EACCES)

    def _deepest_first(self, path: str) -> Iterator[tuple[str, Node]]:
        """A node and all below it, children before their parents; read on the way down."""
        stack: list[tuple[str, Node, Iterator[str]]] = []
        node = self._read_in_walk(path)
        stack.append((path, node, iter(node.children)))
        while stack:
            path, node, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                yield path, node
            else:
                path = paths.child(path, name)
                node = self._read_in_walk(path)
                stack.append((path, node, iter(node.children)))

    def _read_in_walk(self, path: str) -> Node:
        try:
            node = self._read(path)
        except XenstoreError:
            # A transaction that touches too many nodes fails in the middle of a removal.
            raise XenstoreError(Errno.EIO) from None
        if node is None:
            raise XenstoreError(Errno.EIO)
        return node

    # --- changing --------------------------------------------------------------------------------

    def _put(self, path: str, node: Node | None) -> None:
        generation = self._store.next_generation()
        node = node and node._replace(generation=generation)
        if self._transaction is not None:
            self._transaction.write(path, node)
        elif node is None:
            del self._store.nodes[path]
        else:
            self._store.nodes[path] = node

    def _write(self, path: str, node: Node, *, is_limited: bool) -> None:
        if is_limited and node.size >= self._store.quotas.node_size:
            self._store.next_generation()
            if self._transaction is not None:
                self._transaction.has_failed = True
            raise XenstoreError(Errno.ENOSPC)
        self._put(path, node)

    def _create(self, path: str, value: bytes) -> None:
        """Make a node and what is missing above it; a guest owns what it makes, all else is the parent's."""
        missing = [path]
        while (holder := self._read(paths.parent(missing[-1]))) is None:
            missing.append(paths.parent(missing[-1]))
        if self._transaction is not None:
            self._transaction.creates = True
        permissions = holder.permissions
        if self._client is not None and self._is_limited:
            permissions = owned_by(permissions, self._client.domid)
        written: list[str] = []
        names: tuple[str, ...] = ()
        try:
            for at in missing:
                # What a transaction makes counts when it is committed.
                if self._is_limited and self._store.owns(permissions[0].domid) >= self._store.quotas.nodes:
                    raise XenstoreError(Errno.ENOSPC)
                made = Node(0, permissions, value if at == path else b"", names)
                self._write(at, made, is_limited=self._is_limited)
                self._count(permissions[0].domid, 1)
                written.append(at)
                names = (paths.leaf(at),)
            grown = holder._replace(children=(*holder.children, *names))
            self._write(paths.parent(missing[-1]), grown, is_limited=self._is_limited)
        except XenstoreError:
            self._undo(written, permissions[0].domid)
            raise

    def _undo(self, written: list[str], owner: int) -> None:
        if self._transaction is not None:
            self._transaction.has_failed |= bool(written)
            return
        for path in written:
            del self._store.nodes[path]
            self._store.count(owner, -1)

    def _count(self, domid: int, change: int) -> None:
        if self._transaction is not None:
            self._transaction.count(domid, change)
        else:
            self._store.count(domid, change)

    def _set_special(self, name: str, permissions: Permissions) -> None:
        present = self._store.special.get(name)
        if present is None:
            raise XenstoreError(Errno.EINVAL)
        if self._client is not None and _TO_SET_PERMISSIONS not in rights_of(self._client, present):
            raise XenstoreError(Errno.EACCES)
        self._store.special[name] = permissions

    def _fire(
        self,
        path: str,
        *,
        exactly: bool = False,
        node: Node | None = None,
        permissions_before: Permissions | None = None,
    ) -> None:
        if self._transaction is not None:
            self._transaction.queue_watches(path, exactly)
        else:
            watches.fire(
                self._store,
                self._connections,
                path,
                exactly=exactly,
                node=node,
                permissions_before=permissions_before,
            )
