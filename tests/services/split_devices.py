"""Stand-ins for what back ends act through: a xenstore, domain 0's handle, and the front half of a ring."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused, HypercallError
from pvemu.services.xenstore.service import XenstoreService

PAGE = 4096
GNTST_BAD_GNTREF = -3
GUEST = 1


class Store:
    """The xenstore service, and what happens in it, as domain 0 sees it."""

    def __init__(self, privcmd: "FakePrivcmd") -> None:
        self._service = XenstoreService(privcmd)
        self.client = self._service.local()

    def text(self, path: str) -> str | None:
        value = self.client.find(path)
        return None if value is None else value.decode()

    def texts(self, directory: str) -> dict[str, str | None]:
        """The values of all nodes in a directory by their names."""
        return {name: self.text(f"{directory}/{name}") for name in self.client.list(directory)}

    def set(self, directory: str, keys: Mapping[str, object]) -> None:
        """Write keys into a directory, the state last; then let watches fire."""
        for name, value in sorted(keys.items(), key=lambda item: item[0] == "state"):
            self.client.write(f"{directory}/{name}", str(value))
        self.pump()

    def rm(self, path: str) -> None:
        if self.client.find(path) is not None:
            self.client.rm(path)

    def nodes(self, path: str = "") -> list[str]:
        """Every node's path."""
        below = [f"{path}/{name}" for name in self.client.list(path or "/")]
        return below + [node for each in below for node in self.nodes(each)]

    def pump(self) -> None:
        self._service.pump()


@dataclass
class Grant:
    page: bytearray
    writable: bool = True


@dataclass
class Channel:
    remote_port: int
    handler: Callable[[], None]


@dataclass
class GuestDomain:
    """What one guest shows: its granted pages, the ports it offers, and how often each was rung."""

    grants: dict[int, Grant] = field(default_factory=dict)
    offered: set[int] = field(default_factory=set)
    rung: dict[int, int] = field(default_factory=dict)

    def grant(self, reference: int, *, writable: bool = True) -> bytearray:
        page = bytearray(PAGE)
        self.grants[reference] = Grant(page, writable)
        return page

    def offer(self, port: int) -> int:
        self.offered.add(port)
        return port


class FakePrivcmd:
    """Domain 0's handle, over guests that are Python objects; it keeps count of all that is taken."""

    def __init__(self, *domids: int) -> None:
        self.guests = {domid: GuestDomain() for domid in domids or (GUEST,)}
        self.mapped: dict[int, tuple[int, int]] = {}
        self.channels: dict[int, tuple[int, Channel]] = {}
        self._handles = 0
        self._ports = 0

    def map_foreign(self, domid: int, mfn: int) -> memoryview:
        raise AssertionError("back ends map by grants only")

    def bind_interdomain(self, domid: int, port: int, handler: Callable[[], None]) -> int:
        guest = self.guests[domid]
        if port not in guest.offered:
            raise HypercallError(Errno.EINVAL)
        guest.offered.discard(port)
        self._ports += 1
        self.channels[self._ports] = domid, Channel(port, handler)
        return self._ports

    def notify(self, port: int) -> None:
        if port in self.channels:
            domid, channel = self.channels[port]
            rung = self.guests[domid].rung
            rung[channel.remote_port] = rung.get(channel.remote_port, 0) + 1

    def close_port(self, port: int) -> None:
        bound = self.channels.pop(port, None)
        if bound is not None:
            self.guests[bound[0]].offered.add(bound[1].remote_port)

    def map_grant(self, domid: int, reference: int, *, writable: bool) -> tuple[int, memoryview]:
        page = self._page(domid, reference, writable=writable)
        self._handles += 1
        self.mapped[self._handles] = domid, reference
        return self._handles, memoryview(page)

    def unmap_grant(self, handle: int) -> None:
        del self.mapped[handle]

    def copy_from_grant(self, domid: int, reference: int, offset: int, size: int) -> bytes:
        page = self._page(domid, reference, writable=False)
        assert offset >= 0 and offset + size <= PAGE, "a copy must stay in its page"
        return bytes(page[offset : offset + size])

    def copy_to_grant(self, domid: int, reference: int, offset: int, data: bytes) -> None:
        page = self._page(domid, reference, writable=True)
        assert offset >= 0 and offset + len(data) <= PAGE, "a copy must stay in its page"
        page[offset : offset + len(data)] = data

    def ring_bell(self, domid: int, port: int) -> None:
        """The guest notifies one of its ports."""
        for owner, channel in list(self.channels.values()):
            if owner == domid and channel.remote_port == port:
                channel.handler()

    def is_idle(self) -> bool:
        return not self.mapped and not self.channels

    def _page(self, domid: int, reference: int, *, writable: bool) -> bytearray:
        grant = self.guests[domid].grants.get(reference)
        if grant is None or (writable and not grant.writable):
            raise GrantRefused(GNTST_BAD_GNTREF)
        return grant.page


class FrontRing:
    """The front half of a ring, by the words of io/ring.h: counters in 16 bytes, slots from 64 on."""

    def __init__(self, pages: Sequence[bytearray], slot_size: int) -> None:
        self.pages = pages
        self.slot_size = slot_size
        self.size = 1
        while self.size * 2 * slot_size <= len(pages) * PAGE - 64:
            self.size *= 2
        self.req_prod = self.rsp_cons = 0
        self.start(0)

    def start(self, counter: int) -> None:
        """Begin at any counter, as if so many requests had been answered before."""
        self.req_prod = self.rsp_cons = counter
        following = (counter + 1) & 0xFFFFFFFF
        struct.pack_into("<4I", self.pages[0], 0, counter, following, counter, following)

    def put(self, slot: bytes) -> None:
        assert len(slot) <= self.slot_size
        for index, byte in enumerate(slot, 64 + self.req_prod % self.size * self.slot_size):
            self.pages[index // PAGE][index % PAGE] = byte
        self.req_prod = (self.req_prod + 1) & 0xFFFFFFFF

    def push(self) -> bool:
        """Publish the requests; whether the back end asked to be told."""
        old = self.word(0)
        self.set_word(0, self.req_prod)
        return (self.req_prod - self.word(1)) & 0xFFFFFFFF < (self.req_prod - old) & 0xFFFFFFFF

    def responses(self) -> list[bytes]:
        """Take the responses that are there, and ask to be told of the next one."""
        found = []
        while self.rsp_cons != self.word(2):
            at = 64 + self.rsp_cons % self.size * self.slot_size
            found.append(
                bytes(self.pages[index // PAGE][index % PAGE] for index in range(at, at + self.slot_size))
            )
            self.rsp_cons = (self.rsp_cons + 1) & 0xFFFFFFFF
        self.set_word(3, (self.rsp_cons + 1) & 0xFFFFFFFF)
        return found

    def word(self, index: int) -> int:
        """0 req_prod, 1 req_event, 2 rsp_prod, 3 rsp_event."""
        value: int = struct.unpack_from("<I", self.pages[0], index * 4)[0]
        return value

    def set_word(self, index: int, value: int) -> None:
        struct.pack_into("<I", self.pages[0], index * 4, value)
