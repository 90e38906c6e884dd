"""What becomes of the nodes of a domain that is gone."""

from pvemu.services.xenstore import paths
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.permissions import owned_by
from pvemu.services.xenstore.store import Store
from pvemu.services.xenstore.tree import Tree


def remove_orphans(store: Store, connections: list[Connection], domid: int) -> None:
    """Remove all nodes that a domain owns, each with everything below it.

    The root can't be removed: it becomes domain 0's.
    """
    tree = Tree(store, connections, None)
    waiting = [paths.ROOT]
    while waiting and store.owns(domid) > 0:
        path = waiting.pop()
        node = store.nodes[path]
        if node.permissions[0].domid == domid:
            if path != paths.ROOT:
                tree.remove_subtree(path)
                continue
            tree.set_permissions(path, owned_by(node.permissions, 0))
        waiting += [paths.child(path, name) for name in reversed(node.children)]
