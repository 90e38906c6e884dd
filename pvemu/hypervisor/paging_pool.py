"""The paging pool of a domain: machine frames that are set aside for the page tables that Xen makes for it.

A domain that needs such tables (shadow tables, nested tables, copies of descriptor tables) gets its pool when
it is made, or is not made at all. So whatever other domains do with the machine's memory, it can get on; and
whatever it does itself, it takes no more than its pool.
"""

from collections.abc import Callable
from typing import Final

from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import Ram

FRAMES_A_MIB: Final = 256
#: The size, as Xen's tools reckon (xl.cfg: shadow_memory): 1 MiB a vCPU, and 1 in 128 of the guest's frames.
_FRAMES_A_VCPU: Final = 256
_GUEST_FRAMES_A_FRAME: Final = 128
#: The least (Xen: shadow_min_acceptable_pages). An instruction touches some thirty pages at most, each below
#: three tables; and as many frames again are for copies of descriptor tables, and roots of other vCPUs.
LEAST_FRAMES_A_VCPU: Final = 128


def usual_size(vcpus: int, pages: int) -> int:
    """Frames in the pool of a domain of which nobody has said otherwise.

    Args:
        pages: frames that the domain may have.
    """
    return vcpus * _FRAMES_A_VCPU + pages // _GUEST_FRAMES_A_FRAME


class PagingPool:
    """The frames of one pool; `len` says how many, whether in use or not.

    Args:
        allocate, free: one zeroed machine frame; `allocate` may raise OutOfFrames.
    """

    def __init__(self, ram: Ram, allocate: Callable[[], int], free: Callable[[int], None]) -> None:
        self._ram = ram
        self._allocate, self._free = allocate, free
        self._frames: set[int] = set()
        self._spare: list[int] = []

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def spare(self) -> int:
        """How many frames are not in use."""
        return len(self._spare)

    @property
    def mib(self) -> int:
        """The size in MiB, rounded up."""
        return -(-len(self._frames) // FRAMES_A_MIB)

    def take(self) -> int:
        """A zeroed frame of the pool; raises OutOfFrames when all are in use."""
        if not self._spare:
            raise OutOfFrames
        return self._spare.pop()

    def put_back(self, mfn: int) -> None:
        """A frame is in use no more; the caller sees to it that the processor does not walk it."""
        self._ram.clear(mfn)
        self._spare.append(mfn)

    def resize(self, size: int) -> None:
        """Have so many frames; the caller has seen to it that those to go are spare.

        Raises:
            OutOfFrames: the machine has not so many. Those that it had are in the pool (as in Xen's).
        """
        while len(self._frames) < size:
            mfn = self._allocate()
            self._frames.add(mfn)
            self._spare.append(mfn)
        while len(self._frames) > size:
            mfn = self._spare.pop()
            self._frames.remove(mfn)
            self._free(mfn)

    def release(self) -> None:
        """Give all frames back, those in use included: no processor will walk them any more."""
        for mfn in self._frames.difference(self._spare):
            self._ram.clear(mfn)
        for mfn in self._frames:
            self._free(mfn)
        self._frames.clear()
        self._spare.clear()
