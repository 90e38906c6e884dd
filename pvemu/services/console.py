"""The console service: both directions of each domain's console ring (public header io/console.h)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pvemu.abi.console import xencons_interface
from pvemu.services.privcmd import Privcmd

_OUT: Final = xencons_interface.offset("out", 4)
_OUT_SIZE: Final = xencons_interface.field_size("out", 4)
_OUT_CONS: Final = xencons_interface.offset("out_cons", 4) >> 2
_OUT_PROD: Final = xencons_interface.offset("out_prod", 4) >> 2
_IN: Final = xencons_interface.offset("in", 4)
_IN_SIZE: Final = xencons_interface.field_size("in", 4)
_IN_CONS: Final = xencons_interface.offset("in_cons", 4) >> 2
_IN_PROD: Final = xencons_interface.offset("in_prod", 4) >> 2
#: Keys that may wait for a guest that does not read them; more are lost, as at any keyboard.
_LONGEST_QUEUE: Final = 1 << 20


class ConsoleRing:
    """One domain's console: what the guest writes goes to a sink, and what is typed goes to the guest.

    Attributes:
        printed: how many bytes the guest has written.
    """

    def __init__(self, page: memoryview, sink: Callable[[bytes], None]) -> None:
        self._bytes = page
        self._words = page.cast("I")
        self._sink = sink
        self._typed = bytearray()
        self.printed = 0

    def drain(self) -> bool:
        """Pass on what the guest has written since the last call; whether there was anything.

        The indexes are the guest's: a producer further ahead than the ring is long is taken for a full ring.
        """
        consumer, producer = self._words[_OUT_CONS], self._words[_OUT_PROD]
        waiting = min((producer - consumer) & 0xFFFFFFFF, _OUT_SIZE)
        if not waiting:
            return False
        start = consumer & (_OUT_SIZE - 1)
        first = min(waiting, _OUT_SIZE - start)
        self._sink(
            bytes(self._bytes[_OUT + start : _OUT + start + first])
            + bytes(self._bytes[_OUT : _OUT + waiting - first])
        )
        self._words[_OUT_CONS] = (consumer + waiting) & 0xFFFFFFFF
        self.printed += waiting
        return True

    def type(self, keys: bytes) -> None:
        """Queue keys for the guest."""
        self._typed += keys[: max(_LONGEST_QUEUE - len(self._typed), 0)]

    @property
    def holds_keys(self) -> bool:
        """Whether the guest has not yet taken all that was typed."""
        return bool(self._typed) or self._words[_IN_CONS] != self._words[_IN_PROD]

    def feed(self) -> bool:
        """Hand the next key to a guest that has taken the one before; whether there was one.

        One at a time, as from a keyboard: a program that empties its input before it asks a question would
        lose what was typed ahead.
        """
        if not self._typed or self._words[_IN_CONS] != self._words[_IN_PROD]:
            return False
        producer = self._words[_IN_PROD]
        self._bytes[_IN + (producer & (_IN_SIZE - 1))] = self._typed.pop(0)
        self._words[_IN_PROD] = (producer + 1) & 0xFFFFFFFF
        return True


@dataclass(frozen=True)
class _Console:
    ring: ConsoleRing
    port: int


class ConsoleService:
    """Serves the rings of all domains that were given to it."""

    def __init__(self, privcmd: Privcmd) -> None:
        self._privcmd = privcmd
        self._consoles: dict[int, _Console] = {}

    def attach(self, domid: int, mfn: int, port: int, sink: Callable[[bytes], None]) -> None:
        """Serve the console of a domain: its ring's machine frame, and the port it offers."""
        ring = ConsoleRing(self._privcmd.map_foreign(domid, mfn), sink)
        local = self._privcmd.bind_interdomain(domid, port, lambda: self._serve(domid))
        self._consoles[domid] = _Console(ring, local)

    def detach(self, domid: int) -> None:
        """Serve a domain's console no more, after passing on what is left in it."""
        console = self._consoles.pop(domid, None)
        if console is not None:
            console.ring.drain()
            self._privcmd.close_port(console.port)

    def type(self, domid: int, keys: bytes) -> None:
        """Type at a domain's console; a domain that has none does not mind."""
        if domid in self._consoles:
            self._consoles[domid].ring.type(keys)
            self._serve(domid)

    def holds_keys(self, domid: int) -> bool:
        """Whether a domain has not yet taken all that was typed."""
        return domid in self._consoles and self._consoles[domid].ring.holds_keys

    def printed(self, domid: int) -> int:
        """How many bytes a domain has written."""
        return self._consoles[domid].ring.printed if domid in self._consoles else 0

    def serve(self, domid: int) -> None:
        """Look at the console of a domain that has just run: it may have used its ring without ringing."""
        if domid in self._consoles:
            self._serve(domid)

    def _serve(self, domid: int) -> None:
        """Drain what was written, hand over what was typed, and say so."""
        console = self._consoles[domid]
        drained, fed = console.ring.drain(), console.ring.feed()
        if drained or fed:
            self._privcmd.notify(console.port)
