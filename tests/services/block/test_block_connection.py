"""A disk's life: the keys in xenstore, both ends' states, connection, loss and return of the front end."""

import struct
from pathlib import Path

import pytest
from block_front import (
    BACK,
    ERROR_NODE,
    FRONT,
    OKAY,
    READ,
    XVDA,
    BlockFront,
    World,
)
from split_devices import GUEST

from pvemu.abi.errors import PvemuError
from pvemu.services.block.disk import DiskSpec
from pvemu.services.block.vdev import vdev_number


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * 512)
    return path


@pytest.fixture
def world(disk: Path) -> World:
    world = World()
    world.attach(disk)
    return world


def reads_its_first_sector(front: BlockFront) -> bool:
    page = front.page(70)
    return front.do(READ, 0, [(70, 0, 0)]) == OKAY and page[:512] == bytes(range(256)) * 2


def test_the_keys_of_a_new_disk_are_those_that_libxl_writes(world: World, disk: Path) -> None:
    assert world.store.texts(FRONT) == {
        "backend": BACK,
        "backend-id": "0",
        "state": "1",
        "virtual-device": str(XVDA),
        "device-type": "disk",
        "trusted": "1",
        "protocol": "x86_32-abi",
    }
    back = {
        "frontend": FRONT,
        "frontend-id": str(GUEST),
        "online": "1",
        "removable": "0",
        "bootable": "1",
        "dev": "xvda",
        "type": "phy",
        "mode": "w",
        "device-type": "disk",
        "discard-enable": "1",
        "specification": "xen",
        "params": str(disk),
        "physical-device-path": str(disk),
    }
    assert world.store.texts(BACK).items() >= back.items()
    assert world.store.text(f"/libxl/{GUEST}/device/vbd/{XVDA}/backend") == BACK
    assert world.store.client.permissions(FRONT) == (f"n{GUEST}", "r0")
    assert world.store.client.permissions(f"{FRONT}/state") == (f"n{GUEST}", "r0")
    assert world.store.client.permissions(BACK) == ("n0", f"r{GUEST}")
    assert world.store.client.permissions(f"{BACK}/state") == ("n0", f"r{GUEST}")


def test_the_features_are_there_before_a_front_end_looks(world: World) -> None:
    features = {
        "feature-barrier": "1",
        "feature-flush-cache": "1",
        "feature-persistent": "1",
        "feature-max-indirect-segments": "256",
        "max-ring-page-order": "4",
    }
    assert world.state() == "2"
    assert world.store.texts(BACK).items() >= features.items()


def test_discards_are_offered_with_their_granularity_or_not_at_all(disk: Path) -> None:
    world = World()
    world.attach(disk, discard=False)
    assert world.store.text(f"{BACK}/feature-discard") == "0"
    assert world.store.text(f"{BACK}/discard-granularity") is None


@pytest.mark.parametrize("state", [3, 4], ids=["Initialised", "Connected"])
@pytest.mark.parametrize("abi", ["x86_32-abi", "x86_64-abi"])
def test_a_front_end_that_is_ready_finds_us_connected(world: World, state: int, abi: str) -> None:
    front = BlockFront(world, state=state, abi=abi)
    assert world.state() == "4"
    properties = {"sectors": "256", "sector-size": "512", "info": "0"}
    assert world.store.texts(BACK).items() >= properties.items()
    assert reads_its_first_sector(front)


@pytest.mark.parametrize(("word", "abi"), [(4, "x86_32-abi"), (8, "x86_64-abi")])
def test_without_a_protocol_the_ring_has_the_guests_own_layout(disk: Path, word: int, abi: str) -> None:
    world = World()
    world.attach(disk, word=word)
    world.store.rm(f"{FRONT}/protocol")
    assert reads_its_first_sector(BlockFront(world, abi=abi, publish_abi=False))


