"""The guest-physical map of a translated domain, as hypercalls change it.

A frame that is the domain's own is at one gfn at most, and the machine-to-physical map says at which; a
frame that another domain grants may be at several. The map holds no references: a frame can't be freed while
it is at a gfn, because whoever frees it takes it out of the map first.
"""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import (
    XENMAPIDX_grant_table_status,
    XENMAPSPACE_gmfn,
    XENMAPSPACE_gmfn_foreign,
    XENMAPSPACE_grant_table,
    XENMAPSPACE_shared_info,
)
from pvemu.hypervisor.gfn import INVALID_M2P
from pvemu.hypervisor.grant_table import MAX_FRAMES, frames_for_status
from pvemu.hypervisor.hvm.control_registers import PHYSICAL_BITS
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

#: Frames that a guest can address.
_GUEST_FRAMES: Final = 1 << PHYSICAL_BITS - PAGE_SHIFT


def add_page(domain: "Domain", gfn: int, mfn: int, *, writable: bool = True, is_grant: bool = False) -> None:
    """Make a machine frame the guest's memory at a gfn (Xen: p2m_add_page).

    Memory that was at the gfn before stays the domain's, at no gfn. A frame of the domain's own leaves the
    gfn where it was. A grant that is mapped there must not vanish so: the domain crashes.

    Raises:
        HypercallError: EPERM, the domain has crashed; ENOENT, no guest can address it; ENOMEM, there is no
            memory for page tables.
    """
    p2m, m2p, frames = domain.p2m, domain.hypervisor.m2p, domain.hypervisor.frames
    if gfn >= _GUEST_FRAMES:
        raise HypercallError(Errno.ENOENT)
    if gfn in p2m.grants:
        domain.crash(f"GFN {gfn:#x} is a mapped grant, and must be unmapped before it can be another frame")
        raise HypercallError(Errno.EPERM)
    replaced = p2m.get(gfn)
    if replaced is not None:
        m2p.forget(replaced)
    if frames.owner[mfn] == domain.domid:
        before = m2p.get(mfn)
        if before not in (INVALID_M2P, gfn) and p2m.get(before) == mfn and before not in p2m.grants:
            remove_page(domain, before, mfn)
    try:
        p2m.set(gfn, mfn, writable=writable, is_grant=is_grant)
    except OutOfFrames:
        p2m.clear(gfn)
        raise HypercallError(Errno.ENOMEM) from None
    if not is_grant:
        m2p.set(mfn, gfn)


def remove_page(domain: "Domain", gfn: int, mfn: int) -> None:
    """Make a gfn that is a machine frame a hole (Xen: p2m_remove_page); a hole already is no mistake.

    Raises:
        HypercallError: EILSEQ, another frame is there.
    """
    p2m = domain.p2m
    if p2m.get(gfn) not in (None, mfn):
        raise HypercallError(Errno.EILSEQ)
    if gfn not in p2m.grants:
        domain.hypervisor.m2p.forget(mfn)
    p2m.clear(gfn)


def guest_remove_page(domain: "Domain", gfn: int) -> None:
    """Take memory away from the guest at a gfn, and give the frame back.

    Raises:
        HypercallError: ENOENT, there is none; ENXIO, it is another domain's.
    """
    hypervisor = domain.hypervisor
    frames, types = hypervisor.frames, hypervisor.page_types
    mfn = domain.p2m.get(gfn)
    if mfn is None:
        raise HypercallError(Errno.ENOENT)
    if not frames.get_page(mfn, domain.domid):
        raise HypercallError(Errno.ENXIO)
    remove_page(domain, gfn, mfn)
    if frames.allocated[mfn]:
        frames.allocated[mfn] = 0
        types.put_page(mfn)
    types.put_page(mfn)


# --- add_to_physmap -------------------------------------------------------------------------------


def add_to_physmap(domain: "Domain", space: int, index: int, gfn: int) -> None:
    """Put something of the domain's at a gfn: XENMAPSPACE_* says what, and the index which one.

    Memory that was there before is given back; one of the hypervisor's own pages only leaves its place.

    Raises:
        HypercallError: EINVAL, no such thing; EXDEV, the frame is at another gfn; EPERM, a foreign frame;
            and those of `add_page`, `guest_remove_page`.
    """
    hypervisor, p2m = domain.hypervisor, domain.p2m
    if space == XENMAPSPACE_gmfn_foreign:
        raise HypercallError(Errno.EPERM)
    mfn = _find(domain, space, index)
    had = hypervisor.m2p.get(mfn)
    if space == XENMAPSPACE_gmfn and had != index:
        raise HypercallError(Errno.EXDEV)
    replaced = p2m.get(gfn)
    if replaced is not None:
        if hypervisor.is_special_page(replaced):
            remove_page(domain, gfn, replaced)
        elif replaced != mfn:
            guest_remove_page(domain, gfn)
    if had not in (INVALID_M2P, gfn):
        remove_page(domain, had, mfn)
    add_page(domain, gfn, mfn)
    hypervisor.flush_stale_tlb()


def _find(domain: "Domain", space: int, index: int) -> int:
    """The machine frame that a space and an index name; raises HypercallError(EINVAL)."""
    frames = domain.hypervisor.frames
    if space == XENMAPSPACE_shared_info and index == 0:
        return domain.shared_info_frame
    if space == XENMAPSPACE_grant_table:
        return _grant_frame(domain, index)
    if space == XENMAPSPACE_gmfn:
        mfn = domain.p2m.get(index)
        if mfn is not None and frames.owner[mfn] == domain.domid and frames.count[mfn]:
            return mfn
    raise HypercallError(Errno.EINVAL)


def _grant_frame(domain: "Domain", index: int) -> int:
    """A frame of entries or of status words; the table grows as far as it may. HypercallError(EINVAL)."""
    table = domain.grant_table
    is_status = table.version == 2 and bool(index & XENMAPIDX_grant_table_status)
    if is_status:
        index &= ~XENMAPIDX_grant_table_status
    found = table.status_frames if is_status else table.frames
    if index >= len(found):
        wanted = frames_for_status(index + 1) if is_status else index + 1
        if wanted <= MAX_FRAMES:
            table.grow(wanted)
    if index >= len(found):
        raise HypercallError(Errno.EINVAL)
    return found[index]
