"""The console service: drains the console ring of each domain (public header io/console.h)."""

from collections.abc import Callable
from typing import Final

from pvemu.abi.console import xencons_interface
from pvemu.services.privcmd import Privcmd

_OUT: Final = xencons_interface.offset("out", 4)
_OUT_SIZE: Final = xencons_interface.field_size("out", 4)
_OUT_CONS: Final = xencons_interface.offset("out_cons", 4) >> 2
_OUT_PROD: Final = xencons_interface.offset("out_prod", 4) >> 2


class ConsoleRing:
    """The output half of one domain's console: what the guest writes goes to a sink."""

    def __init__(self, page: memoryview, sink: Callable[[bytes], None]) -> None:
        self._bytes = page[_OUT : _OUT + _OUT_SIZE]
        self._words = page.cast("I")
        self._sink = sink

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
        self._sink(bytes(self._bytes[start : start + first]) + bytes(self._bytes[: waiting - first]))
        self._words[_OUT_CONS] = (consumer + waiting) & 0xFFFFFFFF
        return True


class ConsoleService:
    """Drains the rings of all domains that were given to it, when their events come in."""

    def __init__(self, privcmd: Privcmd) -> None:
        self._privcmd = privcmd
        self._rings: dict[int, ConsoleRing] = {}

    def attach(self, domid: int, mfn: int, port: int, sink: Callable[[bytes], None]) -> None:
        """Serve the console of a domain: its ring's machine frame, and the port it offers."""
        ring = self._rings[domid] = ConsoleRing(self._privcmd.map_foreign(domid, mfn), sink)

        def on_event() -> None:
            if ring.drain():
                self._privcmd.notify(local)

        local = self._privcmd.bind_interdomain(domid, port, on_event)

    def drain_all(self) -> None:
        """Pass on what is left, from domains that have stopped."""
        for ring in self._rings.values():
            ring.drain()
