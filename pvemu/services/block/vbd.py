"""One virtual disk of a guest: connects to its front end's ring, and answers the requests there."""

from collections.abc import Callable, Mapping
from typing import Final

from pvemu.abi.blkif import VDISK_CDROM, VDISK_READONLY, VDISK_REMOVABLE
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.services.block.disk import PROTOCOLS, DiskSpec
from pvemu.services.block.executor import MAX_INDIRECT_SEGMENTS, Executor
from pvemu.services.block.image import SECTOR, Image
from pvemu.services.block.pages import GrantedPages
from pvemu.services.block.request import RequestLayout
from pvemu.services.mapped_ring import MappedRing
from pvemu.services.privcmd import Privcmd
from pvemu.services.ring import RingBroken
from pvemu.services.xenbus import CannotConnect, XenbusBackend

#: Rings have up to 2 to the power of this pages, as Linux's.
MAX_RING_PAGE_ORDER: Final = 4
_LAYOUTS: Final = {protocol: RequestLayout(word) for word, protocol in PROTOCOLS.items()}


class _Connection:
    """A ring with its event channel, and what executes the requests on it."""

    def __init__(
        self, ring: MappedRing, layout: RequestLayout, pages: GrantedPages, executor: Executor
    ) -> None:
        self.ring = ring
        self.port = 0
        self.layout = layout
        self.pages = pages
        self.executor = executor


class Vbd:
    """The driver of one disk (see services.xenbus.Driver).

    Args:
        word: of the guest, 4 or 8 bytes: the ring's layout, if the front end names none.
        close_image: whether the image goes when the device goes.
        warn: told when the image fails.
    """

    def __init__(
        self,
        privcmd: Privcmd,
        domid: int,
        spec: DiskSpec,
        image: Image,
        *,
        word: int,
        close_image: bool,
        warn: Callable[[str], None],
    ) -> None:
        self._privcmd = privcmd
        self._domid = domid
        self._spec = spec
        self._image = image
        self._own_protocol = PROTOCOLS[word]
        self._close_image = close_image
        self._warn = warn
        self._bus: XenbusBackend | None = None
        self._connection: _Connection | None = None

    def features(self) -> Mapping[str, str]:
        """What Linux's blkback publishes, discards only where the image can and the person wants them."""
        discard = int(self._image.discards and self._spec.discard)
        details = {"discard-granularity": str(SECTOR), "discard-alignment": "0", "discard-secure": "0"}
        return {
            "feature-max-indirect-segments": str(MAX_INDIRECT_SEGMENTS),
            "multi-queue-max-queues": "1",
            "max-ring-page-order": str(MAX_RING_PAGE_ORDER),
            "feature-flush-cache": "1",
            **(details if discard else {}),
            "feature-discard": str(discard),
            "feature-barrier": "1",
            "feature-persistent": "1",
        }

    def connect(self, bus: XenbusBackend) -> Mapping[str, str]:
        """Map the ring and bind the event channel; the disk's properties."""
        queues = bus.front_number("multi-queue-num-queues", default=1)
        if queues != 1:
            raise CannotConnect(Errno.ENOSYS, f"guest requested {queues} queues, exceeding the maximum of 1")
        protocol = bus.front_text("protocol") or self._own_protocol
        layout = _LAYOUTS.get(protocol)
        if layout is None:
            raise CannotConnect(Errno.ENOSYS, f"unknown fe protocol {protocol[:40]}")
        port = bus.front_number("event-channel")
        ring = MappedRing(self._privcmd, self._domid, _ring_references(bus), layout.slot_size)
        pages = GrantedPages(self._privcmd, self._domid, persistent=bus.front_flag("feature-persistent"))
        executor = Executor(self._image, pages, layout, discard=self._spec.discard, warn=self._warn)
        connection = _Connection(ring, layout, pages, executor)
        try:
            connection.port = self._privcmd.bind_interdomain(self._domid, port, self._serve)
        except HypercallError as refused:
            ring.unmap()
            raise CannotConnect(refused.errno, f"binding event-channel {port}") from refused
        self._bus, self._connection = bus, connection
        return {
            "sectors": str(self._image.size // SECTOR),
            "info": str(self._info()),
            "sector-size": str(SECTOR),
            "physical-sector-size": str(SECTOR),
        }

    def connected(self) -> None:
        """Serve what is on the ring already."""
        self._serve()

    def disconnect(self) -> None:
        """Free the event channel, and give back every page of the guest's."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._privcmd.close_port(connection.port)
            connection.pages.unmap()
            connection.ring.unmap()

    def close(self) -> None:
        """Close the image, if it is ours."""
        if self._close_image:
            self._image.close()

    def _info(self) -> int:
        drive = VDISK_CDROM | VDISK_REMOVABLE if self._spec.cdrom else 0
        return drive | (0 if self._image.writable else VDISK_READONLY)

    def _serve(self) -> None:
        connection = self._connection
        if connection is None:
            return
        ring, layout = connection.ring, connection.layout
        try:
            for slot in ring.take_all():
                ring.respond(layout.response(slot, connection.executor.execute(slot)))
            if ring.push():
                self._privcmd.notify(connection.port)
            ring.ask_for_event()
        except RingBroken as broken:
            assert self._bus is not None
            self._bus.fail(Errno.EACCES, f"bogus ring: {broken}")


def _ring_references(bus: XenbusBackend) -> list[int]:
    """The grant references of the ring's pages, by the names that the front end's kind of ring gives them."""
    if bus.front_text("ring-page-order") is None:
        return [bus.front_number("ring-ref")]
    order = bus.front_number("ring-page-order")
    if order > MAX_RING_PAGE_ORDER:
        raise CannotConnect(
            Errno.EINVAL, f"requested ring page order {order} exceeds maximum {MAX_RING_PAGE_ORDER}"
        )
    if order == 0 and bus.front_text("ring-ref0") is None:
        return [bus.front_number("ring-ref")]
    return [bus.front_number(f"ring-ref{index}") for index in range(1 << order)]