@pytest.mark.parametrize("order", [0, 1, 4])
def test_rings_of_several_pages_are_served_past_their_end(world: World, order: int) -> None:
    front = BlockFront(world, order=order, begin=0xFFFFFFF0)
    page = front.page(70)
    for _ in range(front.ring.size // 16 + 1):
        for sector in range(16):
            front.put(READ, sector * 2, [(70, 0, 0)])
        assert [status for _, _, status in front.kick()] == [OKAY] * 16
    assert page[:512] == bytes(range(256)) * 2


def test_a_ring_of_one_page_may_have_either_name(world: World) -> None:
    world.front({"ring-page-order": 0})
    assert reads_its_first_sector(BlockFront(world))


def test_what_is_on_the_ring_before_we_connect_is_answered(world: World) -> None:
    world.guest.offer(9)
    page, data = world.guest.grant(8), world.guest.grant(70)
    struct.pack_into("<4I", page, 0, 1, 1, 0, 1)
    struct.pack_into("<BBHQQIBB", page, 64, READ, 1, 0, 77, 0, 70, 0, 0)
    world.front({"ring-ref": 8, "event-channel": 9, "state": 4})
    assert struct.unpack_from("<QBxh", page, 64) == (77, READ, OKAY)
    assert data[:512] == bytes(range(256)) * 2
    assert world.guest.rung[9] == 1


def test_a_front_end_that_leaves_and_returns_is_served_again(world: World) -> None:
    BlockFront(world, **{"feature-persistent": 1}).page(60)
    for state, ours in ((5, "5"), (6, "6"), (1, "2")):
        world.front({"state": state})
        assert world.state() == ours
        assert world.privcmd.is_idle()
    assert reads_its_first_sector(BlockFront(world, abi="x86_64-abi"))


@pytest.mark.parametrize("crashed", [False, True], ids=["rebooted", "crashed"])
def test_nothing_of_the_guests_is_kept_after_it(world: World, crashed: bool) -> None:
    front = BlockFront(world, **{"feature-persistent": 1})
    front.page(70)
    front.do(READ, 0, [(70, 0, 7)])
    assert len(world.privcmd.mapped) == 2
    world.front({"state": 1 if crashed else 6})
    assert world.privcmd.is_idle()
    assert world.state() == ("2" if crashed else "6")


def test_persistent_pages_are_mapped_once_and_only_when_both_want_it(world: World) -> None:
    front = BlockFront(world, **{"feature-persistent": 1})
    front.page(70)
    for _ in range(3):
        assert front.do(READ, 0, [(70, 0, 7)]) == OKAY
    assert sorted(reference for _, reference in world.privcmd.mapped.values()) == [8, 70]
    world.front({"state": 6})
    world.front({"state": 1})
    plain = BlockFront(world, **{"feature-persistent": 0})
    assert plain.do(READ, 0, [(70, 0, 7)]) == OKAY
    assert [reference for _, reference in world.privcmd.mapped.values()] == [8]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"ring-ref": "none"}, "ring-ref"),
        ({"ring-ref": 99}, "ring-ref 99"),
        ({"ring-ref": "9" * 4000}, "ring-ref"),
        ({"ring-ref": 1 << 32}, "ring-ref"),
        ({"event-channel": ""}, "event-channel"),
        ({"event-channel": 1000}, "event-channel 1000"),
        ({"protocol": "arm-abi"}, "arm-abi"),
        ({"ring-page-order": 5}, "order 5"),
        ({"ring-page-order": 1, "ring-ref0": 8}, "ring-ref1"),
        ({"ring-page-order": "-1"}, "ring-page-order"),
        ({"multi-queue-num-queues": 2}, "2 queues"),
        ({"state": 9}, "state 9"),
        ({"state": "yes"}, "state"),
    ],
)
def test_what_can_not_be_used_is_told_and_can_be_mended(
    world: World, keys: dict[str, object], complaint: str
) -> None:
    world.guest.offer(9)
    world.guest.grant(8)
    world.front({"ring-ref": 8, "event-channel": 9, "state": 3, **keys})
    assert world.state() == "5"
    assert complaint in (world.store.text(ERROR_NODE) or "")
    assert world.privcmd.is_idle()
    for name in keys:
        world.store.rm(f"{FRONT}/{name}")
    world.front({"state": 1})
    assert world.state() == "2"
    assert reads_its_first_sector(BlockFront(world))
    assert world.store.text(ERROR_NODE) is None


