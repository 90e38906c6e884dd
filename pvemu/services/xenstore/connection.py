"""One client of the store, whatever carries its bytes: its rights, watches, transactions and output."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from pvemu.services.xenstore.outbox import Outbox
from pvemu.services.xenstore.paths import domain_path
from pvemu.services.xenstore.wire import Message, watch_event

if TYPE_CHECKING:
    from pvemu.services.xenstore.transaction import Transaction
    from pvemu.services.xenstore.watches import Watch

#: Bytes of events that may wait for a guest that doesn't fetch them; further ones are lost (2.5 MiB, the
#: memory that C xenstored has for a domain).
LARGEST_BACKLOG: Final = 2560 << 10


class Connection:
    """A client's state.

    Attributes:
        domid: the domain it speaks for; clients on a socket and in this process speak for domain 0.
        privileged: it may do everything, without quotas.
        target: the domain whose rights it has as well (XS_SET_TARGET).
        base: where its relative paths begin.
        watches: by absolute path and token, in the order in which they were added.
        transactions: the open ones, by number.
        outbox: what waits to be sent.

    Args:
        on_output: called when something was put into the outbox.
    """

    def __init__(self, domid: int, on_output: Callable[[], None]) -> None:
        self.domid = domid
        self.privileged = domid == 0
        self.target: int | None = None
        self.base = domain_path(domid)
        self.watches: dict[tuple[str, bytes], Watch] = {}
        self.transactions: dict[int, Transaction] = {}
        self.outbox = Outbox()
        self._on_output = on_output
        self._last_transaction = 0

    def send(self, message: Message) -> None:
        """Queue a message."""
        self.outbox.put(message)
        self._on_output()

    def send_event(self, path: str, token: bytes) -> None:
        """Queue a watch event, unless it is too long, waits already, or a guest has too many."""
        message = watch_event(path, token)
        if len(message.payload) > XENSTORE_PAYLOAD_MAX or self.outbox.has_event(message):
            return
        if self.privileged or self.outbox.size + len(message.payload) <= LARGEST_BACKLOG:
            self.send(message)

    def open(self, transaction: "Transaction") -> int:
        """Enter a transaction; its number."""
        number = self._last_transaction
        while not number or number in self.transactions:
            number = (number + 1) & 0xFFFFFFFF
        self._last_transaction = (number + 1) & 0xFFFFFFFF
        self.transactions[number] = transaction
        return number

    def reset(self) -> None:
        """Forget watches and transactions."""
        self.watches.clear()
        self.transactions.clear()
