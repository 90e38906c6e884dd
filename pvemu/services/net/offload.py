"""What network hardware would do, in software: Internet checksums, and cutting large TCP packets."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from pvemu.abi.netif import XEN_NETIF_GSO_TYPE_NONE
from pvemu.services.net.frame import ETHERNET_HEADER, IP_VERSION_OF_GSO, Abilities, Frame

_TCP, _UDP = 6, 17
#: Where the checksum is in a transport header, and the least that header has.
_CHECKSUM_AT: Final = {_TCP: (16, 20), _UDP: (6, 8)}
_ETHERTYPE_VLAN, _ETHERTYPE_IPV4, _ETHERTYPE_IPV6 = 0x8100, 0x0800, 0x86DD
_IPV6_HEADER: Final = 40
#: Extension headers that may stand between IPv6 and TCP: hop-by-hop, routing, destination options.
_IPV6_OPTIONS: Final = frozenset({0, 43, 60})
_TCP_FIN, _TCP_PSH, _TCP_CWR = 0x01, 0x08, 0x80
#: No TCP has smaller segments (Linux: TCP_MIN_SND_MSS); it bounds into how many a packet is cut.
LEAST_SEGMENT: Final = 48


class Transport(NamedTuple):
    """Where the parts of a TCP or UDP packet are, in bytes from the start of the frame."""

    version: int
    network: int
    protocol: int
    start: int
    end: int

    @property
    def checksum(self) -> int:
        """Where the transport checksum is."""
        return self.start + _CHECKSUM_AT[self.protocol][0]


def locate(data: bytes) -> Transport | None:
    """Find the TCP or UDP packet in a frame; None if there is none, or only a fragment of one."""
    network = ETHERNET_HEADER
    if len(data) < network:
        return None
    (ethertype,) = struct.unpack_from(">H", data, 12)
    if ethertype == _ETHERTYPE_VLAN and len(data) >= network + 4:
        (ethertype,) = struct.unpack_from(">H", data, 16)
        network += 4
    if ethertype == _ETHERTYPE_IPV4:
        found = _locate_ipv4(data, network)
    elif ethertype == _ETHERTYPE_IPV6:
        found = _locate_ipv6(data, network)
    else:
        return None
    if found is None or found.protocol not in _CHECKSUM_AT:
        return None
    least = _CHECKSUM_AT[found.protocol][1]
    return found if found.start + least <= found.end <= len(data) else None


def _locate_ipv4(data: bytes, network: int) -> Transport | None:
    if len(data) < network + 20:
        return None
    version, _, length, _, fragment, _, protocol = struct.unpack_from(">BBHHHBB", data, network)
    header = (version & 15) * 4
    # More fragments, or not the first one: the checksum is over what isn't here.
    if version >> 4 != 4 or header < 20 or fragment & 0x3FFF:
        return None
    return Transport(4, network, protocol, network + header, network + length)


def _locate_ipv6(data: bytes, network: int) -> Transport | None:
    if len(data) < network + _IPV6_HEADER or data[network] >> 4 != 6:
        return None
    length, following = struct.unpack_from(">HB", data, network + 4)
    start = network + _IPV6_HEADER
    end = start + length
    while following in _IPV6_OPTIONS and start + 8 <= min(end, len(data)):
        following, start = data[start], start + (data[start + 1] + 1) * 8
    return Transport(6, network, following, start, end)


def acceptable(frame: Frame) -> Frame | None:
    """A guest's frame with what it leaves to do made definite; None if what it asks for can't be done."""
    if not frame.checksum_blank and frame.gso_type == XEN_NETIF_GSO_TYPE_NONE:
        return frame
    transport = locate(frame.data)
    if transport is None:
        return None
    if frame.gso_type == XEN_NETIF_GSO_TYPE_NONE:
        return frame
    if (
        transport.version != IP_VERSION_OF_GSO[frame.gso_type]
        or transport.protocol != _TCP
        or _tcp_header_end(frame.data, transport) is None
        or frame.gso_size < LEAST_SEGMENT
    ):
        return None
    if frame.checksum_blank:
        return frame
    # A packet that is to be cut can't have had its checksums made: blank them, as Linux's back end does.
    data = bytearray(frame.data)
    partial = _sum(_pseudo_header(frame.data, transport, transport.end - transport.start))
    struct.pack_into(">H", data, transport.checksum, partial)
    return replace(frame, data=bytes(data), checksum_blank=True)


def prepare(frame: Frame, receiver: Abilities) -> Iterator[Frame]:
    """The frames that a receiver gets for one that `acceptable` has passed."""
    transport = locate(frame.data) if frame.checksum_blank else None
    if transport is None:
        yield frame
    elif frame.gso_type not in receiver.gso_types and frame.gso_type != XEN_NETIF_GSO_TYPE_NONE:
        for data in _segments(frame, transport):
            yield Frame(data, validated=True)
    elif receiver.takes_checksum(transport.version):
        yield frame
    else:
        yield replace(
            frame, data=_with_checksum(bytearray(frame.data), transport), checksum_blank=False, validated=True
        )


def _segments(frame: Frame, transport: Transport) -> Iterator[bytes]:
    """Cut a TCP packet as a sender's stack would have: RFC 9293 sequence numbers, RFC 3168 flags."""
    payload = _tcp_header_end(frame.data, transport)
    assert payload is not None
    headers = frame.data[:payload]
    (sequence,) = struct.unpack_from(">I", headers, transport.start + 4)
    flags = headers[transport.start + 13]
    pieces = range(payload, transport.end, frame.gso_size) or range(payload, payload + 1)
    for number, start in enumerate(pieces):
        end = min(start + frame.gso_size, transport.end)
        data = bytearray(headers) + frame.data[start:end]
        kept = flags
        if number:
            kept &= ~_TCP_CWR
        if end < transport.end:
            kept &= ~(_TCP_FIN | _TCP_PSH)
        data[transport.start + 13] = kept
        struct.pack_into(">I", data, transport.start + 4, (sequence + start - payload) & 0xFFFFFFFF)
        _set_length(data, transport, number)
        yield _with_checksum(data, transport._replace(end=len(data)))


