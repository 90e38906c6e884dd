"""The dirty log: which frames have been written since the log was last cleaned."""

from collections.abc import Iterable


class DirtyLog:
    """A set of written frames (gfns), and how often it grew.

    Attributes:
        frames: those written since the last cleaning.
        faults: how many page faults were dealt with since then.
    """

    def __init__(self) -> None:
        self.frames: set[int] = set()
        self.faults = 0

    def __contains__(self, gfn: int) -> bool:
        return gfn in self.frames

    def mark(self, gfn: int) -> None:
        """A frame is written."""
        self.frames.add(gfn)

    def clean(self) -> set[int]:
        """Begin anew; the frames that had been written."""
        frames, self.frames, self.faults = self.frames, set(), 0
        return frames


def bitmap_of(pages: Iterable[int], number: int) -> bytes:
    """The first `number` pages as a bitmap in whole bytes; the lowest page is the lowest bit of the first."""
    found = bytearray(number + 7 >> 3)
    for page in pages:
        if page >> 3 < len(found):
            found[page >> 3] |= 1 << (page & 7)
    return bytes(found)
