"""The commands of memory_op that change a translated domain's map: XENMEM_add_to_physmap and its kin."""

from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import (
    XENMAPSPACE_dev_mmio,
    XENMAPSPACE_gmfn,
    XENMAPSPACE_gmfn_foreign,
    XENMAPSPACE_gmfn_range,
    XENMEM_add_to_physmap,
    XENMEM_add_to_physmap_batch,
    xen_add_to_physmap,
    xen_add_to_physmap_batch,
    xen_remove_from_physmap,
)
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.hvm.physmap import add_to_physmap, remove_page
from pvemu.hypervisor.physmap import any_domain
from pvemu.hypervisor.vcpu import Vcpu

_START_SHIFT: Final = 6
_LAST_START: Final = 0xFFFF
_INVALID_GFN: Final = (1 << 64) - 1
_ERROR_SIZE: Final = 4
#: Elements that real Xen translates at a time for a 32-bit guest.
_READ_AHEAD: Final = 508


def _translated(vcpu: Vcpu, domid: int, space: int | None = None) -> Domain:
    """The domain whose map is meant.

    Raises:
        HypercallError: ESRCH; EACCES, its frames are machine frames, or the space is for domain 0 alone;
            EPERM, another's, without privilege.
    """
    if not vcpu.domain.named(domid).is_translated or space == XENMAPSPACE_dev_mmio:
        raise HypercallError(Errno.EACCES)
    return any_domain(vcpu, domid)


def _continue(command: int, start: int, argument: int) -> Continuation:
    return Continuation(command | start << _START_SHIFT, argument)


def add(vcpu: Vcpu, start: int, argument: int) -> int:
    """XENMEM_add_to_physmap: one thing, or a range of the guest's own frames."""
    if start > _LAST_START:
        raise HypercallError(Errno.EDOM)
    request = read_structure(vcpu.domain, xen_add_to_physmap, argument)
    if request.space == XENMAPSPACE_gmfn_foreign:
        raise HypercallError(Errno.ENOSYS)
    domain = _translated(vcpu, request.domid, request.space)
    if request.gpfn == _INVALID_GFN:
        raise HypercallError(Errno.EINVAL)
    if request.space == XENMAPSPACE_gmfn_range:
        return _add_range(vcpu, domain, request, start, argument)
    add_to_physmap(domain, request.space, request.idx, request.gpfn)
    return 0


def _add_range(vcpu: Vcpu, domain: Domain, request: Any, start: int, argument: int) -> int:
    hypervisor = domain.hypervisor
    if request.size < start:
        raise HypercallError(Errno.EILSEQ)
    if max(request.gpfn, request.idx) + request.size > _INVALID_GFN:
        raise HypercallError(Errno.EOVERFLOW)
    for done in range(start, request.size):
        if done != start and hypervisor.preempt_due():
            raise _continue(XENMEM_add_to_physmap, done, argument)
        hypervisor.charge(REQUEST_COST)
        add_to_physmap(domain, XENMAPSPACE_gmfn, request.idx + done, request.gpfn + done)
    return 0


def add_batch(vcpu: Vcpu, start: int, argument: int) -> int:
    """XENMEM_add_to_physmap_batch: each thing gets an error of its own."""
    memory, word, hypervisor = vcpu.domain.memory, vcpu.domain.word, vcpu.domain.hypervisor
    if start > _LAST_START:
        raise HypercallError(Errno.EDOM)
    request = read_structure(vcpu.domain, xen_add_to_physmap_batch, argument)
    if word == 4:
        _read_lists(vcpu, request, start)
    if request.space == XENMAPSPACE_gmfn_range:
        raise HypercallError(Errno.EOPNOTSUPP)
    domain = _translated(vcpu, request.domid, request.space)
    if start and request.size <= start:
        raise HypercallError(Errno.EILSEQ)
    for at in range(start, request.size):
        if at != start and hypervisor.preempt_due():
            raise _continue(XENMEM_add_to_physmap_batch, at, argument)
        hypervisor.charge(REQUEST_COST)
        index = memory.read_word(request.idxs + at * word, word)
        gfn = memory.read_word(request.gpfns + at * word, word)
        if gfn == _INVALID_GFN:
            raise HypercallError(Errno.EINVAL)
        error = 0
        try:
            add_to_physmap(domain, request.space, index, gfn)
        except HypercallError as refused:
            error = refused.result
        memory.write_u32(request.errs + at * _ERROR_SIZE, error & 0xFFFFFFFF)
    return 0


def _read_lists(vcpu: Vcpu, request: Any, start: int) -> None:
    """Of 32-bit guests some of the lists is read before anything else is looked at; raises HypercallError."""
    memory, size = vcpu.domain.memory, request.size
    for listed in (request.idxs, request.gpfns, request.errs):
        if not memory.range_okay(listed, size * _ERROR_SIZE):
            raise HypercallError(Errno.EFAULT)
    first, number = start * _ERROR_SIZE, max(min(size - start, _READ_AHEAD), 0) * _ERROR_SIZE
    for listed in (request.idxs, request.gpfns):
        memory.copy_from_guest(listed + first, number)


def remove(vcpu: Vcpu, argument: int) -> int:
    """XENMEM_remove_from_physmap: the frame stays the domain's, at no gfn."""
    request = read_structure(vcpu.domain, xen_remove_from_physmap, argument)
    domain = _translated(vcpu, request.domid)
    hypervisor = domain.hypervisor
    mfn = domain.p2m.get(request.gpfn)
    if mfn is None or hypervisor.frames.owner[mfn] != domain.domid:
        raise HypercallError(Errno.ENOENT)
    remove_page(domain, request.gpfn, mfn)
    hypervisor.flush_stale_tlb()
    return 0
