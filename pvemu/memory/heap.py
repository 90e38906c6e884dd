"""The frame allocator: hands out free frames in a defined order, lowest first, and scrubs what comes back."""

from pvemu.memory.frames import Frames
from pvemu.memory.ram import Ram


class OutOfFrames(Exception):
    """No free frames (or no run of free frames) of the size asked for."""


class Heap:
    """The free frames of one range of machine memory.

    Args:
        first, end: the range, from machine frame `first` up to but not including `end`.
    """

    def __init__(self, ram: Ram, frames: Frames, first: int, end: int) -> None:
        self._ram = ram
        self._frames = frames
        self.first, self.end = first, end
        self._free = bytearray(b"\x01") * (end - first)
        self._lowest = 0
        self.free_frames = end - first

    def allocate(self, domid: int, order: int = 0, *, below: int | None = None) -> int:
        """Take 2**order frames, aligned to their number, for a domain; the first mfn.

        Args:
            below: the machine frame number that all of them have to stay below.

        Raises:
            OutOfFrames: there is no such run of free frames.
        """
        number = 1 << order
        run = b"\x01" * number
        end = len(self._free) if below is None else max(below - self.first, 0)
        at = self._free.find(run, self._lowest, end)
        while at >= 0 and (self.first + at) % number:
            at = self._free.find(run, at + number - (self.first + at) % number, end)
        if at < 0:
            raise OutOfFrames
        self._free[at : at + number] = bytes(number)
        self.free_frames -= number
        if at == self._lowest:
            self._lowest = at + number
        for mfn in range(self.first + at, self.first + at + number):
            self._frames.assign(mfn, domid)
        return self.first + at

    def free_between(self, first: int, end: int) -> int:
        """How many of the frames from `first` up to but not including `end` are free."""
        return self._free.count(1, max(first - self.first, 0), max(end - self.first, 0))

    def free(self, mfn: int, *, is_zeroed: bool = False) -> None:
        """Take a frame back; nothing of what it held can be seen by its next owner.

        Args:
            is_zeroed: it holds nothing; to touch it would cost the host a page if nobody ever did.
        """
        self._frames.release(mfn)
        if not is_zeroed:
            self._ram.clear(mfn)
        self._free[mfn - self.first] = 1
        self._lowest = min(self._lowest, mfn - self.first)
        self.free_frames += 1
