"""A front end's ring, mapped by its grant references for as long as a connection lasts."""

from collections.abc import Sequence

from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused
from pvemu.services.privcmd import Privcmd
from pvemu.services.ring import BackRing, RingBroken
from pvemu.services.xenbus import CannotConnect


class MappedRing(BackRing):
    """The back half of a ring whose pages a guest grants.

    Args:
        references: grant references of the pages in order.
        slot_size: bytes of a slot.

    Raises:
        CannotConnect: a page is not granted for writing, or the ring's counters can't be.
    """

    def __init__(self, privcmd: Privcmd, domid: int, references: Sequence[int], slot_size: int) -> None:
        self._privcmd = privcmd
        self._handles: list[int] = []
        pages: list[memoryview] = []
        try:
            for reference in references:
                handle, page = privcmd.map_grant(domid, reference, writable=True)
                self._handles.append(handle)
                pages.append(page)
            super().__init__(pages, slot_size)
        except GrantRefused as refused:
            self.unmap()
            raise CannotConnect(
                Errno.EINVAL, f"mapping ring-ref {reference}: grant status {refused.status}"
            ) from refused
        except RingBroken as broken:
            self.unmap()
            raise CannotConnect(Errno.EIO, str(broken)) from broken

    def unmap(self) -> None:
        """Give the pages back; the ring must not be used any more."""
        for handle in self._handles:
            self._privcmd.unmap_grant(handle)
        self._handles.clear()
