"""Handing a frame over to another domain that has said it accepts one: GNTTABOP_transfer."""

from contextlib import suppress
from typing import TYPE_CHECKING

from pvemu.abi.errors import GrantRefused, HypercallError
from pvemu.abi.grant_table import (
    GNTST_bad_domain,
    GNTST_bad_page,
    GNTST_general_error,
    GTF_accept_transfer,
    GTF_transfer_committed,
    GTF_transfer_completed,
)
from pvemu.hypervisor.gfn import machine_frame
from pvemu.hypervisor.hvm.physmap import add_page, remove_page
from pvemu.memory.frames import NO_OWNER

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain


def transfer(giver: "Domain", number: int, domid: int, ref: int) -> None:
    """Make a frame of one domain another's, with what it holds.

    The giver must use the frame for nothing. Once it is taken from him it does not come back: where it can't
    be given, it is freed, as on Xen.

    Raises:
        GrantRefused: GNTST_bad_page, not his, or in use; GNTST_bad_domain; GNTST_general_error, the taker has
            not said that he accepts a frame under this reference, or may have no more.
    """
    hypervisor = giver.hypervisor
    frames, mfn = hypervisor.frames, machine_frame(giver, number)
    if mfn >= frames.number or frames.owner[mfn] != giver.domid or not _is_unused(giver, mfn):
        raise GrantRefused(GNTST_bad_page)
    if giver.is_translated:
        remove_page(giver, number, mfn)
    giver.pages -= 1
    frames.owner[mfn] = NO_OWNER
    hypervisor.flush_stale_tlb()
    taker = hypervisor.domains.get(domid)
    try:
        if taker is None:
            raise GrantRefused(GNTST_bad_domain)
        if taker.is_dying or taker.pages >= taker.max_pages or not _commit(taker, giver, ref):
            raise GrantRefused(GNTST_general_error)
    except GrantRefused:
        hypervisor.free_domain_page(mfn)
        raise
    taker.pages += 1
    frames.assign(mfn, taker.domid)
    table = taker.grant_table
    if taker.is_translated:
        with suppress(HypercallError):
            add_page(taker, table.frame(ref), mfn)
    else:
        hypervisor.m2p.set(mfn, table.frame(ref) & 0xFFFFFFFF)
        table.set_frame(ref, mfn)
    table.set_header(ref, table.flags(ref) | GTF_transfer_completed, table.domid(ref))


def _is_unused(domain: "Domain", mfn: int) -> bool:
    """Whether the allocation is all that refers to a frame, and no half-validated table is in it."""
    frames = domain.hypervisor.frames
    return bool(frames.allocated[mfn]) and frames.count[mfn] == 1 and not frames.partial[mfn]


def _commit(taker: "Domain", giver: "Domain", ref: int) -> bool:
    """Whether an entry accepts a frame from the giver; it then says that one is on its way."""
    table = taker.grant_table
    if ref >= table.entries or table.flags(ref) != GTF_accept_transfer or table.domid(ref) != giver.domid:
        return False
    table.set_header(ref, GTF_accept_transfer | GTF_transfer_committed, giver.domid)
    return True