def _set_length(data: bytearray, transport: Transport, number: int) -> None:
    network = transport.network
    if transport.version == 6:
        struct.pack_into(">H", data, network + 4, len(data) - network - _IPV6_HEADER)
        return
    (identification,) = struct.unpack_from(">H", data, network + 4)
    struct.pack_into(">HH", data, network + 2, len(data) - network, (identification + number) & 0xFFFF)
    struct.pack_into(">H", data, network + 10, 0)
    struct.pack_into(">H", data, network + 10, ~_sum(data[network : transport.start]) & 0xFFFF)


def _tcp_header_end(data: bytes, transport: Transport) -> int | None:
    header = (data[transport.start + 12] >> 4) * 4
    end = transport.start + header
    return end if header >= 20 and end <= transport.end else None


def _with_checksum(data: bytearray, transport: Transport) -> bytes:
    struct.pack_into(">H", data, transport.checksum, 0)
    pseudo = _pseudo_header(data, transport, transport.end - transport.start)
    checksum = ~_sum(pseudo + data[transport.start : transport.end]) & 0xFFFF
    # UDP says with 0 that there is no checksum.
    if transport.protocol == _UDP and not checksum:
        checksum = 0xFFFF
    struct.pack_into(">H", data, transport.checksum, checksum)
    return bytes(data)


def _pseudo_header(data: bytes | bytearray, transport: Transport, length: int) -> bytes:
    """The sum of these bytes is that of the pseudo-headers of RFC 9293 and RFC 8200."""
    start, size = (12, 8) if transport.version == 4 else (8, 32)
    addresses = bytes(data[transport.network + start : transport.network + start + size])
    return addresses + struct.pack(">II", length, transport.protocol)


def _sum(data: bytes | bytearray) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071); an odd byte counts as a word's upper half."""
    number = int.from_bytes(data, "big") << (8 if len(data) & 1 else 0)
    # Ones' complement addition is addition modulo 0xFFFF, where 0xFFFF is what 0 of something is.
    return number % 0xFFFF or (0xFFFF if number else 0)
