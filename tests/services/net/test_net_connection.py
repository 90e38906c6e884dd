"""An interface's life: its keys, both ends' states, what can't be used, and its end."""

import pytest
from net_front import OKAY, NetFront, World, ethernet, mac

from pvemu.abi.errors import PvemuError
from pvemu.services.net.nic import NicSpec, default_mac

HELLO = ethernet(mac(2), mac(1), b"hello")


@pytest.fixture
def world() -> World:
    return World(1, 2)


def test_the_keys_of_a_new_interface_are_those_that_libxl_writes(world: World) -> None:
    assert world.store.texts(world.front_path(1)) == {
        "backend": world.back_path(1),
        "backend-id": "0",
        "state": "1",
        "handle": "0",
        "mac": default_mac(1, 0),
        "trusted": "1",
        "mtu": "1500",
    }
    back = {
        "frontend": world.front_path(1),
        "frontend-id": "1",
        "online": "1",
        "state": "2",
        "mac": default_mac(1, 0),
        "bridge": "xenbr0",
        "handle": "0",
        "type": "vif",
        "hotplug-status": "connected",
    }
    assert world.store.texts(world.back_path(1)).items() >= back.items()
    assert world.store.client.permissions(f"{world.front_path(1)}/mtu") == ("n0", "r1")
    assert world.store.client.permissions(f"{world.front_path(1)}/mac") == ("n1", "r0")


def test_the_features_are_there_before_a_front_end_looks(world: World) -> None:
    features = {
        "feature-sg": "1",
        "feature-gso-tcpv4": "1",
        "feature-rx-copy": "1",
        "feature-rx-flip": "0",
        "multi-queue-max-queues": "1",
    }
    assert world.store.texts(world.back_path(1)).items() >= features.items()


@pytest.mark.parametrize("split", [False, True], ids=["one channel", "two channels"])
def test_a_packet_goes_from_guest_to_guest(world: World, split: bool) -> None:
    sender, receiver = NetFront(world, 1, split=split), NetFront(world, 2, split=split)
    assert world.state(1) == world.state(2) == "4"
    assert sender.send(HELLO) == OKAY
    assert [frame.data for frame in receiver.received()] == [HELLO]
    assert receiver.guest.rung == {receiver.ports[1]: 1}
    assert sender.received() == []


def test_what_is_on_the_ring_before_we_connect_is_sent(world: World) -> None:
    receiver = NetFront(world, 2)
    early = NetFront(world, 1, state=1)
    early.page[: len(HELLO)] = HELLO
    early.put(20, 0, len(HELLO))
    early.transmit.push()
    assert receiver.received() == []
    world.front(1, {"state": 4})
    assert [frame.data for frame in receiver.received()] == [HELLO]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"request-rx-copy": 0}, "request-rx-copy"),
        ({"tx-ring-ref": 99}, "ring-ref 99"),
        ({"rx-ring-ref": 99}, "ring-ref 99"),
        ({"rx-ring-ref": "x"}, "rx-ring-ref"),
        ({"event-channel": 99}, "event-channel 99"),
        ({"event-channel-tx": 5, "event-channel-rx": 99}, "event-channel 99"),
        ({"event-channel-tx": 5}, "event-channel-rx"),
        ({"multi-queue-num-queues": 4}, "4 queues"),
        ({"state": 77}, "state 77"),
    ],
)
def test_what_can_not_be_used_is_told_and_can_be_mended(
    world: World, keys: dict[str, object], complaint: str
) -> None:
    NetFront(world, 1, **keys)
    assert world.state(1) == "5"
    assert complaint in world.error(1)
    assert world.privcmd.is_idle()
    for name in keys:
        world.store.rm(f"{world.front_path(1)}/{name}")
    world.front(1, {"state": 1})
    sender, receiver = NetFront(world, 1), NetFront(world, 2)
    assert sender.send(HELLO) == OKAY
    assert len(receiver.received()) == 1


@pytest.mark.parametrize("polite", [True, False], ids=["rebooted", "crashed"])
def test_an_interface_comes_back_after_its_guest(world: World, polite: bool) -> None:
    sender = NetFront(world, 1)
    for _ in range(2):
        NetFront(world, 2)
        if polite:
            world.front(2, {"state": 5})
            world.front(2, {"state": 6})
            assert sender.send(HELLO) == OKAY
        world.front(2, {"state": 1})
        assert world.state(2) == "2"
        assert len(world.privcmd.mapped) == 2
    receiver = NetFront(world, 2)
    assert sender.send(HELLO) == OKAY
    assert len(receiver.received()) == 1


def test_an_interface_is_taken_away_when_the_guest_has_let_go_of_it(world: World) -> None:
    NetFront(world, 1)
    world.backend.detach(1, 0)
    world.store.pump()
    assert world.state(1) == "5"
    world.front(1, {"state": 6})
    assert [path for path in world.store.nodes() if "vif/1" in path] == []
    assert world.privcmd.is_idle()


def test_a_guests_interfaces_are_taken_away_by_force(world: World) -> None:
    NetFront(world, 1)
    world.backend.detach_all(1)
    assert world.privcmd.is_idle()
    assert [path for path in world.store.nodes() if "vif/1" in path] == []
    world.backend.attach(1, 0, NicSpec(mac="00:16:3e:00:00:07"))
    assert world.store.text(f"{world.front_path(1)}/mac") == "00:16:3e:00:00:07"


def test_an_interface_number_is_given_once(world: World) -> None:
    with pytest.raises(PvemuError, match="already"):
        world.backend.attach(1, 0, NicSpec())


@pytest.mark.parametrize(
    "spec",
    [
        {"mac": "00:16:3e"},
        {"mac": "01:16:3e:00:00:01"},
        {"mac": "00:16:3e:00:00:0g"},
        {"mtu": 60},
        {"mtu": 1 << 17},
    ],
)
def test_what_is_no_interface_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(PvemuError):
        NicSpec(**spec)  # type: ignore[arg-type]
