"""XENMEM_exchange: a domain gives frames back and gets as many others, in extents of another size."""

from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import XENMEM_exchange, xen_memory_exchange
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.gfn import machine_frame
from pvemu.hypervisor.hvm.physmap import add_page, remove_page
from pvemu.hypervisor.physmap import address_bits, any_domain, frame_limit, max_order
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.heap import OutOfFrames

#: The processor takes the count of a shift modulo the bits of a word, and so do Xen's checks of the orders.
_SHIFT_MASK: Final = {4: 31, 8: 63}
#: A chunk's extents must fit in the two pages in which Xen translates a 32-bit guest's arguments.
_MOST_APART: Final = 9
#: Of those two pages, what the request itself leaves.
_TRANSLATED_BYTES: Final = 2 * 4096 - 72


def exchange(vcpu: Vcpu, argument: int) -> int:
    """Exchange extents chunk by chunk; a chunk is as large as the larger of the two extent sizes.

    Raises:
        HypercallError: EPERM, an extent too large; E2BIG, orders too far apart; EINVAL, sizes that don't
            match or frames in use; EFAULT; ESRCH; ENOMEM. A 32-bit guest is then not told how much was
            exchanged before (recorded: frame_requests, second-bad).
    """
    memory, word = vcpu.domain.memory, vcpu.domain.word
    request = xen_memory_exchange.unpack(
        word, memory.copy_from_guest(argument, xen_memory_exchange.size(word))
    )
    given, wanted = getattr(request, "in"), request.out
    _check(vcpu, request, given, wanted)
    if request.nr_exchanged == given.nr_extents:
        if word == 4:  # the count is written back even so
            at = argument + xen_memory_exchange.offset("nr_exchanged", word)
            memory.write_word(at, word, request.nr_exchanged)
        return 0
    domain = any_domain(vcpu, given.domid)
    per_chunk = 1 << max(wanted.extent_order - given.extent_order, 0)
    done = request.nr_exchanged - request.nr_exchanged % per_chunk
    first = done
    while done + per_chunk <= given.nr_extents:
        if done != first and vcpu.domain.hypervisor.hypercall_preempt_check(vcpu):
            memory.write_word(argument + xen_memory_exchange.offset("nr_exchanged", word), word, done)
            raise Continuation(XENMEM_exchange, argument)
        vcpu.domain.hypervisor.charge(REQUEST_COST * per_chunk << given.extent_order)
        _exchange_chunk(vcpu, domain, given, wanted, done, per_chunk)
        done += per_chunk
    at = argument + xen_memory_exchange.offset("nr_exchanged", word)
    memory.write_word(at, word, given.nr_extents)
    return 0


def _check(vcpu: Vcpu, request: Any, given: Any, wanted: Any) -> None:
    """What real Xen finds wrong with a request of a 32-bit guest, in its order (recorded: requests)."""
    word = vcpu.domain.word
    shift_mask, longest = _SHIFT_MASK[word], (1 << 8 * word) - 1
    given_order, wanted_order = given.extent_order & shift_mask, wanted.extent_order & shift_mask
    apart = wanted.extent_order - given.extent_order
    if (
        request.nr_exchanged > given.nr_extents
        or (apart > 0 and request.nr_exchanged % (1 << (apart & shift_mask)))
        or given.nr_extents > longest >> given_order
        or wanted.nr_extents > longest >> wanted_order
        or given.nr_extents << given_order != wanted.nr_extents << wanted_order
    ):
        raise HypercallError(Errno.EINVAL)
    for extents in (given, wanted):
        if not vcpu.domain.memory.range_okay(extents.extent_start, extents.nr_extents * word):
            raise HypercallError(Errno.EFAULT)
    if word == 4 and abs(apart) & shift_mask > _MOST_APART:
        raise HypercallError(Errno.E2BIG)
    if word == 4:
        _read_lists(vcpu, request, given, wanted)
    if max(given.extent_order, wanted.extent_order) > max_order(vcpu.domain):
        raise HypercallError(Errno.EPERM)
    if given.domid != wanted.domid:
        raise HypercallError(Errno.EINVAL)


def _read_lists(vcpu: Vcpu, request: Any, given: Any, wanted: Any) -> None:
    """Of 32-bit guests as much of both lists as is translated at once is read first; raises GuestFault."""
    memory, word, apart = vcpu.domain.memory, vcpu.domain.word, wanted.extent_order - given.extent_order
    start = request.nr_exchanged
    most = _TRANSLATED_BYTES // (((1 << abs(apart)) + 1) * 8) << max(apart, 0)
    number = min(given.nr_extents - start, most)
    memory.copy_from_guest(given.extent_start + start * word, number * word)
    if apart > 0:
        start, number = start >> apart, number >> apart
    else:
        start, number = start << -apart, number << -apart
    memory.copy_from_guest(wanted.extent_start + start * word, number * word)


def _exchange_chunk(vcpu: Vcpu, domain: Domain, given: Any, wanted: Any, done: int, per_chunk: int) -> None:
    memory, word, hypervisor = vcpu.domain.memory, vcpu.domain.word, domain.hypervisor
    frames, types = hypervisor.frames, hypervisor.page_types
    numbers: list[int] = []
    for extent in range(done, done + per_chunk):
        first = memory.read_word(given.extent_start + extent * word, word)
        numbers.extend(range(first, first + (1 << given.extent_order)))
    old = [machine_frame(domain, number) for number in numbers]
    if len(set(old)) != len(old) or not all(_is_unused(domain, mfn) for mfn in old):
        raise HypercallError(Errno.EINVAL)
    number = len(old) >> wanted.extent_order
    # Both lists of a 32-bit guest are read before anything is exchanged.
    out = wanted.extent_start + ((done << given.extent_order) >> wanted.extent_order) * word
    pfns = [memory.read_word(out + index * word, word) for index in range(number)]
    new: list[int] = []
    below = frame_limit(address_bits(wanted.mem_flags))
    try:
        for _ in range(number):
            new.append(hypervisor.heap.allocate(domain.domid, wanted.extent_order, below=below))
    except OutOfFrames as none_left:
        for mfn in new:
            for page in range(1 << wanted.extent_order):
                hypervisor.heap.free(mfn + page)
        raise HypercallError(Errno.ENOMEM) from none_left
    domain.pages += len(old)
    for gfn, mfn in zip(numbers, old, strict=True):
        if domain.is_translated:
            remove_page(domain, gfn, mfn)
        frames.allocated[mfn] = 0
        types.put_page(mfn)
    failure: HypercallError | None = None
    for index, (mfn, pfn) in enumerate(zip(new, pfns, strict=True)):
        try:
            for page in range(1 << wanted.extent_order):
                if domain.is_translated:
                    add_page(domain, pfn + page, mfn + page)
                else:
                    hypervisor.m2p.set(mfn + page, (pfn + page) & 0xFFFFFFFF)
            if not domain.is_translated:
                memory.write_word(out + index * word, word, mfn)
        except HypercallError as failed:
            failure = failed
    if failure is not None:
        raise failure


def _is_unused(domain: Domain, mfn: int) -> bool:
    """Whether a frame belongs to the domain and nothing refers to it but the allocation."""
    frames = domain.hypervisor.frames
    if mfn >= frames.number or frames.owner[mfn] != domain.domid:
        return False
    return bool(frames.allocated[mfn]) and frames.count[mfn] == 1 and frames.type_count[mfn] == 0
