"""Carries out block requests: checks each against the disk, moves the data, and says how it went."""

from collections.abc import Callable, Sequence
from typing import Final

from pvemu.abi.blkif import (
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE,
    BLKIF_OP_INDIRECT,
    BLKIF_OP_READ,
    BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER,
    BLKIF_RSP_EOPNOTSUPP,
    BLKIF_RSP_ERROR,
    BLKIF_RSP_OKAY,
)
from pvemu.abi.errors import GrantRefused
from pvemu.services.block.image import SECTOR, Image, ImageError
from pvemu.services.block.pages import GrantedPages
from pvemu.services.block.request import (
    SECTORS_PER_PAGE,
    SEGMENT_SIZE,
    SEGMENTS_PER_PAGE,
    RequestLayout,
    Segment,
    indirect_segments,
)

#: Segments of one indirect request, as Linux has it: 1 MiB of data.
MAX_INDIRECT_SEGMENTS: Final = 256


class BadRequest(Exception):
    """A request that can't be meant."""


class Executor:
    """Executes the requests of one connection, one by one, each done when `execute` returns.

    Args:
        warn: told about failures of the image, once in a row.
    """

    def __init__(
        self,
        image: Image,
        pages: GrantedPages,
        layout: RequestLayout,
        *,
        discard: bool,
        warn: Callable[[str], None],
    ) -> None:
        self._image = image
        self._pages = pages
        self._layout = layout
        self._discard = discard and image.discards
        self._warn = warn
        self._warned = ""

    def execute(self, slot: bytes) -> int:
        """Do what a slot asks for; the BLKIF_RSP_* of it."""
        operation = _OPERATIONS.get(slot[0])
        if operation is None:
            return BLKIF_RSP_EOPNOTSUPP
        try:
            return operation(self, slot)
        except (BadRequest, GrantRefused):
            return BLKIF_RSP_ERROR
        except ImageError as cause:
            if str(cause) != self._warned:
                self._warned = str(cause)
                self._warn(self._warned)
            return BLKIF_RSP_ERROR

    def _read(self, slot: bytes) -> int:
        transfer = self._layout.transfer(slot)
        segments = _direct(transfer.segment_count, transfer.segments)
        return self._read_segments(transfer.sector, segments)

    def _write(self, slot: bytes) -> int:
        transfer = self._layout.transfer(slot)
        segments = _direct(transfer.segment_count, transfer.segments)
        return self._write_segments(transfer.sector, segments)

    def _write_after_flush(self, slot: bytes) -> int:
        """Both need no segments; a barrier's own data must be safe before what follows, too."""
        transfer = self._layout.transfer(slot)
        self._check_writable()
        segments = _direct(transfer.segment_count, transfer.segments, least=0)
        self._check_range(transfer.sector, _length(segments))
        self._image.flush()
        if segments:
            self._write_segments(transfer.sector, segments)
            if slot[0] == BLKIF_OP_WRITE_BARRIER:
                self._image.flush()
        return BLKIF_RSP_OKAY

    def _discard_sectors(self, slot: bytes) -> int:
        request = self._layout.discard(slot)
        self._check_writable()
        self._check_range(request.sector, request.sector_count)
        if not self._discard:
            return BLKIF_RSP_EOPNOTSUPP
        self._image.discard(request.sector * SECTOR, request.sector_count * SECTOR)
        return BLKIF_RSP_OKAY

    def _indirect(self, slot: bytes) -> int:
        request = self._layout.indirect(slot)
        move = _INDIRECT.get(request.operation)
        if move is None or not 0 < request.segment_count <= MAX_INDIRECT_SEGMENTS:
            raise BadRequest
        segments: list[Segment] = []
        for page in request.pages[: -(-request.segment_count // SEGMENTS_PER_PAGE)]:
            count = min(request.segment_count - len(segments), SEGMENTS_PER_PAGE)
            segments += indirect_segments(self._pages.read(page, 0, count * SEGMENT_SIZE))
        return move(self, request.sector, segments)

    def _read_segments(self, sector: int, segments: Sequence[Segment]) -> int:
        length = _length(segments)
        self._check_range(sector, length)
        data = self._image.read(sector * SECTOR, length * SECTOR)
        position = 0
        for segment in segments:
            end = position + (segment.last - segment.first + 1) * SECTOR
            self._pages.write(segment.gref, segment.first * SECTOR, data[position:end])
            position = end
        return BLKIF_RSP_OKAY

    def _write_segments(self, sector: int, segments: Sequence[Segment]) -> int:
        self._check_writable()
        self._check_range(sector, _length(segments))
        # All is read before anything is written: a request whose grants are bad leaves the disk as it was.
        data = b"".join(
            self._pages.read(gref, first * SECTOR, (last - first + 1) * SECTOR)
            for gref, first, last in segments
        )
        self._image.write(sector * SECTOR, data)
        return BLKIF_RSP_OKAY

    def _check_writable(self) -> None:
        if not self._image.writable:
            raise BadRequest

    def _check_range(self, sector: int, length: int) -> None:
        if length and (sector + length) * SECTOR > self._image.size:
            raise BadRequest


def _direct(count: int, segments: Sequence[Segment], least: int = 1) -> Sequence[Segment]:
    if not least <= count <= BLKIF_MAX_SEGMENTS_PER_REQUEST:
        raise BadRequest
    return segments[:count]


def _length(segments: Sequence[Segment]) -> int:
    """Sectors in all of the segments, none of which may be empty or leave its page."""
    if any(not first <= last < SECTORS_PER_PAGE for _, first, last in segments):
        raise BadRequest
    return sum(last - first + 1 for _, first, last in segments)


_OPERATIONS: Final[dict[int, Callable[[Executor, bytes], int]]] = {
    BLKIF_OP_READ: Executor._read,
    BLKIF_OP_WRITE: Executor._write,
    BLKIF_OP_WRITE_BARRIER: Executor._write_after_flush,
    BLKIF_OP_FLUSH_DISKCACHE: Executor._write_after_flush,
    BLKIF_OP_DISCARD: Executor._discard_sectors,
    BLKIF_OP_INDIRECT: Executor._indirect,
}
_INDIRECT: Final[dict[int, Callable[[Executor, int, Sequence[Segment]], int]]] = {
    BLKIF_OP_READ: Executor._read_segments,
    BLKIF_OP_WRITE: Executor._write_segments,
}
