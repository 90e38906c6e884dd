"""A front end of blkif in Python, and a back end to try it with."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from split_devices import GUEST, FakePrivcmd, FrontRing, Store

from pvemu.services.block.backend import BlockBackend
from pvemu.services.block.disk import DiskSpec
from pvemu.services.block.image import Image

XVDA = 51712
READ, WRITE, BARRIER, FLUSH, DISCARD, INDIRECT = 0, 1, 2, 3, 5, 6
OKAY, ERROR, UNSUPPORTED = 0, -1, -2
FRONT = f"/local/domain/{GUEST}/device/vbd/{XVDA}"
BACK = f"/local/domain/0/backend/vbd/{GUEST}/{XVDA}"
ERROR_NODE = f"/local/domain/0/error/backend/vbd/{GUEST}/{XVDA}/error"
# As a C compiler lays blkif_request out for the two: the id is on 4 bytes in one, on 8 in the other.
PREFIX = {"x86_32-abi": "<BBHQQ", "x86_64-abi": "<BBH4xQQ"}
INDIRECT_PREFIX = {"x86_32-abi": "<BBHQQH2x", "x86_64-abi": "<BBH4xQQH2x"}
DISCARD_FORMAT = {"x86_32-abi": "<BBHQQQ", "x86_64-abi": "<BBH4xQQQ"}
RESPONSE = {"x86_32-abi": "<QBxh", "x86_64-abi": "<QBxh4x"}
SLOT = {"x86_32-abi": 108, "x86_64-abi": 112}

Segment = tuple[int, int, int]


def segment_bytes(segments: Iterable[Segment]) -> bytes:
    return b"".join(struct.pack("<IBBxx", *each) for each in segments)


class World:
    """A guest with a disk of its own, up to its front end's connection."""

    def __init__(self) -> None:
        self.privcmd = FakePrivcmd()
        self.store = Store(self.privcmd)
        self.warnings: list[str] = []
        self.backend = BlockBackend(self.privcmd, self.store.client, warn=self.warnings.append)
        self.guest = self.privcmd.guests[GUEST]

    def attach(self, path: Path, *, word: int = 4, image: Image | None = None, **options: bool) -> None:
        spec = DiskSpec(str(path), "xvda", **options)
        self.backend.attach(GUEST, XVDA, spec, word=word, image=image)
        self.store.pump()

    def front(self, keys: Mapping[str, object]) -> None:
        """The guest writes keys into its directory, the state last."""
        self.store.set(FRONT, keys)

    def state(self) -> str | None:
        return self.store.text(f"{BACK}/state")


class BlockFront:
    """A guest's driver: its ring, its data pages, and requests by number."""

    def __init__(
        self,
        world: World,
        *,
        abi: str = "x86_32-abi",
        order: int | None = None,
        publish_abi: bool = True,
        state: int = 3,
        begin: int = 0,
        **keys: object,
    ) -> None:
        self.world = world
        self.abi = abi
        self.port = world.guest.offer(9)
        count = 1 << (order or 0)
        self.ring_pages = [world.guest.grant(8 + index) for index in range(count)]
        self.ring = FrontRing(self.ring_pages, SLOT[abi])
        self.ring.start(begin)
        references = {"ring-ref": 8} if order is None else {f"ring-ref{i}": 8 + i for i in range(count)}
        if order is not None:
            references["ring-page-order"] = order
        self._next_id = 0x1122_3344_5566_0000
        world.front(
            {
                **references,
                "event-channel": self.port,
                **({"protocol": abi} if publish_abi else {}),
                **keys,
                "state": state,
            }
        )

    def page(self, reference: int, *, writable: bool = True) -> bytearray:
        return self.world.guest.grant(reference, writable=writable)

    def put(
        self, operation: int, sector: int, segments: Sequence[Segment] = (), count: int | None = None
    ) -> int:
        self._next_id += 1
        count = len(segments) if count is None else count
        head = struct.pack(PREFIX[self.abi], operation, count, 0, self._next_id, sector)
        self.ring.put(head + segment_bytes(segments[:11]))
        return self._next_id

    def put_indirect(self, operation: int, sector: int, count: int, pages: Sequence[int]) -> int:
        self._next_id += 1
        head = struct.pack(INDIRECT_PREFIX[self.abi], INDIRECT, operation, count, self._next_id, sector, 0)
        self.ring.put(head + struct.pack(f"<{len(pages)}I", *pages))
        return self._next_id

    def put_discard(self, sector: int, count: int, flag: int = 0) -> int:
        self._next_id += 1
        form = DISCARD_FORMAT[self.abi]
        self.ring.put(struct.pack(form, DISCARD, flag, 0, self._next_id, sector, count))
        return self._next_id

    def kick(self) -> list[tuple[int, int, int]]:
        """Push, notify if that was asked for, and take the responses: id, operation, status."""
        if self.ring.push():
            self.world.privcmd.ring_bell(GUEST, self.port)
        size = struct.calcsize(RESPONSE[self.abi])
        return [struct.unpack(RESPONSE[self.abi], each[:size]) for each in self.ring.responses()]

    def do(
        self, operation: int, sector: int, segments: Sequence[Segment] = (), count: int | None = None
    ) -> int:
        """One request to its end; its status."""
        number = self.put(operation, sector, segments, count)
        return self.status_of(number)

    def status_of(self, number: int) -> int:
        ((answered, _, status),) = self.kick()
        assert answered == number
        return status
