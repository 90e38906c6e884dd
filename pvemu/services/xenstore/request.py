"""One request on its way through a handler: the message, who sent it, and what the handler works with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pvemu.services.xenstore import paths
from pvemu.services.xenstore.connection import Connection
from pvemu.services.xenstore.store import Store
from pvemu.services.xenstore.tree import Tree
from pvemu.services.xenstore.wire import Message

if TYPE_CHECKING:
    from pvemu.services.xenstore.daemon import Xenstored
    from pvemu.services.xenstore.transaction import Transaction

OK: Final = b"OK\0"
"""The payload of a reply that has nothing to say."""


@dataclass
class Request:
    """What a handler gets. It returns the payload of the reply, or raises XenstoreError.

    Attributes:
        transaction: that of the message's tx_id, for those types that heed it.
        then: what to do when the reply is on its way.
    """

    xenstored: "Xenstored"
    client: Connection
    message: Message
    transaction: "Transaction | None"
    then: Callable[[], None] | None = None

    @property
    def payload(self) -> bytes:
        """The bytes behind the header."""
        return self.message.payload

    @property
    def store(self) -> Store:
        """The tree that everybody sees."""
        return self.xenstored.store

    @property
    def connections(self) -> list[Connection]:
        """All clients, in the order in which they came."""
        return self.xenstored.connections

    @cached_property
    def tree(self) -> Tree:
        """The tree as this client sees it, in this transaction."""
        return Tree(self.store, self.connections, self.client, self.transaction)

    def path(self, text: bytes) -> str:
        """A path of the message, absolute."""
        return paths.absolute(text.decode("latin-1"), self.client.base)
