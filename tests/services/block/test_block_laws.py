"""Laws of block devices: a disk behaves as an array of sectors; no front end breaks anything but itself."""

import struct
import tempfile
from pathlib import Path

from block_front import (
    BARRIER,
    DISCARD,
    ERROR,
    FLUSH,
    INDIRECT,
    OKAY,
    READ,
    WRITE,
    BlockFront,
    World,
    segment_bytes,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pvemu.services.block.disk import DiskSpec, open_image

SECTORS = 40
DATA_PAGES = range(50, 54)
FENCE = b"\xf5" * 4096

sectors = st.one_of(st.integers(0, SECTORS + 2), st.sampled_from([(1 << 64) - 1, 1 << 55, 1 << 63]))
references = st.one_of(st.sampled_from(DATA_PAGES), st.sampled_from([8, 404]))
segments = st.tuples(references, st.integers(0, 9), st.integers(0, 9))


class DiskAsArray(RuleBasedStateMachine):
    """Requests, good and bad, against a bytearray; the image lies between two fences in its directory."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "disk"

    @initialize(
        abi=st.sampled_from(["x86_32-abi", "x86_64-abi"]),
        overlay=st.booleans(),
        persistent=st.booleans(),
        order=st.sampled_from([None, 0, 1]),
        content=st.integers(0, 255),
    )
    def connect(self, abi: str, overlay: bool, persistent: bool, order: int | None, content: int) -> None:
        self.model = bytearray(bytes([content, 255 - content]) * (256 * SECTORS))
        self.path.write_bytes(self.model)
        self.overlay, self.order, self.persistent = overlay, order, persistent
        self.image = open_image(DiskSpec(str(self.path), "xvda", overlay=overlay))
        self.world = World()
        self.world.attach(self.path, image=self.image)
        self._connect(abi)

    def _connect(self, abi: str) -> None:
        features = {"feature-persistent": int(self.persistent)}
        self.front = BlockFront(self.world, abi=abi, order=self.order, begin=0xFFFFFFFE, **features)
        self.pages = {reference: self.front.page(reference) for reference in DATA_PAGES}
        self.table = self.front.page(40)

    @rule(reference=st.sampled_from(DATA_PAGES), content=st.binary(min_size=1, max_size=16))
    def fill(self, reference: int, content: bytes) -> None:
        self.pages[reference][:] = (content * 4096)[:4096]

    @rule(sector=sectors, wanted=st.lists(segments, min_size=0, max_size=12), indirect=st.booleans())
    def read(self, sector: int, wanted: list[tuple[int, int, int]], indirect: bool) -> None:
        self._avoid_the_ring(wanted)
        expected = {reference: bytearray(page) for reference, page in self.pages.items()}
        good = self._is_good(sector, wanted, indirect)
        position = sector * 512
        for reference, first, last in wanted if good else []:
            if reference not in self.pages:
                good = False
                break
            size = (last - first + 1) * 512
            expected[reference][first * 512 : first * 512 + size] = self.model[position : position + size]
            position += size
        assert self._do(READ, sector, wanted, indirect) == (OKAY if good else ERROR)
        assert self.pages == expected

    @rule(
        operation=st.sampled_from([WRITE, BARRIER]),
        sector=sectors,
        wanted=st.lists(segments, min_size=1, max_size=12),
        indirect=st.booleans(),
    )
    def write(self, operation: int, sector: int, wanted: list[tuple[int, int, int]], indirect: bool) -> None:
        self._avoid_the_ring(wanted)
        granted = all(reference in self.pages for reference, _, _ in wanted)
        allowed = operation == WRITE or not indirect
        good = allowed and granted and self._is_good(sector, wanted, indirect)
        status = self._do(operation, sector, wanted, indirect)
        assert status == (OKAY if good else ERROR)
        if good:
            data = b"".join(
                self.pages[reference][first * 512 : (last + 1) * 512] for reference, first, last in wanted
            )
            self.model[sector * 512 : sector * 512 + len(data)] = data

    @rule(sector=st.integers(0, SECTORS + 2), count=st.integers(0, SECTORS))
    def discard(self, sector: int, count: int) -> None:
        status = self.front.status_of(self.front.put_discard(sector, count))
        if count and sector + count > SECTORS:
            assert status == ERROR
        elif self.image.discards:
            assert status == OKAY
            self.model[sector * 512 : (sector + count) * 512] = bytes(count * 512)

    @rule()
    def flush(self) -> None:
        assert self.front.do(FLUSH, 0) == OKAY

    @rule(abi=st.sampled_from(["x86_32-abi", "x86_64-abi"]), polite=st.booleans())
    def reboot(self, abi: str, polite: bool) -> None:
        if polite:
            self.world.front({"state": 6})
        self.world.front({"state": 1})
        assert self.world.privcmd.is_idle()
        self._connect(abi)

    @invariant()
    def the_disk_is_the_model(self) -> None:
        if hasattr(self, "image"):
            assert self.image.read(0, SECTORS * 512) == self.model

    def teardown(self) -> None:
        if hasattr(self, "image"):
            original = self.path.read_bytes()
            assert len(original) == SECTORS * 512
            if not self.overlay:
                assert original == self.model
            self.world.backend.detach_all(1)
            assert self.world.privcmd.is_idle()
            self.image.close()
        self.directory.cleanup()

    def _avoid_the_ring(self, wanted: list[tuple[int, int, int]]) -> None:
        """The ring's page is granted, too; what becomes of that is asked elsewhere."""
        wanted[:] = [(404 if reference == 8 else reference, a, b) for reference, a, b in wanted]

    def _is_good(self, sector: int, wanted: list[tuple[int, int, int]], indirect: bool) -> bool:
        most = 256 if indirect else 11
        shaped = all(first <= last < 8 for _, first, last in wanted)
        length = sum(last - first + 1 for _, first, last in wanted)
        return shaped and 0 < len(wanted) <= most and sector + length <= SECTORS

    def _do(self, operation: int, sector: int, wanted: list[tuple[int, int, int]], indirect: bool) -> int:
        if not indirect:
            return self.front.do(operation, sector, wanted)
        self.table[: len(wanted) * 8] = segment_bytes(wanted)
        return self.front.status_of(self.front.put_indirect(operation, sector, len(wanted), [40]))


noise = st.one_of(
    st.binary(min_size=108, max_size=108),
    st.builds(
        lambda operation, count, sector, pieces: (
            struct.pack("<BBHQQ", operation, count, 0, 7, sector) + segment_bytes(pieces)
        ),
        st.sampled_from([READ, WRITE, BARRIER, FLUSH, DISCARD, INDIRECT, 4, 200]),
        st.integers(0, 255),
        sectors,
        st.lists(segments, max_size=10),
    ),
)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("request"), noise),
            st.tuples(st.just("counter"), st.integers(0, 3), st.integers(0, 0xFFFFFFFF)),
            st.tuples(st.just("jump"), st.integers(-40, 40)),
            st.tuples(st.just("state"), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, "x", ""])),
            st.tuples(st.just("key"), st.sampled_from(["ring-ref", "event-channel"]), st.integers(0, 9)),
            st.tuples(st.just("bell")),
        ),
        max_size=30,
    ),
    persistent=st.booleans(),
    writable=st.booleans(),
)
def test_a_hostile_front_end_harms_only_itself(
    steps: list[tuple[object, ...]], persistent: bool, writable: bool
) -> None:
    """Any bytes on the ring, any counters, any keys: no exception, nothing kept, the image keeps its size."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "disk"
        path.write_bytes(FENCE * 5)
        world = World()
        world.attach(path, writable=writable)
        front = BlockFront(world, **{"feature-persistent": int(persistent)})
        for reference in DATA_PAGES:
            front.page(reference)
        for step in steps:
            match step:
                case ("request", bytes(slot)):
                    front.ring.put(slot)
                    front.ring.push()
                case ("counter", int(index), int(value)):
                    front.ring.set_word(index, value)
                case ("jump", int(by)):
                    front.ring.set_word(0, (front.ring.word(0) + by) & 0xFFFFFFFF)
                case ("state", state):
                    world.front({"state": state})
                case ("key", str(name), int(value)):
                    world.front({name: value})
                case _:
                    world.privcmd.ring_bell(1, front.port)
        world.privcmd.ring_bell(1, front.port)
        assert world.state() in {"2", "4", "5", "6"}
        assert path.stat().st_size == len(FENCE) * 5
        if not writable:
            assert path.read_bytes() == FENCE * 5
        if world.state() != "4":
            assert world.privcmd.is_idle()
        world.front({"state": 6})
        assert world.privcmd.is_idle()


TestDiskAsArray = DiskAsArray.TestCase
