"""A store with rings and a socket, and a stand-in for everything that it needs around it."""

import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused, HypercallError, PvemuError
from pvemu.services.outside import Source
from pvemu.services.xenstore.quotas import Quotas
from pvemu.services.xenstore.service import XenstoreService
from tests.services.xenstore.scenario import GUESTS, SOCKETS
from tests.services.xenstore.xenstore_clients import Client, RingPipe, SocketPipe

DOMAINS: Final = tuple(int(name[1:]) for name in GUESTS)
PORT: Final = 7
FRAME: Final = 0x1000


class Domains:
    """A privcmd handle for domains that have one ring page and offer one port, and nothing else."""

    def __init__(self) -> None:
        self.pages = {domid: bytearray(4096) for domid in DOMAINS}
        self.handlers: dict[int, tuple[int, Callable[[], None]]] = {}
        self.notified: dict[int, int] = dict.fromkeys(DOMAINS, 0)
        self.mapped: dict[int, memoryview] = {}
        self._next_port = 1

    def map_foreign(self, domid: int, mfn: int) -> memoryview:
        if domid not in self.pages or mfn != FRAME + domid:
            raise PvemuError(f"domain {domid} has no frame {mfn:#x}")
        return memoryview(self.pages[domid])

    def bind_interdomain(self, domid: int, port: int, handler: Callable[[], None]) -> int:
        if domid not in self.pages or port != PORT:
            raise HypercallError(Errno.EINVAL)
        local, self._next_port = self._next_port, self._next_port + 1
        self.handlers[local] = domid, handler
        return local

    def notify(self, port: int) -> None:
        if port in self.handlers:
            self.notified[self.handlers[port][0]] += 1

    def close_port(self, port: int) -> None:
        self.handlers.pop(port, None)

    def map_grant(self, domid: int, reference: int, *, writable: bool) -> tuple[int, memoryview]:
        raise GrantRefused(-1)

    def unmap_grant(self, handle: int) -> None:
        raise AssertionError("nothing was mapped")

    def copy_from_grant(self, domid: int, reference: int, offset: int, size: int) -> bytes:
        raise GrantRefused(-1)

    def copy_to_grant(self, domid: int, reference: int, offset: int, data: bytes) -> None:
        raise GrantRefused(-1)

    def kick(self, domid: int) -> None:
        """The guest rings its port."""
        for owner, handler in list(self.handlers.values()):
            if owner == domid:
                handler()


class Loop:
    """The gate to the outside: looks at descriptors when told to."""

    def __init__(self) -> None:
        self.sources: dict[Source, tuple[Callable[[], None] | None, Callable[[], None] | None]] = {}

    def watch(
        self,
        source: Source,
        *,
        on_readable: Callable[[], None] | None = None,
        on_writable: Callable[[], None] | None = None,
    ) -> None:
        self.sources[source] = on_readable, on_writable

    def forget(self, source: Source) -> None:
        self.sources.pop(source, None)

    def turn(self, timeout: float = 0) -> None:
        """Call what is ready."""
        reads = [source for source, (readable, _) in self.sources.items() if readable]
        writes = [source for source, (_, writable) in self.sources.items() if writable]
        readable, writable, _ = select.select(reads, writes, [], timeout)
        for number, ready in enumerate((readable, writable)):
            for source in ready:
                callback = self.sources.get(source, (None, None))[number]
                if callback is not None:
                    callback()


class XenstoreStage:
    """A store, with two programs on its socket."""

    def __init__(self, path: Path, quotas: Quotas | None = None) -> None:
        self.privcmd = Domains()
        self.outside = Loop()
        self.path = path
        self.service = XenstoreService(
            self.privcmd, domain_exists=lambda domid: domid in (0, *DOMAINS), quotas=quotas
        )
        self.server = self.service.listen(self.outside, path)
        self.clients = {name: self.program() for name in SOCKETS}

    def program(self) -> Client:
        """Another program on the socket."""
        return Client(SocketPipe(str(self.path)), self.outside.turn)

    def introduced(self, name: str) -> None:
        domid = int(name[1:])
        pipe = RingPipe(memoryview(self.privcmd.pages[domid]), lambda: self.privcmd.kick(domid))
        self.clients[name] = Client(pipe, lambda: None)

    def introduce(self, domid: int) -> Client:
        """A guest that has been introduced."""
        self.service.introduce(domid, FRAME + domid, PORT)
        self.introduced(f"d{domid}")
        return self.clients[f"d{domid}"]

    def close(self) -> None:
        for client in self.clients.values():
            if isinstance(client.pipe, SocketPipe):
                client.pipe.socket.close()
        self.service.close()
