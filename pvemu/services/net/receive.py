"""The ring on which a guest receives: queues frames for it, and copies them into the pages that it offers."""

from collections import deque
from typing import Final

from pvemu.abi.errors import GrantRefused
from pvemu.abi.netif import (
    NETIF_RSP_ERROR,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_NONE,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
    netif_extra_info,
    netif_rx_request,
    netif_rx_response,
    netif_rx_sring,
)
from pvemu.services.net.frame import Frame
from pvemu.services.privcmd import Privcmd
from pvemu.services.ring import PAGE_SIZE, BackRing

SLOT_SIZE: Final = netif_rx_sring.field_size("ring[0]", 4)
#: Bytes of frames that wait for a guest, half a ring's pages as with Linux; then more are dropped.
QUEUE_BYTES: Final = 512 * 1024
#: What a small frame counts for, so that there are never many.
_LEAST_CHARGE: Final = 256
_REQUEST: Final = netif_rx_request.codec(4)
_RESPONSE: Final = netif_rx_response.codec(4)


class ReceiveRing:
    """Gives frames to a guest, in order.

    Args:
        queueing: the guest tells us when it offers new pages (feature-rx-notify); else a frame for which
            there is no page is dropped.
    """

    def __init__(self, privcmd: Privcmd, domid: int, ring: BackRing, *, queueing: bool) -> None:
        self._privcmd = privcmd
        self._domid = domid
        self._ring = ring
        self._queueing = queueing
        self._queue: deque[Frame] = deque()
        self._queued = 0

    def put(self, frame: Frame) -> bool:
        """Queue a frame; False if there is no room for it."""
        if self._queued + _charge(frame) > QUEUE_BYTES:
            return False
        self._queue.append(frame)
        self._queued += _charge(frame)
        return True

    def move(self) -> bool:
        """Move frames to the guest while it offers pages; whether there are responses (see `BackRing.push`).

        Raises:
            RingBroken: the front end's indexes can't be.
        """
        moved = False
        while self._queue:
            frame = self._queue[0]
            if self._ring.ask_for_event(_slots(frame)):
                self._give(frame)
                moved = True
            elif self._queueing:
                break
            self._queue.popleft()
            self._queued -= _charge(frame)
        return moved

    def _give(self, frame: Frame) -> None:
        """Copy a frame into as many pages as it needs; each response is where its request was."""
        for start in range(0, len(frame.data), PAGE_SIZE):
            piece = frame.data[start : start + PAGE_SIZE]
            flags = NETRXF_more_data if start + PAGE_SIZE < len(frame.data) else 0
            if not start:
                flags |= _first_flags(frame)
            number, _, reference = _REQUEST.unpack(self._ring.take())
            try:
                self._privcmd.copy_to_grant(self._domid, reference, 0, piece)
                status = len(piece)
            except GrantRefused:
                status = NETIF_RSP_ERROR
            self._ring.respond(_RESPONSE.pack(number, 0, flags, status))
            if flags & NETRXF_extra_info:
                self._ring.take()
                self._ring.respond(_gso_info(frame))


def _charge(frame: Frame) -> int:
    return max(len(frame.data), _LEAST_CHARGE)


def _slots(frame: Frame) -> int:
    return -(-len(frame.data) // PAGE_SIZE) + (frame.gso_type != XEN_NETIF_GSO_TYPE_NONE)


def _first_flags(frame: Frame) -> int:
    flags = NETRXF_extra_info if frame.gso_type != XEN_NETIF_GSO_TYPE_NONE else 0
    if frame.checksum_blank:
        flags |= NETRXF_csum_blank | NETRXF_data_validated
    elif frame.validated:
        flags |= NETRXF_data_validated
    return flags


def _gso_info(frame: Frame) -> bytes:
    gso = {"size": frame.gso_size, "type": frame.gso_type}
    return netif_extra_info.pack(4, type=XEN_NETIF_EXTRA_TYPE_GSO, u={"gso": gso})
