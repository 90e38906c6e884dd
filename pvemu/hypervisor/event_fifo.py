"""Events in queues: an array of event words, and for each vCPU a control block with 16 queue heads.

Each word is an entry of a linked list in the guest's memory; the hypervisor appends, the guest removes.
What is in these pages is the guest's to spoil: every link and tail is looked up with its bounds checked,
and a list that the guest has broken loses events of its own and nothing else. Public header
event_channel.h, "FIFO ABI".
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.event_channel import (
    EVTCHN_FIFO_BUSY,
    EVTCHN_FIFO_LINK_BITS,
    EVTCHN_FIFO_LINK_MASK,
    EVTCHN_FIFO_LINKED,
    EVTCHN_FIFO_MASKED,
    EVTCHN_FIFO_MAX_QUEUES,
    EVTCHN_FIFO_NR_CHANNELS,
    EVTCHN_FIFO_PENDING,
    EVTCHN_FIFO_PRIORITY_DEFAULT,
    EVTCHN_FIFO_PRIORITY_MIN,
    evtchn_fifo_control_block,
)
from pvemu.hypervisor.guest_page import get_guest_page, put_guest_page
from pvemu.hypervisor.upcall import mark_events_pending, wake_pollers
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_WORDS_PER_PAGE: Final = PAGE_SIZE // 4
_MOST_PAGES: Final = EVTCHN_FIFO_NR_CHANNELS // _WORDS_PER_PAGE
_PENDING, _MASKED, _LINKED = 1 << EVTCHN_FIFO_PENDING, 1 << EVTCHN_FIFO_MASKED, 1 << EVTCHN_FIFO_LINKED
_BUSY: Final = 1 << EVTCHN_FIFO_BUSY
#: Bits of a tail's word that change when the next event is linked behind it.
_REPLACED: Final = _BUSY | EVTCHN_FIFO_LINK_MASK
_BLOCK_SIZE: Final = evtchn_fifo_control_block.size(4)
_BLOCK_ALIGNMENT: Final = 8
_READY: Final = evtchn_fifo_control_block.offset("ready", 4)
_HEAD: Final = evtchn_fifo_control_block.offset("head", 4)


@dataclass
class _Queues:
    """The queues of one vCPU: where its control block is in machine memory, and each queue's last port."""

    block: int | None = None
    tails: list[int] = field(default_factory=lambda: [0] * EVTCHN_FIFO_MAX_QUEUES)


