"""Packets on the rings: pieces, extra information, offloads between front ends, and what bad ones get."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_front import (
    CSUM_BLANK,
    ERROR,
    EXTRA,
    MORE,
    NULL,
    OKAY,
    TCP,
    TCPV4,
    TCPV6,
    UDP,
    VALIDATED,
    NetFront,
    World,
    checksums_hold,
    ethernet,
    gso_extra,
    ip_packet,
    mac,
    multicast_extra,
)

from pvemu.services.net.frame import Frame

HELLO = ethernet(mac(2), mac(1), b"hello")


@pytest.fixture
def world() -> World:
    return World(1, 2)


@pytest.fixture
def sender(world: World) -> NetFront:
    return NetFront(world, 1)


def test_a_packet_of_several_pieces_arrives_whole(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2)
    data = ethernet(mac(2), mac(1), bytes(range(256)) * 40)
    assert sender.send(data) == OKAY
    assert [frame.data for frame in receiver.received()] == [data]


def test_every_slot_of_a_packet_is_answered_in_order(world: World, sender: NetFront) -> None:
    NetFront(world, 2)
    packet = ip_packet(4, TCP, bytes(3000))
    sender.page[:1000], sender.more_page[: len(packet) - 1000] = packet[:1000], packet[1000:]
    first = sender.put(20, 0, len(packet), CSUM_BLANK | MORE | EXTRA, [gso_extra(TCPV4, 1448)])
    second = sender.put(21, 0, len(packet) - 1000)
    third = sender.put(20, 0, 60)
    answers = sender.kick()
    assert [status for _, status in answers] == [OKAY, NULL, OKAY, OKAY]
    assert [answers[0][0], answers[2][0], answers[3][0]] == [first, second, third]


def test_a_receiver_that_can_gets_the_offloads_as_they_are(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, **{"feature-gso-tcpv4": 1})
    packet = ip_packet(4, TCP, bytes(20000))
    assert sender.send(packet, CSUM_BLANK, (TCPV4, 1448)) == OKAY
    assert sender.send(HELLO, VALIDATED) == OKAY
    assert receiver.received() == [
        Frame(packet, checksum_blank=True, validated=True, gso_type=TCPV4, gso_size=1448),
        Frame(HELLO, validated=True),
    ]


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(
    ("version", "keys"),
    [(4, {"feature-no-csum-offload": 1}), (6, {}), (6, {"feature-ipv6-csum-offload": 0})],
)
def test_a_receiver_that_takes_no_blank_checksums_gets_them_made(
    world: World, sender: NetFront, version: int, keys: dict[str, object], protocol: int
) -> None:
    receiver = NetFront(world, 2, **keys)
    for payload in (b"", b"x", b"odd and even"):
        packet = ip_packet(version, protocol, payload)
        assert not checksums_hold(packet)
        assert sender.send(packet, CSUM_BLANK) == OKAY
        (frame,) = receiver.received()
        assert checksums_hold(frame.data)
        assert (len(frame.data), frame.checksum_blank, frame.validated) == (len(packet), False, True)


@pytest.mark.parametrize("version", [4, 6])
def test_a_checksum_behind_a_vlan_tag_is_made_too(world: World, sender: NetFront, version: int) -> None:
    receiver = NetFront(world, 2, **{"feature-no-csum-offload": 1})
    packet, tag = ip_packet(version, TCP, b"in a VLAN"), b"\x81\x00\x00\x07"
    assert sender.send(packet[:12] + tag + packet[12:], CSUM_BLANK) == OKAY
    (frame,) = receiver.received()
    assert frame.data[12:16] == tag
    assert checksums_hold(frame.data[:12] + frame.data[16:])


@pytest.mark.parametrize("padding", [6, 14])
def test_a_checksum_behind_ipv6_options_is_made_too(world: World, sender: NetFront, padding: int) -> None:
    # RFC 8200, section 4.3: a hop-by-hop header of one option that fills it (PadN), twice.
    receiver = NetFront(world, 2, **{"feature-no-csum-offload": 1})
    plain = ip_packet(6, UDP, b"behind options")
    rest = bytes([padding >> 3, 1, padding - 2]) + bytes(padding - 2)
    options = bytes([60]) + rest + bytes([UDP]) + rest
    length = struct.unpack_from(">H", plain, 18)[0] + len(options)
    packet = plain[:18] + struct.pack(">HB", length, 0) + plain[21:54] + options + plain[54:]
    assert sender.send(packet, CSUM_BLANK) == OKAY
    (frame,) = receiver.received()
    assert len(frame.data) == len(packet)
    assert checksums_hold(plain[:54] + frame.data[54 + len(options) :])


def test_a_udp_checksum_is_never_zero_when_there_is_one(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, **{"feature-no-csum-offload": 1})
    packet = bytearray(ip_packet(4, UDP, b"\0\0"))
    partial = struct.unpack_from(">H", packet, 14 + 20 + 6)[0]
    ports_and_length = 1025 + 80 + 10
    struct.pack_into(">H", packet, 14 + 28, 0xFFFF - (partial + ports_and_length) % 0xFFFF)
    assert sender.send(bytes(packet), CSUM_BLANK) == OKAY
    (frame,) = receiver.received()
    assert struct.unpack_from(">H", frame.data, 40)[0] == 0xFFFF
    assert checksums_hold(frame.data)


@pytest.mark.parametrize(("version", "kind"), [(4, TCPV4), (6, TCPV6)])
@pytest.mark.parametrize("options", [b"", b"\1" * 12])
@given(size=st.integers(1, 9000), mss=st.integers(48, 3000))
def test_a_large_packet_is_cut_for_a_receiver_that_takes_none(
    version: int, kind: int, options: bytes, size: int, mss: int
) -> None:
    world = World(1, 2)
    receiver = NetFront(world, 2, pages=200, **{"feature-ipv6-csum-offload": 1})
    sender = NetFront(world, 1)
    payload = bytes(index * 7 & 0xFF for index in range(size))
    packet = ip_packet(version, TCP, payload, tcp_flags=0x99, options=options)
    assert sender.send(packet, CSUM_BLANK, (kind, mss)) == OKAY
    frames = receiver.received()
    header = 14 + (20 if version == 4 else 40) + 20 + len(options)
    expected = [payload[start : start + mss] for start in range(0, size, mss)]
    assert [frame.data[header:] for frame in frames] == expected
    assert all(checksums_hold(frame.data) and not frame.checksum_blank for frame in frames)
    tcp = header - 20 - len(options)
    sequences = [struct.unpack_from(">I", frame.data, tcp + 4)[0] for frame in frames]
    assert sequences == [(0xFFFFFF00 + start) & 0xFFFFFFFF for start in range(0, size, mss)]
    flags = [frame.data[tcp + 13] for frame in frames]
    if version == 4:
        identifications = [struct.unpack_from(">H", frame.data, 18)[0] for frame in frames]
        assert identifications == [(0xFFFE + number) & 0xFFFF for number in range(len(frames))]
    middle = [0x10] * (len(frames) - 2)
    assert flags == ([0x99] if len(frames) == 1 else [0x90, *middle, 0x19])


def test_a_large_packet_with_a_whole_checksum_is_taken_for_one_with_a_blank(
    world: World, sender: NetFront
) -> None:
    receiver = NetFront(world, 2, **{"feature-gso-tcpv4": 1})
    packet = ip_packet(4, TCP, bytes(4000))
    wrong = packet[:50] + b"\x12\x34" + packet[52:]
    assert sender.send(wrong, 0, (TCPV4, 1000)) == OKAY
    (frame,) = receiver.received()
    assert (frame.data, frame.checksum_blank) == (packet, True)


@pytest.mark.parametrize(
    ("data", "gso"),
    [
        (HELLO, None),
        (ip_packet(4, TCP, bytes(100))[:40], None),
        (ip_packet(4, TCP, bytes(100))[:30], None),
        (ip_packet(6, TCP, bytes(100))[:50], None),
        (ip_packet(6, TCP, bytes(100))[:14] + bytes(100), None),
        (ip_packet(4, TCP, bytes(100)), (TCPV6, 1000)),
        (ip_packet(6, TCP, bytes(100)), (TCPV4, 1000)),
        (ip_packet(4, UDP, bytes(100)), (TCPV4, 1000)),
        (ip_packet(4, TCP, bytes(100)), (TCPV4, 1)),
        (ip_packet(4, 1, bytes(100)), None),
    ],
)
def test_what_no_hardware_could_do_is_dropped(
    world: World, sender: NetFront, data: bytes, gso: tuple[int, int] | None
) -> None:
    receiver = NetFront(world, 2, **{"feature-gso-tcpv4": 1, "feature-gso-tcpv6": 1})
    assert sender.send(data, CSUM_BLANK, gso) == OKAY
    assert receiver.received() == []


def test_a_fragment_can_not_have_a_blank_checksum(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2)
    packet = bytearray(ip_packet(4, UDP, bytes(100)))
    packet[14 + 6] |= 0x20
    assert sender.send(bytes(packet), CSUM_BLANK) == OKAY
    assert receiver.received() == []


def test_without_scatter_gather_a_packet_has_one_page(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, **{"feature-sg": 0, "feature-gso-tcpv4": 1})
    assert sender.send(ethernet(mac(2), mac(1), bytes(5000))) == OKAY
    assert receiver.received() == []
    assert sender.send(ip_packet(4, TCP, bytes(5000)), CSUM_BLANK, (TCPV4, 1448)) == OKAY
    assert [len(frame.data) for frame in receiver.received()] == [1502, 1502, 1502, 710]


@pytest.mark.parametrize(
    ("slots", "complaint"),
    [
        ([(20, 0, 60, MORE)], "1 of its slots"),
        ([(20, 0, 60, EXTRA)], "missing extra"),
        ([(20, 4090, 60, 0)], "cross"),
        ([(20, 0, 1000, MORE), (21, 4000, 97, 0)], "cross"),
        ([(20, 0, 5000, 0)], "cross"),
        ([(20, 0, 0xFFFF, MORE)] + [(20, 0, 10, MORE)] * 19 + [(20, 0, 10, 0)], "more than"),
    ],
)
def test_slots_that_make_no_packet_turn_the_interface_off(
    world: World, sender: NetFront, slots: list[tuple[int, int, int, int]], complaint: str
) -> None:
    for slot in slots:
        sender.put(*slot)
    sender.kick()
    assert world.state(1) == "5"
    assert complaint in world.error(1)
    assert world.privcmd.is_idle()


def test_a_bad_packet_that_waits_for_us_is_met_once(world: World) -> None:
    front = NetFront(world, 1, state=1)
    front.put(20, 4090, 60)
    front.transmit.push()
    world.front(1, {"state": 4})
    assert world.state(1) == "5"
    assert "cross" in world.error(1)
    assert world.privcmd.is_idle()


@pytest.mark.parametrize(
    "extra", [bytes(12), b"\5" + bytes(11), gso_extra(TCPV4, 0), gso_extra(3, 1000), gso_extra(0, 1000)]
)
def test_bad_extra_information_turns_the_interface_off(world: World, sender: NetFront, extra: bytes) -> None:
    sender.put(20, 0, 60, EXTRA, [extra])
    sender.kick()
    assert world.state(1) == "5"


@pytest.mark.parametrize(
    "slots",
    [
        [(20, 0, 13, 0)],
        [(20, 0, 0, 0)],
        [(404, 0, 60, 0)],
        [(20, 0, 60, MORE), (404, 0, 10, 0)],
        [(20, 0, 60, MORE), (21, 0, 61, 0)],
        [(20, 0, 60, MORE), (21, 0, 50, 0)],
    ],
)
def test_a_bad_packet_is_an_error_and_the_next_one_goes_on(
    world: World, sender: NetFront, slots: list[tuple[int, int, int, int]]
) -> None:
    receiver = NetFront(world, 2)
    asked = [(sender.put(*slot), ERROR) for slot in slots]
    assert sender.kick() == asked
    assert receiver.received() == []
    assert sender.send(HELLO) == OKAY
    assert len(receiver.received()) == 1


def test_packets_wait_until_the_receiver_offers_pages(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, pages=0)
    large = ethernet(mac(2), mac(1), bytes(9000))
    assert sender.send(large) == OKAY
    receiver.offer(2)
    assert receiver.received() == []
    receiver.offer(1)
    assert [frame.data for frame in receiver.received()] == [large]


def test_a_receiver_that_never_says_that_it_has_pages_loses_packets(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, pages=0, **{"feature-rx-notify": 0})
    assert sender.send(HELLO) == OKAY
    receiver.offer(4)
    assert receiver.received() == []
    assert sender.send(HELLO) == OKAY
    assert len(receiver.received()) == 1


def test_a_receiver_that_takes_nothing_keeps_a_bounded_queue(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, pages=0)
    frames = [ethernet(mac(2), mac(1), struct.pack("<I", number) + bytes(1000)) for number in range(1000)]
    for data in frames:
        assert sender.send(data) == OKAY
    got = []
    for _ in range(20):
        receiver.offer(100)
        got += [frame.data for frame in receiver.received()]
    assert got == frames[: len(got)]
    assert 100_000 < sum(map(len, got)) <= 512 * 1024


def test_a_page_that_is_not_granted_loses_its_piece_and_says_so(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, pages=2)
    receiver.guest.grants[1000].writable = False
    assert [sender.send(HELLO), sender.send(HELLO)] == [OKAY, OKAY]
    answers = [struct.unpack("<HHHh", slot) for slot in receiver.receive.responses()]
    assert [status for _, _, _, status in answers] == [ERROR, len(HELLO)]


def test_a_receiver_whose_producer_runs_ahead_is_cut_off(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2)
    receiver.receive.set_word(0, 257)
    assert sender.send(HELLO) == OKAY
    assert (world.state(1), world.state(2)) == ("4", "5")
    assert sender.send(HELLO) == OKAY


def test_a_guest_hears_the_groups_that_it_asked_for(world: World, sender: NetFront) -> None:
    receiver = NetFront(world, 2, **{"request-multicast-control": 1})
    group = bytes.fromhex("01005e000001")
    to_group = ethernet(group, mac(1), b"group")
    broadcast = ethernet(b"\xff" * 6, mac(1), b"all")

    def heard() -> list[bytes]:
        assert [sender.send(to_group), sender.send(broadcast)] == [OKAY, OKAY]
        return [frame.data for frame in receiver.received()]

    assert heard() == [broadcast]
    receiver.put(20, 0, 0, EXTRA, [multicast_extra(group, add=True)])
    assert [status for _, status in receiver.kick()] == [OKAY, NULL]
    assert heard() == [to_group, broadcast]
    receiver.put(20, 0, 0, EXTRA, [multicast_extra(group, add=False)])
    receiver.kick()
    assert heard() == [broadcast]


def test_a_guest_may_ask_for_so_many_groups(world: World) -> None:
    front = NetFront(world, 1)
    answers = []
    for number in range(70):
        front.put(20, 0, 0, EXTRA, [multicast_extra(struct.pack(">HI", 0x0100, number), add=True)])
        answers += [status for _, status in front.kick() if status != NULL]
    assert answers == [OKAY] * 64 + [ERROR] * 6


slot = st.one_of(
    st.tuples(st.just("tx"), st.binary(min_size=12, max_size=12)),
    st.tuples(
        st.just("tx"),
        st.builds(
            lambda gref, offset, flags, size: struct.pack("<IHHHH", gref, offset, flags, 1, size),
            st.sampled_from([20, 21, 8, 9, 404]),
            st.sampled_from([0, 0, 100, 4095]),
            st.integers(0, 15),
            st.sampled_from([0, 13, 14, 60, 1500, 4096, 60000]),
        ),
    ),
    st.tuples(
        st.just("tx"),
        st.builds(gso_extra, st.integers(0, 3), st.sampled_from([0, 1, 48, 1448]), st.integers(0, 1)),
    ),
    st.tuples(st.just("rx"), st.binary(min_size=8, max_size=8)),
    st.tuples(
        st.just("rx"), st.builds(lambda gref: struct.pack("<HHI", 1, 0, gref), st.sampled_from([8, 9, 1000]))
    ),
    st.tuples(st.just("bell"), st.just(b"")),
    st.tuples(st.sampled_from(["tx word", "rx word"]), st.binary(min_size=5, max_size=5)),
    st.tuples(st.just("state"), st.sampled_from([b"1", b"2", b"3", b"4", b"5", b"6", b"", b"-"])),
)


@given(steps=st.lists(slot, max_size=40), packet=st.booleans(), features=st.booleans())
def test_a_hostile_front_end_harms_only_itself(
    steps: list[tuple[str, bytes]], packet: bool, features: bool
) -> None:
    world = World(1, 2, 3)
    able = {"feature-gso-tcpv4": 1, "feature-gso-tcpv6": 1} if features else {"feature-no-csum-offload": 1}
    hostile, victim = NetFront(world, 1, pages=8, **able), NetFront(world, 2, **able)
    third = NetFront(world, 3)
    hostile.page[:] = (ip_packet(4, TCP, bytes(5000)) if packet else HELLO).ljust(4096, b"\1")[:4096]
    for kind, content in steps:
        match kind:
            case "tx":
                hostile.transmit.put(content)
                hostile.transmit.push()
            case "rx":
                hostile.receive.put(content)
                hostile.receive.push()
            case "tx word" | "rx word":
                ring = hostile.transmit if kind == "tx word" else hostile.receive
                ring.set_word(content[0] & 3, int.from_bytes(content[1:], "little"))
            case "state":
                world.store.client.write(f"{world.front_path(1)}/state", content)
                world.store.pump()
            case _:
                world.privcmd.ring_bell(1, 5)
    world.privcmd.ring_bell(1, 5)
    victim.received()
    third.received()
    assert (world.state(2), world.state(3)) == ("4", "4")
    third.send(ethernet(mac(2), mac(3), b"still here"))
    assert [frame.data for frame in victim.received()][-1:] == [ethernet(mac(2), mac(3), b"still here")]
    world.front(1, {"state": 6})
    assert len(world.privcmd.mapped) == 4
