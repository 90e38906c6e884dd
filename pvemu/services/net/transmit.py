"""The ring on which a guest transmits: puts packets together that lie in several slots, and answers them."""

import struct
from typing import Final, NamedTuple

from pvemu.abi.errors import GrantRefused
from pvemu.abi.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MAX,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_EXTRA_TYPE_NONE,
    XEN_NETIF_NR_SLOTS_MIN,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
    netif_extra_info,
    netif_tx_request,
    netif_tx_response,
    netif_tx_sring,
)
from pvemu.services.net.frame import ETHERNET_HEADER, IP_VERSION_OF_GSO, Frame
from pvemu.services.privcmd import Privcmd
from pvemu.services.ring import PAGE_SIZE, BackRing, RingBroken

SLOT_SIZE: Final = netif_tx_sring.field_size("ring[0]", 4)
#: Multicast addresses that a guest may ask for, as Linux has it.
MAX_MULTICAST: Final = 64
_REQUEST: Final = netif_tx_request.codec(4)
_RESPONSE: Final = netif_tx_response.codec(4)
_GSO: Final = struct.Struct("<HB")
_EXTRA_DATA: Final = netif_extra_info.offset("u", 4)
_EXTRA_FLAGS: Final = netif_extra_info.offset("flags", 4)


class _Request(NamedTuple):
    gref: int
    offset: int
    flags: int
    id: int
    size: int


class TransmitRing:
    """Takes a guest's packets off its ring.

    Attributes:
        multicast: the group addresses that the guest has asked for.
    """

    def __init__(self, privcmd: Privcmd, domid: int, ring: BackRing) -> None:
        self._privcmd = privcmd
        self._domid = domid
        self._ring = ring
        self.multicast: set[bytes] = set()

    def take(self, available: int) -> tuple[int, Frame | None]:
        """The next packet, answered (see `BackRing.push`), and how many slots are left of those available.

        No frame comes of a packet that is answered with an error, and of a request for multicast.

        Raises:
            RingBroken: the slots make no packet, by which a front end shows that it can't be trusted with the
                rest either. Linux's back end turns such an interface off.
        """
        first = self._request()
        available -= 1
        extras: dict[int, bytes] = {}
        extra_count = 0
        following = first.flags & NETTXF_extra_info
        while following:
            if not available:
                raise RingBroken("missing extra info")
            slot = self._ring.take()
            available -= 1
            extra_count += 1
            if not XEN_NETIF_EXTRA_TYPE_NONE < slot[0] < XEN_NETIF_EXTRA_TYPE_MAX:
                raise RingBroken(f"invalid extra type {slot[0]}")
            extras[slot[0]] = slot
            following = slot[_EXTRA_FLAGS] & XEN_NETIF_EXTRA_FLAG_MORE
        for kind in (XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL):
            if kind in extras:
                address = extras[kind][_EXTRA_DATA : _EXTRA_DATA + 6]
                known = self._change_multicast(address, add=kind == XEN_NETIF_EXTRA_TYPE_MCAST_ADD)
                self._answer([first], extra_count, NETIF_RSP_OKAY if known else NETIF_RSP_ERROR)
                return available, None
        pieces, available = self._pieces(first, available)
        gso = extras.get(XEN_NETIF_EXTRA_TYPE_GSO)
        size, kind = _GSO.unpack_from(gso, _EXTRA_DATA) if gso is not None else (0, 0)
        if gso is not None and (not size or kind not in IP_VERSION_OF_GSO):
            raise RingBroken(f"bad GSO of type {kind} and size {size}")
        data = self._data(pieces)
        self._answer(pieces, extra_count, NETIF_RSP_ERROR if data is None else NETIF_RSP_OKAY)
        if data is None:
            return available, None
        blank, validated = first.flags & NETTXF_csum_blank, first.flags & NETTXF_data_validated
        return available, Frame(data, bool(blank), bool(validated), kind, size)

    def _request(self) -> _Request:
        return _Request(*_REQUEST.unpack_from(self._ring.take()))

    def _pieces(self, first: _Request, available: int) -> tuple[list[_Request], int]:
        """All slots of a packet; of the first, which tells the whole size, its own."""
        rest: list[_Request] = []
        more = first.flags & NETTXF_more_data
        while more:
            if not available:
                raise RingBroken(f"a packet with {len(rest) + 1} of its slots")
            if len(rest) == XEN_NETIF_NR_SLOTS_MIN:
                raise RingBroken(f"a packet with more than {len(rest)} slots")
            piece = self._request()
            available -= 1
            rest.append(piece)
            more = piece.flags & NETTXF_more_data
        pieces = [first._replace(size=max(0, first.size - sum(piece.size for piece in rest))), *rest]
        for piece in pieces:
            if piece.offset + piece.size > PAGE_SIZE:
                raise RingBroken(f"{piece.size} bytes at {piece.offset} cross a page boundary")
        return pieces, available

    def _data(self, pieces: list[_Request]) -> bytes | None:
        if pieces[0].size < ETHERNET_HEADER:
            return None
        try:
            return b"".join(
                self._privcmd.copy_from_grant(self._domid, piece.gref, piece.offset, piece.size)
                for piece in pieces
                if piece.size
            )
        except GrantRefused:
            return None

    def _answer(self, pieces: list[_Request], extra_count: int, status: int) -> None:
        """One response a slot, where that slot was; of those with extra information without an id."""
        self._ring.respond(_RESPONSE.pack(pieces[0].id, status))
        for _ in range(extra_count):
            self._ring.respond(_RESPONSE.pack(0, NETIF_RSP_NULL))
        for piece in pieces[1:]:
            self._ring.respond(_RESPONSE.pack(piece.id, status))

    def _change_multicast(self, address: bytes, *, add: bool) -> bool:
        if not add:
            self.multicast.discard(address)
            return True
        if len(self.multicast) >= MAX_MULTICAST and address not in self.multicast:
            return False
        self.multicast.add(address)
        return True
