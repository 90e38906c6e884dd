"""Guest tables that the guest may write although they are shadowed: what their shadows were last made from.

A processor may remember entries of page tables until INVLPG or a load of CR3 tells it that they changed; so
may a shadow. While a guest table is out of sync, writes to it cost nothing, and the copy kept here tells
later which entries have changed.
"""

from collections.abc import Iterator
from typing import Final

from pvemu.memory.ram import Ram

_WORD: Final = 8


class OutOfSync:
    """The guest tables that are out of sync, the longest so first.

    Args:
        limit: how many there should be at most; `oldest` names the one that has to go.
    """

    def __init__(self, ram: Ram, limit: int) -> None:
        self._ram = ram
        self.limit = limit
        self._copies: dict[int, bytearray] = {}

    def __contains__(self, gfn: int) -> bool:
        return gfn in self._copies

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._copies))

    def __len__(self) -> int:
        return len(self._copies)

    def add(self, gfn: int, mfn: int) -> None:
        """A guest table may be written from now on."""
        self._copies[gfn] = bytearray(self._ram.frame(mfn))

    def oldest(self) -> int | None:
        """The guest table that has to be brought in sync before another can be out of it."""
        return None if len(self._copies) < self.limit else next(iter(self._copies))

    def forget(self, gfn: int) -> None:
        """A guest table is in sync again, or no table any more."""
        self._copies.pop(gfn, None)

    def entry(self, gfn: int, slot: int, size: int) -> int:
        """An entry of `size` bytes as the shadows know it."""
        return int.from_bytes(self._copies[gfn][slot * size : (slot + 1) * size], "little")

    def catch_up(self, gfn: int, mfn: int, slot: int, size: int) -> bool:
        """Take over one entry as it is now; whether it has changed."""
        place = slice(slot * size, (slot + 1) * size)
        now, copy = self._ram.frame(mfn)[place], self._copies[gfn]
        if now == copy[place]:
            return False
        copy[place] = now
        return True

    def changes(self, gfn: int, mfn: int) -> list[int]:
        """Offsets within the guest's frame, in bytes, of the 8-byte words that have changed."""
        frame, copy = self._ram.frame(mfn), self._copies[gfn]
        if bytes(frame) == copy:
            return []
        words = zip(frame.cast("Q").tolist(), memoryview(copy).cast("Q").tolist(), strict=True)
        return [_WORD * number for number, (new, old) in enumerate(words) if new != old]
