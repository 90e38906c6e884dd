"""The tree: nodes by path, the count of changes, and the rules that hold for them all."""

from typing import Final, NamedTuple

from pvemu.services.xenstore import paths
from pvemu.services.xenstore.domains import Domains
from pvemu.services.xenstore.permissions import Permission, Permissions, Rights, without
from pvemu.services.xenstore.quotas import Quotas

# Bytes that xenstored's own records have besides value and names of children.
_NODE_OVERHEAD: Final = 24
_PERMISSION_SIZE: Final = 8
_DOMAIN_0_ONLY: Final[Permissions] = (Permission(0, Rights.NONE),)
_FIRST_NODES: Final = ("/", "/tool", "/tool/xenstored")


class Node(NamedTuple):
    """One node as it is at one moment; a change makes another one.

    Attributes:
        generation: the store's count at the last change of value, permissions or list of children.
        children: their last names, in the order in which they were made.
    """

    generation: int
    permissions: Permissions
    value: bytes = b""
    children: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that count for the quota of a node's size."""
        names = sum(len(name) + 1 for name in self.children)
        return _NODE_OVERHEAD + _PERMISSION_SIZE * len(self.permissions) + len(self.value) + names


class Store:
    """The nodes that everybody sees, outside of transactions.

    Attributes:
        nodes: by absolute path. All of a node's ancestors are there, and list it.
        generation: how many changes there were. Every node that changes takes the next number, every
            transaction too, so that equal numbers mean an unchanged node.
        special: who is told about @introduceDomain and @releaseDomain.
    """

    def __init__(self, domains: Domains, quotas: Quotas) -> None:
        self.domains = domains
        self.quotas = quotas
        self.generation = 0
        self.nodes: dict[str, Node] = {}
        self.special = {"@introduceDomain": _DOMAIN_0_ONLY, "@releaseDomain": _DOMAIN_0_ONLY}
        for path, below in zip(_FIRST_NODES, (*_FIRST_NODES[1:], None), strict=True):
            children = () if below is None else (paths.leaf(below),)
            self.nodes[path] = Node(self.next_generation(), _DOMAIN_0_ONLY, children=children)
        self.count(0, len(_FIRST_NODES))

    def next_generation(self) -> int:
        """Count one change."""
        self.generation += 1
        return self.generation

    def read(self, path: str) -> Node | None:
        """A node, with permissions of domains that are gone marked as such."""
        node = self.nodes.get(path)
        return None if node is None else self.settle(node)

    def settle(self, node: Node) -> Node:
        """The node with those permissions marked that mean no domain of today."""
        if len(node.permissions) == 1:
            return node
        means = self.domains.means
        others = (
            entry if entry.ignored or means(entry.domid, node.generation) else entry._replace(ignored=True)
            for entry in node.permissions[1:]
        )
        return node._replace(permissions=(node.permissions[0], *others))

    def count(self, domid: int, change: int) -> bool:
        """Add to the number of nodes that a domain owns; False when there is no such domain."""
        known = self.domains.learn(domid, self.generation)
        if known is None:
            return False
        known.nodes += change
        return True

    def owns(self, domid: int) -> int:
        """How many nodes a domain owns."""
        known = self.domains.find(domid)
        return known.nodes if known else 0

    def forget_domain(self, domid: int) -> None:
        """A domain whose nodes have been removed is gone."""
        self.domains.forget(domid)
        for name, permissions in self.special.items():
            self.special[name] = without(permissions, domid)

    def audit(self) -> list[str]:
        """What is wrong with the tree: nodes that nobody lists, names without a node, wrong counts."""
        wrong = [
            f"{path} lists {name}, which is not there"
            for path, node in self.nodes.items()
            for name in node.children
            if paths.child(path, name) not in self.nodes
        ]
        counts: dict[int, int] = {}
        for path, node in self.nodes.items():
            above = self.nodes.get(paths.parent(path))
            owner = node.permissions[0].domid
            counts[owner] = counts.get(owner, 0) + 1
            if path != paths.ROOT and (above is None or above.children.count(paths.leaf(path)) != 1):
                wrong.append(f"{path} is not listed once by its parent")
            if node.generation > self.generation:
                wrong.append(f"{path} has generation {node.generation}, from the future")
        wrong += [
            f"domain {domid} owns {count} nodes, not {self.owns(domid)}"
            for domid, count in counts.items()
            if self.owns(domid) != count
        ]
        return wrong
