"""The back half of a shared ring (public header io/ring.h): requests come in, responses go out."""

from collections.abc import Iterator, Sequence
from typing import Final

from pvemu.abi.blkif import blkif_sring

PAGE_SIZE: Final = 4096
_WRAP: Final = 0xFFFFFFFF
# All rings begin alike: word indexes of the four counters, then slots from the same offset on.
_REQ_PROD, _REQ_EVENT, _RSP_PROD, _RSP_EVENT = (
    blkif_sring.offset(name, 4) >> 2 for name in ("req_prod", "req_event", "rsp_prod", "rsp_event")
)
_SLOTS: Final = blkif_sring.offset("ring", 4)


class RingBroken(Exception):
    """The front end's indexes can't be: what is on the ring has no meaning any more."""


class BackRing:
    """The ring of one front end, as its back end sees it.

    Requests are copied off the ring before they are looked at, and both of the back end's own counters are
    kept here: nothing that the front end writes moves them.

    Args:
        pages: the ring's pages in order, 4096 bytes each; a slot may lie across two of them.
        slot_size: bytes of a slot, which is the larger of a request and a response.

    Raises:
        RingBroken: the front end begins with more requests than there are slots.
    """

    def __init__(self, pages: Sequence[memoryview], slot_size: int) -> None:
        self._pages = pages
        self._counters = pages[0][:_SLOTS].cast("I")
        self._slot_size = slot_size
        slots = (len(pages) * PAGE_SIZE - _SLOTS) // slot_size
        #: Number of slots, a power of two (RING_SIZE).
        self.size = 1 << (slots.bit_length() - 1)
        # Answered requests are behind us, when a ring is taken over; those in flight come again.
        self._responded = self._pushed = self._consumed = self._counters[_RSP_PROD]
        self._check()

    def waiting(self) -> int:
        """How many requests are there to take.

        Raises:
            RingBroken: the producer is further ahead than there are slots, or behind what was taken.
        """
        return self._check()

    def take(self) -> bytes:
        """A copy of the next slot, which there must be (see `waiting`)."""
        slot = self._read(self._consumed)
        self._consumed = (self._consumed + 1) & _WRAP
        return slot

    def take_all(self) -> Iterator[bytes]:
        """Take what is waiting now; what comes on the ring meanwhile is left for the next event.

        That bounds the work of one event by the ring's size, even if a request makes the back end itself
        write new requests: the page of a ring may be granted for data, too.
        """
        for _ in range(self._check()):
            yield self.take()

    def respond(self, response: bytes) -> None:
        """Put a response into the next slot; the front end sees it after `push`."""
        self._write(self._responded, response)
        self._responded = (self._responded + 1) & _WRAP

    def push(self) -> bool:
        """Show the front end the responses; whether it asked to be notified of one of them."""
        fresh = (self._responded - self._pushed) & _WRAP
        self._counters[_RSP_PROD] = self._pushed = self._responded
        return ((self._responded - self._counters[_RSP_EVENT]) & _WRAP) < fresh

    def ask_for_event(self, more: int = 1) -> bool:
        """Ask to be notified when so many more requests are there; whether some are there already."""
        self._counters[_REQ_EVENT] = (self._consumed + more) & _WRAP
        return self._check() >= more

    def _check(self) -> int:
        # RING_REQUEST_PROD_OVERFLOW: a front end may have as many requests unanswered as there are slots, and
        # it can't take back what was taken off the ring.
        produced = self._counters[_REQ_PROD]
        unanswered, taken = (produced - self._responded) & _WRAP, (self._consumed - self._responded) & _WRAP
        if not taken <= unanswered <= self.size:
            raise RingBroken(f"req_prod {produced:#x} with {self._responded:#x} answered, {self.size} slots")
        return unanswered - taken

    def _place(self, counter: int) -> tuple[int, int]:
        return divmod(_SLOTS + (counter & (self.size - 1)) * self._slot_size, PAGE_SIZE)

    def _read(self, counter: int) -> bytes:
        page, offset = self._place(counter)
        first = self._pages[page][offset : offset + self._slot_size]
        missing = self._slot_size - len(first)
        return bytes(first) + bytes(self._pages[page + 1][:missing]) if missing else bytes(first)

    def _write(self, counter: int, slot: bytes) -> None:
        page, offset = self._place(counter)
        first = min(len(slot), PAGE_SIZE - offset)
        self._pages[page][offset : offset + first] = slot[:first]
        if first < len(slot):
            self._pages[page + 1][: len(slot) - first] = slot[first:]