def test_a_ring_whose_pages_are_read_only_is_refused(world: World) -> None:
    world.guest.offer(9)
    world.guest.grant(8, writable=False)
    world.front({"ring-ref": 8, "event-channel": 9, "state": 3})
    assert world.state() == "5"
    assert world.privcmd.is_idle()


def test_a_front_end_that_removes_its_keys_has_closed(world: World) -> None:
    BlockFront(world)
    world.store.rm(FRONT)
    world.store.pump()
    assert world.state() == "6"
    assert world.privcmd.is_idle()


def test_a_disk_is_taken_away_when_the_guest_has_let_go_of_it(world: World, disk: Path) -> None:
    front = BlockFront(world)
    world.backend.detach(GUEST, XVDA)
    world.store.pump()
    assert world.state() == "5"
    assert reads_its_first_sector(front)
    world.front({"state": 6})
    assert [path for path in world.store.nodes() if "vbd" in path] == []
    assert world.privcmd.is_idle()
    world.front({"state": 1})
    assert world.state() is None
    World().attach(disk)


def test_a_disk_without_a_front_end_goes_at_once(world: World) -> None:
    world.backend.detach(GUEST, XVDA)
    world.store.pump()
    assert [path for path in world.store.nodes() if "vbd" in path] == []


def test_a_guests_disks_are_taken_away_by_force(world: World, disk: Path) -> None:
    front = BlockFront(world, **{"feature-persistent": 1})
    front.page(70)
    front.do(READ, 0, [(70, 0, 0)])
    world.backend.detach_all(GUEST)
    world.store.pump()
    assert [path for path in world.store.nodes() if "vbd" in path] == []
    assert world.privcmd.is_idle()
    World().attach(disk)


def test_a_disk_number_is_given_once(world: World, disk: Path) -> None:
    with pytest.raises(PvemuError, match="xvda"):
        world.backend.attach(GUEST, XVDA, DiskSpec(str(disk), "xvda", writable=False))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *[("xvda", 51712), ("xvdb", 51728), ("xvda1", 51713), ("xvdp15", 202 << 8 | 255)],
        *[("xvdq", 1 << 28 | 16 << 8), ("xvda16", 1 << 28 | 16), ("xvdaa", 1 << 28 | 26 << 8)],
        *[("xvdtq37", 1 << 28 | 536 << 8 | 37), ("d536p37", 1 << 28 | 536 << 8 | 37)],
        *[("d0", 51712), ("d0p0", 51712), ("d1p2", 51730), ("xvdb2", 51730)],
        *[("hda", 768), ("hdb", 832), ("hdc2", 5634), ("hdd63", 5632 + 64 + 63)],
        *[("sda", 2048), ("sda1", 2049), ("sdb3", 2067), ("sdp15", 2303)],
        *[("51712", 51712), ("0xca00", 51712), ("0145000", 51712), ("0", 0)],
    ],
)
def test_a_disks_name_has_the_number_of_the_manual(name: str, number: int) -> None:
    assert vdev_number(name) == number


@pytest.mark.parametrize(
    "name",
    [
        *["", "xvd", "xvda01", "xvda256", "hde", "hda64", "sdq", "sda16", "xvdA", "disk", "d", "dp1"],
        *["d1048576", "xvdzzzzzz", "-1", "0x80000000", "099", "xvda1x", "d0p256", "٣", "xvda٣", "1 "],
    ],
)
def test_what_is_no_disk_name_is_refused_with_the_name(name: str) -> None:
    with pytest.raises(PvemuError) as refusal:
        vdev_number(name)
    assert repr(name) in str(refusal.value)