class Fifo:
    """The queues of one domain."""

    limit = EVTCHN_FIFO_NR_CHANNELS

    def __init__(self, domain: "Domain") -> None:
        self._domain = domain
        self._u32 = domain.hypervisor.ram.u32
        self._pages: list[int] = []
        self._queues = [_Queues() for _ in domain.vcpus]

    # --- the guest's pages -----------------------------------------------------------------------

    def add_control_block(self, vcpu_id: int, mfn: int, offset: int) -> None:
        """Use a vCPU's control block; raises HypercallError(EINVAL): it has one, or not a frame for it."""
        queues = self._queues[vcpu_id]
        if queues.block is not None:
            raise HypercallError(Errno.EINVAL)
        queues.block = (get_guest_page(self._domain, mfn) << PAGE_SHIFT) + offset

    def add_page(self, mfn: int) -> None:
        """Lengthen the event array, and ring what was rung before there was a word for it.

        Raises:
            HypercallError: ENOSPC, the array has all its pages; EINVAL, not a frame for that.
        """
        if len(self._pages) >= _MOST_PAGES:
            raise HypercallError(Errno.ENOSPC)
        first = len(self._pages) * _WORDS_PER_PAGE
        self._pages.append(get_guest_page(self._domain, mfn))
        channels = self._domain.channels
        for port in range(first, min(first + _WORDS_PER_PAGE, len(channels))):
            if channels[port].raised_early:
                self.set_pending(port)

    def destroy(self) -> None:
        """Give all pages back."""
        for mfn in self._held():
            put_guest_page(self._domain, mfn)
        self._pages, self._queues = [], [_Queues() for _ in self._queues]

    def _held(self) -> Iterator[int]:
        yield from self._pages
        yield from (queues.block >> PAGE_SHIFT for queues in self._queues if queues.block is not None)

    # --- delivery --------------------------------------------------------------------------------

    def _word(self, port: int) -> int | None:
        """Where a port's word is, as an index of 32-bit words of RAM; None beyond the array."""
        page, index = divmod(port, _WORDS_PER_PAGE)
        return (self._pages[page] << PAGE_SHIFT - 2) + index if page < len(self._pages) else None

    def set_pending(self, port: int) -> None:
        """Mark a port pending; append it to its queue unless it is masked or in a queue already."""
        at, domain, u32 = self._word(port), self._domain, self._u32
        bound = domain.channels[port]
        if at is None:
            bound.raised_early = True
            return
        queues = self._queues[bound.vcpu]
        if queues.block is None:
            return  # the vCPU has no queues yet: a guest may not unmask before it has given it some
        word = u32[at]
        was_pending = word & _PENDING
        word |= _PENDING
        u32[at] = word
        if not word & (_MASKED | _LINKED):
            u32[at] = word | _LINKED
            self._append(port, queues)
        if not was_pending and domain.polling:
            wake_pollers(domain, port)

    def _append(self, port: int, queues: _Queues) -> None:
        """Link a port behind the last one of its queue; a queue that was empty is announced."""
        domain, u32 = self._domain, self._u32
        bound = domain.channels[port]
        old = self._queues[bound.last_vcpu]
        if old.tails[bound.last_priority] == port:
            # It was the end of a queue that has been emptied, and must not be linked to there any more.
            old.tails[bound.last_priority] = 0
        priority = bound.priority
        bound.last_vcpu, bound.last_priority = bound.vcpu, priority
        tail, queues.tails[priority] = queues.tails[priority], port
        last = self._word(tail) if tail else None
        if last is not None and u32[last] & _LINKED:
            u32[last] = u32[last] & ~_REPLACED | port
            return
        assert queues.block is not None
        u32[(queues.block + _HEAD >> 2) + priority] = port
        ready = queues.block + _READY >> 2
        if not u32[ready] & 1 << priority:
            u32[ready] |= 1 << priority
            mark_events_pending(domain.vcpus[bound.vcpu])

    def clear_pending(self, port: int) -> None:
        """Clear a port's bit; it stays in its queue until the guest takes it out."""
        at = self._word(port)
        if at is not None:
            self._u32[at] &= ~_PENDING

    def unmask(self, port: int) -> None:
        """Clear a port's mask; a pending one goes into its queue."""
        at = self._word(port)
        if at is not None:
            self._u32[at] &= ~_MASKED
            if self._u32[at] & _PENDING:
                self.set_pending(port)

    def is_pending(self, port: int) -> bool:
        """Whether a port's bit is set."""
        at = self._word(port)
        return at is not None and bool(self._u32[at] & _PENDING)

    def is_busy(self, port: int) -> bool:
        """Whether the guest has a port in a queue."""
        at = self._word(port)
        return at is not None and bool(self._u32[at] & _LINKED)

    def bind(self, port: int) -> None:
        """A new port has the default priority."""
        self._domain.channels[port].priority = EVTCHN_FIFO_PRIORITY_DEFAULT

    def set_priority(self, port: int, priority: int) -> None:
        """Choose the queue for events to come; raises HypercallError(EINVAL)."""
        if priority > EVTCHN_FIFO_PRIORITY_MIN:
            raise HypercallError(Errno.EINVAL)
        self._domain.channels[port].priority = priority


def init_control(domain: "Domain", vcpu_id: int, mfn: int, offset: int) -> int:
    """Give a vCPU its control block; with the first one the domain's events go into queues. The link bits.

    Raises:
        HypercallError: ENOENT, no such vCPU; EINVAL, the offset does not fit or is not a multiple of 8, the
            frame is not the domain's to write, or the vCPU has a block already.
    """
    if vcpu_id >= len(domain.vcpus):
        raise HypercallError(Errno.ENOENT)
    if offset > PAGE_SIZE - _BLOCK_SIZE or offset % _BLOCK_ALIGNMENT:
        raise HypercallError(Errno.EINVAL)
    if isinstance(domain.events, Fifo):
        domain.events.add_control_block(vcpu_id, mfn, offset)
    else:
        fifo = Fifo(domain)
        fifo.add_control_block(vcpu_id, mfn, offset)
        for port, bound in enumerate(domain.channels):
            if port and port < domain.events.limit:
                bound.raised_early |= domain.events.is_pending(port)
                bound.priority = EVTCHN_FIFO_PRIORITY_DEFAULT
        domain.events = fifo
    return EVTCHN_FIFO_LINK_BITS


def expand_array(domain: "Domain", mfn: int) -> int:
    """Add a page to the event array.

    Raises:
        HypercallError: EOPNOTSUPP, events are bits; ENOSPC; EINVAL, not a frame of the domain's to write.
    """
    if not isinstance(domain.events, Fifo):
        raise HypercallError(Errno.EOPNOTSUPP)
    domain.events.add_page(mfn)
    return 0
