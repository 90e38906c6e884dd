"""Front ends of netif in Python, on one switch; packets to send, and the naive sums to check them by."""

import struct
from collections.abc import Iterable

from split_devices import PAGE, FakePrivcmd, FrontRing, Store

from pvemu.services.net.backend import NetworkBackend
from pvemu.services.net.frame import Frame
from pvemu.services.net.nic import NicSpec
from pvemu.services.net.switch import Switch

CSUM_BLANK, VALIDATED, MORE, EXTRA = 1, 2, 4, 8
RX_VALIDATED, RX_BLANK, RX_MORE, RX_EXTRA = 1, 2, 4, 8
OKAY, ERROR, NULL = 0, -1, 1
TCP, UDP = 6, 17
TCPV4, TCPV6 = 1, 2


def mac(number: int) -> bytes:
    return bytes((0, 0x16, 0x3E, 0, number, 0))


class World:
    """Guests with one interface each, on one switch, at a time that tests set."""

    def __init__(self, *domids: int) -> None:
        self.privcmd = FakePrivcmd(*domids)
        self.store = Store(self.privcmd)
        self.time = 0
        self.switch = Switch(lambda: self.time)
        self.backend = NetworkBackend(self.privcmd, self.store.client, self.switch)
        for domid in domids:
            self.backend.attach(domid, 0, NicSpec())
        self.store.pump()

    def front_path(self, domid: int) -> str:
        return f"/local/domain/{domid}/device/vif/0"

    def back_path(self, domid: int) -> str:
        return f"/local/domain/0/backend/vif/{domid}/0"

    def state(self, domid: int) -> str | None:
        return self.store.text(f"{self.back_path(domid)}/state")

    def error(self, domid: int) -> str:
        return self.store.text(f"/local/domain/0/error/backend/vif/{domid}/0/error") or ""

    def front(self, domid: int, keys: dict[str, object]) -> None:
        self.store.set(self.front_path(domid), keys)


