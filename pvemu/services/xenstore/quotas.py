"""What one guest may have of everything; domain 0 and its tools have no limits."""

from dataclasses import dataclass, fields
from typing import Final

from pvemu.abi.xs_wire import XENSTORE_REL_PATH_MAX


@dataclass
class Quotas:
    """The limits, with the defaults of Xen 4.17's C xenstored.

    Attributes:
        nodes: nodes that a domain owns.
        watches: watches beyond which none can be added (one more than this is accepted).
        transactions: open transactions beyond which none can be started (again one more).
        outstanding: replies that a guest has not fetched, at which its requests are left in the ring.
        transaction_nodes: nodes that one transaction may touch.
        node_size: bytes at which a node is too large: 24, 8 for each permission, value, names of children.
        path_max: bytes of a path behind /local/domain/<domid>/.
        permissions: entries in a list of permissions.
    """

    nodes: int = 1000
    watches: int = 128
    transactions: int = 10
    outstanding: int = 20
    transaction_nodes: int = 1024
    node_size: int = 2048
    path_max: int = XENSTORE_REL_PATH_MAX
    permissions: int = 5


DESCRIPTIONS: Final = {
    "nodes": "Nodes per domain",
    "watches": "Watches per domain",
    "transactions": "Transactions per domain",
    "outstanding": "Outstanding requests per domain",
    "transaction-nodes": "Nodes that one transaction may touch",
    "node-size": "Size of a node in bytes",
    "path-max": "Length of a node's path in bytes",
    "permissions": "Permissions per node",
}
"""Each quota by the name that XS_CONTROL has for it."""

assert [name.replace("-", "_") for name in DESCRIPTIONS] == [field.name for field in fields(Quotas)]
