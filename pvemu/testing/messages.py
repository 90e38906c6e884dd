"""What domains say to xenstored over their ring: well-formed messages, nearly so, and anything else."""

from dataclasses import dataclass
from typing import Final, Protocol

from pvemu.abi import xs_wire
from pvemu.abi.xs_wire import xsd_sockmsg

#: The transaction that the domain has begun last.
LATEST: Final = -1
#: What stands for the domain's own number, the next domain's, and the count of a message that is repeated.
_OWN, _PEER, _COUNT = "{own}", "{peer}", "#"
_PRINTABLE: Final = frozenset(
    map(ord, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/@-_ .")
)
TYPES: Final = {
    name: number
    for name, number in vars(xs_wire).items()
    if name.startswith("XS_") and number < xs_wire.XS_TYPE_COUNT and not name.startswith("XS_WATCH_")
}
"""Messages that a guest can send, by name; XS_WATCH_EVENT and XS_ERROR come from xenstored."""


class Neighbours(Protocol):
    """The numbers that a message may name."""

    @property
    def domid(self) -> int:
        """The domain's own."""

    @property
    def peer_domid(self) -> int:
        """The next domain's."""


@dataclass(frozen=True)
class Message:
    """A message, or several of a kind.

    Attributes:
        type: the XS_* number.
        transaction: its number, or LATEST.
        payload: text whose characters are bytes; {own} and {peer} are domains' numbers, # is a count.
        length: what the header says of the payload's length; None: the truth.
        times: how often it is sent, with # from 0 up; the answer to the last counts.
    """

    type: int
    transaction: int = 0
    payload: str = ""
    length: int | None = None
    times: int = 1

    def __repr__(self) -> str:
        transaction = "latest" if self.transaction == LATEST else self.transaction
        more = "" if self.length is None else f", length {self.length}"
        often = "" if self.times == 1 else f", {self.times} times"
        return f"{name_of(self.type)}, {transaction}, {self.payload!r}{more}{often}"

    def text(self, place: Neighbours) -> str:
        """The payload with the domains' numbers."""
        return self.payload.replace(_OWN, str(place.domid)).replace(_PEER, str(place.peer_domid))

    def pack(self, place: Neighbours, latest: int, count: int = 0) -> bytes:
        """The bytes of one of them; `latest` is the transaction begun last."""
        payload = self.text(place).replace(_COUNT, str(count)).encode("latin-1")
        transaction = latest if self.transaction == LATEST else self.transaction
        length = len(payload) if self.length is None else self.length
        return xsd_sockmsg.pack(4, type=self.type, req_id=0, tx_id=transaction, len=length) + payload

    def lines(self, place: Neighbours) -> list[str]:
        """It as source, with steps.gk and store_steps.gk."""
        text = self.text(place)
        transaction = "[store_transaction]" if self.transaction == LATEST else str(self.transaction)
        lines = []
        for count in range(self.times):
            raw = text.replace(_COUNT, str(count)).encode("latin-1")
            length = len(raw) if self.length is None else self.length
            parts = _spelt(raw) or "0"
            lines.append(f"say {name_of(self.type)}, {transaction}, {length}, {len(raw)}, {{{parts}}}")
        return lines


def name_of(number: int) -> str:
    """XS_READ for 2; digits for what is no type."""
    return next((name for name, value in TYPES.items() if value == number), str(number))


def _spelt(raw: bytes) -> str:
    """Bytes as the assembler's `db` has them."""
    parts: list[str] = []
    is_text = False
    for byte in raw:
        if byte not in _PRINTABLE:
            parts.append(f"{byte:#x}")
        elif is_text:
            parts[-1] = f'{parts[-1][:-1]}{chr(byte)}"'
        else:
            parts.append(f'"{chr(byte)}"')
        is_text = byte in _PRINTABLE
    return ", ".join(parts)