class NetFront:
    """A guest's driver: both rings, pages to send from, and pages to receive into."""

    def __init__(
        self, world: World, domid: int, *, pages: int = 64, split: bool = False, **keys: object
    ) -> None:
        self.world = world
        self.domid = domid
        self.guest = world.privcmd.guests[domid]
        self.transmit = FrontRing([self.guest.grant(8)], 12)
        self.receive = FrontRing([self.guest.grant(9)], 8)
        self.page = self.guest.grant(20)
        self.more_page = self.guest.grant(21)
        self.ports = [self.guest.offer(5), self.guest.offer(6) if split else 5]
        self._next_id = 100
        self._offered: list[tuple[int, int]] = []
        self._next_page = 0
        names = ("event-channel-tx", "event-channel-rx") if split else ("event-channel",) * 2
        world.front(
            domid,
            {
                "tx-ring-ref": 8,
                "rx-ring-ref": 9,
                **dict(zip(names, self.ports, strict=True)),
                "request-rx-copy": 1,
                "feature-rx-notify": 1,
                "feature-sg": 1,
                "state": 4,
                **keys,
            },
        )
        self.offer(pages)

    def offer(self, count: int) -> None:
        """Offer so many pages to receive into."""
        for _ in range(count):
            reference = 1000 + self._next_page
            self.guest.grant(reference)
            identity = self._next_page & 0xFFFF
            self._offered.append((identity, reference))
            self.receive.put(struct.pack("<HHI", identity, 0, reference))
            self._next_page += 1
        if self.receive.push():
            self.world.privcmd.ring_bell(self.domid, self.ports[1])

    def put(self, gref: int, offset: int, size: int, flags: int = 0, extras: Iterable[bytes] = ()) -> int:
        self._next_id += 1
        self.transmit.put(struct.pack("<IHHHH", gref, offset, flags, self._next_id, size))
        for extra in extras:
            self.transmit.put(extra)
        return self._next_id

    def kick(self) -> list[tuple[int, int]]:
        """Push, notify if that was asked for, and take the responses: id and status."""
        if self.transmit.push():
            self.world.privcmd.ring_bell(self.domid, self.ports[0])
        return [struct.unpack("<Hh", each[:4]) for each in self.transmit.responses()]

    def send(self, data: bytes, flags: int = 0, gso: tuple[int, int] | None = None) -> int:
        """Send a packet from as many pages as it needs; the status that its slots were answered with."""
        pieces = [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
        for index, piece in enumerate(pieces):
            self.guest.grant(3000 + index)[: len(piece)] = piece
        extras = [] if gso is None else [gso_extra(*gso)]
        flags |= EXTRA if gso else 0
        for index, piece in enumerate(pieces):
            more = MORE if index + 1 < len(pieces) else 0
            size = len(piece) if index else len(data)
            self.put(3000 + index, 0, size, more | (0 if index else flags), () if index else extras)
        (status,) = {status for _, status in self.kick()} - {NULL}
        return status

    def received(self) -> list[Frame]:
        """Take what has come in, as the front end understands it."""
        frames: list[Frame] = []
        slots = iter(self.receive.responses())
        for slot in slots:
            flags, kind, size = 0, 0, 0
            data = b""
            while True:
                identity, offset, piece_flags, status = struct.unpack("<HHHh", slot)
                number, reference = self._offered.pop(0)
                assert (identity, offset) == (number, 0)
                assert status >= 0
                data += self.guest.grants[reference].page[:status]
                flags |= piece_flags
                if piece_flags & RX_EXTRA:
                    extra_type, more, size, kind = struct.unpack_from("<BBHB", next(slots))
                    assert (extra_type, more) == (1, 0)
                    self._offered.pop(0)
                if not piece_flags & RX_MORE:
                    break
                slot = next(slots)
            frames.append(Frame(data, bool(flags & RX_BLANK), bool(flags & RX_VALIDATED), kind, size))
        return frames


def gso_extra(kind: int, size: int, more: int = 0) -> bytes:
    return struct.pack("<BBHBBHI", 1, more, size, kind, 0, 0, 0)


def multicast_extra(address: bytes, *, add: bool) -> bytes:
    return struct.pack("<BB6sI", 2 if add else 3, 0, address, 0)


def ethernet(destination: bytes, source: bytes, payload: bytes = b"", ethertype: int = 0x88B5) -> bytes:
    return destination + source + struct.pack(">H", ethertype) + payload


def ones_complement_sum(data: bytes) -> int:
    total = 0
    for start in range(0, len(data), 2):
        word = data[start : start + 2].ljust(2, b"\0")
        total += word[0] << 8 | word[1]
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip_packet(
    version: int,
    protocol: int,
    payload: bytes,
    *,
    destination: bytes = mac(2),
    source: bytes = mac(1),
    tcp_flags: int = 0x18,
    options: bytes = b"",
) -> bytes:
    """A TCP or UDP packet whose checksum field has what a front end leaves there: the pseudo-header's sum."""
    ports = struct.pack(">HH", 1025, 80)
    if protocol == TCP:
        offset = (20 + len(options)) // 4 << 4
        header = ports + struct.pack(">IIBBHHH", 0xFFFFFF00, 7, offset, tcp_flags, 512, 0, 0) + options
        at = 16
    else:
        header = ports + struct.pack(">HH", 8 + len(payload), 0)
        at = 6
    transport = bytearray(header + payload)
    addresses = bytes((10, 0, 0, 1, 10, 0, 0, 2)) if version == 4 else bytes(range(32))
    pseudo = addresses + struct.pack(">II", len(transport), protocol)
    struct.pack_into(">H", transport, at, ones_complement_sum(pseudo))
    if version == 4:
        network = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(transport), 0xFFFE, 0x4000, 64, protocol, 0)
        checksum = ~ones_complement_sum(network + addresses) & 0xFFFF
        packet = network[:10] + struct.pack(">H", checksum) + addresses + transport
    else:
        packet = struct.pack(">IHBB", 6 << 28, len(transport), protocol, 64) + addresses + transport
    return ethernet(destination, source, packet, 0x0800 if version == 4 else 0x86DD)


def checksums_hold(data: bytes) -> bool:
    """Whether the sums of a TCP or UDP packet over IP, as a receiver adds them up, come out."""
    packet = data[14:]
    if packet[0] >> 4 == 4:
        length, protocol = struct.unpack(">H", packet[2:4])[0], packet[9]
        if ones_complement_sum(packet[:20]) != 0xFFFF:
            return False
        addresses, transport = packet[12:20], packet[20:length]
    else:
        length, protocol = struct.unpack(">HB", packet[4:7])
        addresses, transport = packet[8:40], packet[40 : 40 + length]
    pseudo = addresses + struct.pack(">II", len(transport), protocol)
    return ones_complement_sum(pseudo + transport) == 0xFFFF
