"""Guesses that a guest table is none any more, from how the guest writes to it."""

from typing import Final

#: How many bytes somebody writes at once who changes an entry.
_SIZES: Final = (1, 2, 4, 8)
#: Writes without any use of the table in between: it is being filled, or is data now.
_MANY_WRITES: Final = 32
#: Zeros in a row: the page is being cleared for something else.
_MANY_ZEROS: Final = 4


class WriteHistory:
    """The writes to each shadowed guest table since it was last used to translate an address."""

    def __init__(self) -> None:
        self._writes: dict[int, int] = {}
        self._zeros: dict[int, int] = {}

    def used(self, gfn: int) -> None:
        """A table was used."""
        if self._writes:
            self.forget(gfn)

    def forget(self, gfn: int) -> None:
        """There is no such table any more."""
        self._writes.pop(gfn, None)
        self._zeros.pop(gfn, None)

    def suspects(self, gfn: int, offset: int, data: bytes) -> bool:
        """Note a write; whether the page is probably no table.

        Nobody writes entries across their borders: a write of another size, or not aligned to it, is to data.
        """
        writes = self._writes[gfn] = self._writes.get(gfn, 0) + 1
        zeros = self._zeros[gfn] = 0 if any(data) else self._zeros.get(gfn, 0) + 1
        misplaced = len(data) not in _SIZES or offset % len(data) > 0
        return misplaced or writes >= _MANY_WRITES or zeros >= _MANY_ZEROS
