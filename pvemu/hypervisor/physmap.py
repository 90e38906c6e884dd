"""Whose frames a request is about, and how they come and go: allocation up to a limit, and release."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import PAGE_SHIFT

#: The largest extent that a guest may ask for, as an order (Xen's defaults for a domU and for domain 0).
_MAX_ORDER: Final = 9
_MAX_ORDER_PRIVILEGED: Final = 12


def any_domain(vcpu: Vcpu, domid: int) -> Domain:
    """A domain by its number or DOMID_SELF; raises HypercallError: ESRCH, or EPERM for another's."""
    caller = vcpu.domain
    found = caller.named(domid)
    if found is not caller and not caller.privileged:
        raise HypercallError(Errno.EPERM)
    return found


def max_order(domain: Domain) -> int:
    """The largest order of an extent that a domain may name."""
    return _MAX_ORDER_PRIVILEGED if domain.privileged else _MAX_ORDER


def address_bits(mem_flags: int) -> int:
    """How many bits the addresses of new frames may have; 0: any number (XENMEMF_get_address_bits)."""
    return mem_flags & 0xFF


def frame_limit(bits: int) -> int | None:
    """The frame number below which memory with so many address bits lies; None: 0 bits ask for nothing."""
    return 1 << max(bits - PAGE_SHIFT, 0) if bits else None


def allocate_extent(domain: Domain, order: int, *, below: int | None = None) -> int | None:
    """Give a domain 2**order frames; the first mfn, or None beyond its limit or without free memory."""
    pages = 1 << order
    if domain.pages + pages > domain.max_pages:
        return None
    try:
        mfn = domain.hypervisor.heap.allocate(domain.domid, order, below=below)
    except OutOfFrames:
        return None
    domain.pages += pages
    return mfn


def release_frame(domain: Domain, mfn: int) -> bool:
    """Take the domain's own reference off a frame; it is free when nothing else refers to it.

    False: the frame is not the domain's, or the reference was given back before.
    """
    frames, types = domain.hypervisor.frames, domain.hypervisor.page_types
    if not frames.get_page(mfn, domain.domid):
        return False
    if frames.allocated[mfn]:
        frames.allocated[mfn] = 0
        types.put_page(mfn)
    types.put_page(mfn)
    return True
