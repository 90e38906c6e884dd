"""A front end's granted pages, to read and write: copied, or mapped once and kept (feature-persistent)."""

from typing import Final

from pvemu.services.privcmd import Privcmd

#: Pages of one disk that stay mapped: those of 32 requests with 11 segments, three times; as Linux has it.
MAX_PERSISTENT: Final = 1056


class GrantedPages:
    """Access to the data pages of one front end. Each method raises GrantRefused.

    Args:
        persistent: both ends have agreed that grants are used again and again; they are then mapped for
            writing when they are first seen, and kept up to MAX_PERSISTENT.
    """

    def __init__(self, privcmd: Privcmd, domid: int, *, persistent: bool) -> None:
        self._privcmd = privcmd
        self._domid = domid
        self._persistent = persistent
        self._mapped: dict[int, tuple[int, memoryview]] = {}

    def read(self, reference: int, offset: int, size: int) -> bytes:
        """Bytes out of a page; offset and size are inside it."""
        page = self._page(reference)
        if page is None:
            return self._privcmd.copy_from_grant(self._domid, reference, offset, size)
        return bytes(page[offset : offset + size])

    def write(self, reference: int, offset: int, data: bytes) -> None:
        """Bytes into a page; they end inside it."""
        page = self._page(reference)
        if page is None:
            self._privcmd.copy_to_grant(self._domid, reference, offset, data)
        else:
            page[offset : offset + len(data)] = data

    def unmap(self) -> None:
        """Give all pages back that were kept."""
        for handle, _ in self._mapped.values():
            self._privcmd.unmap_grant(handle)
        self._mapped.clear()

    def _page(self, reference: int) -> memoryview | None:
        known = self._mapped.get(reference)
        if known is None:
            if not self._persistent or len(self._mapped) >= MAX_PERSISTENT:
                return None
            known = self._mapped[reference] = self._privcmd.map_grant(self._domid, reference, writable=True)
        return known[1]
