"""What requests do to a disk, and what bad ones do not."""

from pathlib import Path

import pytest
from block_front import (
    BACK,
    BARRIER,
    DISCARD,
    ERROR,
    FLUSH,
    OKAY,
    READ,
    UNSUPPORTED,
    WRITE,
    BlockFront,
    World,
    segment_bytes,
)

SECTORS = 64


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([sector]) * 512 for sector in range(SECTORS)))
    return path


def connect(disk: Path, *, abi: str = "x86_32-abi", **options: bool) -> BlockFront:
    world = World()
    world.attach(disk, **options)
    return BlockFront(world, abi=abi)


@pytest.fixture(params=["x86_32-abi", "x86_64-abi"])
def front(disk: Path, request: pytest.FixtureRequest) -> BlockFront:
    return connect(disk, abi=request.param)


def test_segments_take_consecutive_sectors_of_the_disk(front: BlockFront) -> None:
    one, two = front.page(50), front.page(51)
    assert front.do(READ, 10, [(50, 6, 7), (51, 0, 0), (50, 0, 0)]) == OKAY
    assert [one[0], one[512], one[6 * 512], one[7 * 512], two[0]] == [13, 0, 10, 11, 12]
    assert two[512:] == bytes(4096 - 512)


def test_a_write_changes_its_sectors_and_no_others(front: BlockFront, disk: Path) -> None:
    before = disk.read_bytes()
    front.page(50)[:] = b"\xee" * 4096
    assert front.do(WRITE, 5, [(50, 1, 2)]) == OKAY
    assert disk.read_bytes() == before[: 5 * 512] + b"\xee" * 1024 + before[7 * 512 :]


def test_a_write_whose_page_is_not_granted_leaves_the_disk_as_it_was(front: BlockFront, disk: Path) -> None:
    before = disk.read_bytes()
    front.page(50)[:] = b"\xee" * 4096
    assert front.do(WRITE, 0, [(50, 0, 7), (404, 0, 7)]) == ERROR
    assert disk.read_bytes() == before


def test_a_page_granted_for_reading_takes_no_data(front: BlockFront) -> None:
    page = front.page(50, writable=False)
    assert front.do(READ, 1, [(50, 0, 0)]) == ERROR
    assert page == bytes(4096)
    assert front.do(WRITE, 1, [(50, 0, 0)]) == OKAY


@pytest.mark.parametrize(
    ("sector", "segments", "count"),
    [
        (SECTORS, [(50, 0, 0)], None),
        (SECTORS - 1, [(50, 0, 1)], None),
        ((1 << 64) - 1, [(50, 0, 0)], None),
        (1 << 55, [(50, 0, 0)], None),
        (0, [(50, 3, 2)], None),
        (0, [(50, 0, 8)], None),
        (0, [(50, 255, 255)], None),
        (0, [], None),
        (0, [(50, 0, 0)] * 11, 12),
        (0, [(50, 0, 0)] * 11, 255),
    ],
)
@pytest.mark.parametrize("operation", [READ, WRITE, BARRIER])
def test_a_request_that_can_not_be_is_answered_with_an_error(
    front: BlockFront,
    disk: Path,
    operation: int,
    sector: int,
    segments: list[tuple[int, int, int]],
    count: int | None,
) -> None:
    before = disk.read_bytes()
    page = front.page(50)
    page[:] = b"\xee" * 4096
    expected = OKAY if operation == BARRIER and not segments else ERROR
    assert front.do(operation, sector, segments, count) == expected
    assert disk.read_bytes() == before
    assert page == b"\xee" * 4096
    assert front.do(READ, 0, [(50, 0, 0)]) == OKAY


@pytest.mark.parametrize("operation", [4, 7, 100, 255])
def test_an_unknown_operation_is_said_to_be_not_supported(front: BlockFront, operation: int) -> None:
    assert front.do(operation, 0) == UNSUPPORTED


def test_answers_carry_the_id_and_the_operation(front: BlockFront) -> None:
    front.page(50)
    asked = [(front.put(READ, 0, [(50, 0, 0)]), READ), (front.put(200, 0), 200)]
    assert [(number, operation) for number, operation, _ in front.kick()] == asked


def test_a_read_only_disk_is_not_written(disk: Path) -> None:
    before = disk.read_bytes()
    front = connect(disk, writable=False)
    front.page(50)[:] = b"\xee" * 4096
    assert front.world.store.text(f"{BACK}/info") == "4"
    assert front.world.store.text(f"{BACK}/mode") == "r"
    assert front.do(WRITE, 0, [(50, 0, 0)]) == ERROR
    assert front.do(BARRIER, 0, [(50, 0, 0)]) == ERROR
    assert front.status_of(front.put_discard(0, 8)) == ERROR
    assert front.do(READ, 0, [(50, 0, 0)]) == OKAY
    assert disk.read_bytes() == before


def test_a_cd_says_that_it_is_one(disk: Path) -> None:
    front = connect(disk, writable=False, cdrom=True)
    assert front.world.store.text(f"{BACK}/info") == "7"
    assert front.world.store.text(f"{BACK}/device-type") == "cdrom"


