"""Transactions: what one has read and changed, and whether that can still become everybody's."""

from collections.abc import Callable
from dataclasses import dataclass

from pvemu.abi.errno import Errno
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.permissions import Permissions
from pvemu.services.xenstore.store import Node, Store

Fire = Callable[[str, bool, Permissions | None], None]
"""Tells watchers about a path: whether only those of exactly this path, and who could read it before."""


@dataclass(slots=True)
class Access:
    """One node that a transaction has touched.

    Attributes:
        node: as the transaction sees it; None when for the transaction there is no such node.
        generation: of the node when it was first read; None when there was none.
        is_checked: it was read before it was written, so it must not have changed outside.
        fires, fires_exactly: watches are due at the commit, of this path only.
    """

    node: Node | None
    generation: int | None
    permissions_before: Permissions | None
    is_checked: bool
    is_modified: bool = False
    fires: bool = False
    fires_exactly: bool = False


class Transaction:
    """The view of one transaction: the store, with the transaction's own reads and changes laid over it.

    Attributes:
        has_failed: something could be done only by half, so it can't be committed any more.
        creates: it made at least one node.
        owned: by how many nodes more each domain owns.
        limit: nodes that it may touch; None for no limit.
    """

    def __init__(self, store: Store, limit: int | None) -> None:
        self._store = store
        self._accessed: dict[str, Access] = {}
        self.limit = limit
        self.has_failed = False
        self.creates = False
        self.owned: dict[int, int] = {}
        store.next_generation()

    def read(self, path: str) -> Node | None:
        """The node as it is for this transaction.

        Raises:
            XenstoreError: ENOSPC, too many nodes were touched.
        """
        access = self._accessed.get(path)
        if access is not None:
            return None if access.node is None else self._store.settle(access.node)
        node = self._store.read(path)
        self._touch(path, node, is_checked=True)
        return node

    def write(self, path: str, node: Node | None) -> None:
        """Change or make a node, or remove it (None).

        Raises:
            XenstoreError: ENOSPC, too many nodes were touched.
        """
        access = self._accessed.get(path) or self._touch(path, self._store.read(path), is_checked=False)
        access.node = node
        access.is_modified = True

    def _touch(self, path: str, node: Node | None, *, is_checked: bool) -> Access:
        if self.limit is not None and len(self._accessed) >= self.limit:
            self.has_failed = True
            raise XenstoreError(Errno.ENOSPC)
        generation, permissions = (None, None) if node is None else (node.generation, node.permissions)
        access = self._accessed[path] = Access(node, generation, permissions, is_checked)
        return access

    def queue_watches(self, path: str, exactly: bool) -> None:
        """Fire watches of a changed node when the transaction is committed."""
        access = self._accessed[path]
        access.fires_exactly = exactly and (access.fires_exactly or not access.fires)
        access.fires = True

    def count(self, domid: int, change: int) -> None:
        """Add to the number of nodes that a domain will own."""
        self.owned[domid] = self.owned.get(domid, 0) + change

    def commit(self, fire: Fire, *, is_limited: bool) -> None:
        """Make the changes everybody's.

        Args:
            is_limited: a guest's transaction, for which the quota of nodes counts.

        Raises:
            XenstoreError: EAGAIN when a node that was read has changed since, ENOMEM when the transaction
                has failed before, ENOSPC when a domain would own too many nodes.
        """
        if self.has_failed:
            raise XenstoreError(Errno.ENOMEM)
        self._check_owners(check_quota=self.creates and is_limited)
        nodes = self._store.nodes
        for path, access in self._accessed.items():
            now = nodes.get(path)
            if access.is_checked and access.generation != (None if now is None else now.generation):
                raise XenstoreError(Errno.EAGAIN)
        for path, access in self._accessed.items():
            if not access.is_modified:
                continue
            if access.node is not None:
                nodes[path] = access.node._replace(generation=self._store.next_generation())
            else:
                nodes.pop(path, None)
            if access.fires:
                fire(path, access.fires_exactly, access.permissions_before)
        for domid, change in self.owned.items():
            self._store.count(domid, change)

    def _check_owners(self, *, check_quota: bool) -> None:
        for domid, change in self.owned.items():
            known = self._store.domains.learn(domid, self._store.generation)
            if known is None:
                raise XenstoreError(Errno.ENOMEM)
            if check_quota and domid and known.nodes + change >= self._store.quotas.nodes:
                raise XenstoreError(Errno.ENOSPC)
