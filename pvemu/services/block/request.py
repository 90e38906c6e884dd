"""Block requests as they lie in a ring's slots, in the layout of a 32-bit or of a 64-bit guest."""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from pvemu.abi.blkif import (
    BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
    BLKIF_OP_INDIRECT,
    blkif_request,
    blkif_request_discard,
    blkif_request_indirect,
    blkif_request_segment,
    blkif_response,
    blkif_sring,
)
from pvemu.services.ring import PAGE_SIZE

SECTORS_PER_PAGE: Final = PAGE_SIZE // 512
SEGMENT_SIZE: Final = blkif_request_segment.size(4)
SEGMENTS_PER_PAGE: Final = PAGE_SIZE // SEGMENT_SIZE
_SEGMENT: Final = blkif_request_segment.codec(4)


class Segment(NamedTuple):
    """Part of a granted page: from sector `first` of the page up to and with `last`."""

    gref: int
    first: int
    last: int


class Transfer(NamedTuple):
    """A request whose segments are in the slot itself; there may be said to be more than fit."""

    id: int
    sector: int
    segment_count: int
    segments: Sequence[Segment]


class IndirectTransfer(NamedTuple):
    """A request whose segments are in pages of their own."""

    id: int
    sector: int
    segment_count: int
    operation: int
    pages: Sequence[int]


class Discard(NamedTuple):
    """A request to forget sectors."""

    id: int
    sector: int
    sector_count: int


class RequestLayout:
    """How requests and responses lie in slots, for guests whose long has `word` bytes."""

    def __init__(self, word: int) -> None:
        self.slot_size = blkif_sring.field_size("ring[0]", word)
        self._request = blkif_request.codec(word)
        self._discard = blkif_request_discard.codec(word)
        self._indirect = blkif_request_indirect.codec(word)
        self._response = blkif_response.codec(word)
        self._id = struct.Struct("<Q")
        self._id_at = blkif_request.offset("id", word)
        self._indirect_op_at = blkif_request_indirect.offset("indirect_op", word)

    def request_id(self, slot: bytes) -> int:
        """The front end's id of any request."""
        number: int = self._id.unpack_from(slot, self._id_at)[0]
        return number

    def transfer(self, slot: bytes) -> Transfer:
        """The slot as blkif_request."""
        _, count, _, number, sector, *segments = self._request.unpack_from(slot)
        found = map(Segment, segments[0::3], segments[1::3], segments[2::3])
        return Transfer(number, sector, count, list(found))

    def indirect(self, slot: bytes) -> IndirectTransfer:
        """The slot as blkif_request_indirect."""
        _, operation, count, number, sector, _, *rest = self._indirect.unpack_from(slot)
        pages = rest[:BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]
        return IndirectTransfer(number, sector, count, operation, pages)

    def discard(self, slot: bytes) -> Discard:
        """The slot as blkif_request_discard."""
        _, _, _, number, sector, count = self._discard.unpack_from(slot)
        return Discard(number, sector, count)

    def response(self, slot: bytes, status: int) -> bytes:
        """The response to the request in a slot, with a BLKIF_RSP_* status.

        An indirect request is answered as the operation that it stands for: so Linux's back end does, and
        its front end gives up a disk whose answers name another one.
        """
        operation = slot[self._indirect_op_at] if slot[0] == BLKIF_OP_INDIRECT else slot[0]
        return self._response.pack(self.request_id(slot), operation, status)


def indirect_segments(page: bytes) -> list[Segment]:
    """The segments in the bytes of an indirect page; these lie alike for all guests."""
    return [Segment(*fields) for fields in _SEGMENT.iter_unpack(page)]