def test_indirect_segments_are_read_from_their_pages(front: BlockFront, disk: Path) -> None:
    table = front.page(40)
    for index in range(16):
        front.page(50 + index)
    pages = [(50 + index, 2, 3) for index in range(16)]
    table[: 16 * 8] = segment_bytes(pages)
    assert front.status_of(front.put_indirect(READ, 8, 16, [40])) == OKAY
    seen = [front.world.guest.grants[50 + index].page for index in range(16)]
    assert [(page[0], page[1024], page[1536]) for page in seen] == [
        (0, 8 + index * 2, 9 + index * 2) for index in range(16)
    ]
    for page in seen:
        page[1024:1536] = b"\xaa" * 512
    assert front.status_of(front.put_indirect(WRITE, 8, 16, [40])) == OKAY
    assert disk.read_bytes()[8 * 512 : 9 * 512] == b"\xaa" * 512


@pytest.mark.parametrize("abi", ["x86_32-abi", "x86_64-abi"])
@pytest.mark.parametrize(("operation", "count"), [(READ, 1), (WRITE, 1), (WRITE, 0), (200, 1)])
def test_the_answer_to_an_indirect_request_names_the_operation_in_it(
    disk: Path, abi: str, operation: int, count: int
) -> None:
    front = connect(disk, abi=abi)
    front.page(50)
    front.page(40)[:8] = segment_bytes([(50, 0, 0)])
    number = front.put_indirect(operation, 0, count, [40])
    ((answered, named, _),) = front.kick()
    assert (answered, named) == (number, operation)


@pytest.mark.parametrize(
    ("operation", "count", "pages"),
    [
        (READ, 0, [40]),
        (READ, 257, [40]),
        (WRITE, 0xFFFF, [40] * 8),
        (READ, 12, [404]),
        (BARRIER, 12, [40]),
        (FLUSH, 12, [40]),
        (DISCARD, 12, [40]),
        (6, 12, [40]),
        (255, 12, [40]),
    ],
)
def test_an_indirect_request_that_can_not_be_is_an_error(
    front: BlockFront, disk: Path, operation: int, count: int, pages: list[int]
) -> None:
    before = disk.read_bytes()
    front.page(50)
    front.page(40)[: 12 * 8] = segment_bytes([(50, 0, 0)] * 12)
    assert front.status_of(front.put_indirect(operation, 0, count, pages)) == ERROR
    assert disk.read_bytes() == before


def test_discarded_sectors_read_as_zeros(front: BlockFront, disk: Path) -> None:
    if front.world.store.text(f"{BACK}/feature-discard") != "1":
        pytest.skip("the file system of the temporary directory has no holes")
    before = disk.read_bytes()
    assert front.status_of(front.put_discard(3, 20, flag=1)) == OKAY
    assert disk.read_bytes() == before[: 3 * 512] + bytes(20 * 512) + before[23 * 512 :]
    assert front.status_of(front.put_discard(60, 5)) == ERROR
    assert front.status_of(front.put_discard((1 << 64) - 1, (1 << 64) - 1)) == ERROR
    assert front.status_of(front.put_discard(7, 0)) == OKAY
    assert len(disk.read_bytes()) == SECTORS * 512


def test_a_disk_that_does_not_discard_says_so(disk: Path) -> None:
    before = disk.read_bytes()
    front = connect(disk, discard=False)
    assert front.status_of(front.put_discard(0, 8)) == UNSUPPORTED
    assert disk.read_bytes() == before


def test_an_overlay_keeps_the_changes_and_leaves_the_image(disk: Path) -> None:
    before = disk.read_bytes()
    front = connect(disk, overlay=True)
    page = front.page(50)
    page[:] = b"\xee" * 4096
    assert front.do(WRITE, 9, [(50, 0, 0)]) == OKAY
    assert front.do(FLUSH, 0) == OKAY
    assert front.do(READ, 8, [(50, 0, 3)]) == OKAY
    assert [page[0], page[512], page[1024]] == [8, 0xEE, 10]
    assert disk.read_bytes() == before


def test_a_request_may_name_the_ring_itself_and_only_its_own_guest_suffers(front: BlockFront) -> None:
    """The data of the first request become the ring's counters: all that follows is up to the guest."""
    assert front.do(READ, 63, [(8, 0, 0)]) == OKAY or front.world.state() == "5"
    front.kick()
    assert front.world.state() == "5"
    assert len(front.world.privcmd.channels) == 0


def test_a_producer_that_runs_ahead_ends_the_connection(front: BlockFront) -> None:
    front.ring.set_word(0, front.ring.size + 1)
    front.world.privcmd.ring_bell(1, front.port)
    assert front.world.state() == "5"
    assert front.world.privcmd.is_idle()
    assert [front.ring.word(2), front.ring.responses()] == [0, []]


def test_a_full_ring_is_answered_whole(front: BlockFront) -> None:
    front.page(50)
    asked = [front.put(READ, 0, [(50, 0, 0)]) for _ in range(front.ring.size)]
    assert [number for number, _, _ in front.kick()] == asked


def test_the_front_end_is_notified_only_when_it_asks(front: BlockFront) -> None:
    front.page(50)
    front.do(READ, 0, [(50, 0, 0)])
    rung = front.world.guest.rung[front.port]
    front.ring.set_word(3, front.ring.rsp_cons + 3)
    for expected in (0, 0, 1):
        front.put(READ, 0, [(50, 0, 0)])
        assert front.ring.push()
        front.world.privcmd.ring_bell(1, front.port)
        assert front.world.guest.rung[front.port] - rung == expected
