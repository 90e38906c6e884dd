"""Changing the form of a domain's grant entries: GNTTABOP_set_version."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.grant_table import (
    GNTTAB_NR_RESERVED_ENTRIES,
    GTF_permit_access,
    GTF_reading,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)
from pvemu.hypervisor.gfn import INVALID_MFN, frame_number
from pvemu.hypervisor.hvm.physmap import remove_page

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.grant_table import GrantTable

_IN_USE: Final = GTF_reading | GTF_writing
_VERSIONS: Final = (1, 2)


def set_version(domain: "Domain", version: int) -> None:
    """Change the form of all entries. What they granted is lost, but for the reserved ones.

    Raises:
        HypercallError: EINVAL, no such version; EBUSY, an entry is in use, or a status frame mapped;
            ERANGE, a reserved entry can't be told in version 1; ENOMEM.
    """
    table = domain.grant_table
    if version not in _VERSIONS:
        raise HypercallError(Errno.EINVAL)
    if version == table.version:
        return
    if any(ref >= GNTTAB_NR_RESERVED_ENTRIES for ref in table.active):
        raise HypercallError(Errno.EBUSY)
    if version == 1:
        _check_representable(table)
    elif not table.add_status_frames(len(table.frames)):
        raise HypercallError(Errno.ENOMEM)
    kept = [_reserved(table, ref) for ref in range(GNTTAB_NR_RESERVED_ENTRIES)]
    if version == 1 and domain.is_translated:
        _unmap_status_frames(domain)
    if version == 1 and not table.drop_status_frames():
        raise HypercallError(Errno.EBUSY)
    for mfn in table.frames:
        domain.hypervisor.ram.clear(mfn)
    table.version = version
    for ref, (flags, domid, frame) in enumerate(kept):
        if version == 2:
            domain.hypervisor.ram.u16[table.status_index(ref)] = flags & _IN_USE
            flags &= ~_IN_USE
        table.set_frame(ref, frame)
        table.set_header(ref, flags, domid)


def _unmap_status_frames(domain: "Domain") -> None:
    """They are about to be freed, so no gfn may be one of them."""
    for mfn in domain.grant_table.status_frames:
        gfn = frame_number(domain, mfn)
        if gfn != INVALID_MFN:
            remove_page(domain, gfn, mfn)
    domain.hypervisor.flush_stale_tlb()


def _check_representable(table: "GrantTable") -> None:
    for ref in range(GNTTAB_NR_RESERVED_ENTRIES):
        kind = table.flags(ref) & GTF_type_mask
        if kind == GTF_transitive or (kind == GTF_permit_access and table.frame(ref) >> 32):
            raise HypercallError(Errno.ERANGE)


def _reserved(table: "GrantTable", ref: int) -> tuple[int, int, int]:
    """Flags as version 1 has them, domain and frame of an entry; of version 2 only plain grants are kept."""
    flags = table.flags(ref)
    if table.version == 1:
        return flags, table.domid(ref), table.frame(ref)
    if flags & GTF_type_mask != GTF_permit_access:
        return 0, 0, 0
    in_use = table.status_word(ref)
    return flags | in_use, table.domid(ref), table.frame(ref)
