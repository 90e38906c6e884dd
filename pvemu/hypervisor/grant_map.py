"""Mapping frames that another domain grants, and giving them back: GNTTABOP_map_grant_ref and its opposites.

Each mapping pins the entry in the granting domain's table and holds references on the frame: one as a host
mapping, one as a device mapping, with the right to write typed ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pvemu.abi.errors import GrantRefused
from pvemu.abi.grant_table import (
    GNTMAP_application_map,
    GNTMAP_contains_pte,
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_dev_addr,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_no_space,
)
from pvemu.hypervisor.grant_table import (
    DEVICE_READ,
    DEVICE_WRITE,
    HOST_READ,
    HOST_WRITE,
    WRITERS,
    ActiveEntry,
    GrantTable,
)
from pvemu.hypervisor.hvm.grant_table import create_grant_p2m_mapping, replace_grant_p2m_mapping
from pvemu.hypervisor.pv.grant_table import create_grant_host_mapping, replace_grant_host_mapping
from pvemu.memory.frames import PGT_WRITABLE
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_KIND: Final = GNTMAP_device_map | GNTMAP_host_map
#: What a translated domain can't ask for.
_NOT_TRANSLATED: Final = GNTMAP_device_map | GNTMAP_application_map | GNTMAP_contains_pte


@dataclass(frozen=True, slots=True)
class Unmap:
    """What is to be given back.

    `host_addr` and `dev_bus_addr` are 0 for a mapping that is to stay; `new_addr` is 0, or an address whose
    mapping takes the place of the grant's.
    """

    handle: int
    host_addr: int = 0
    dev_bus_addr: int = 0
    new_addr: int = 0


def pin_increment(flags: int) -> int:
    """How a mapping with GNTMAP_* flags pins its entry; 0: it is no mapping at all."""
    readonly = flags & GNTMAP_readonly
    increment = 0
    if flags & GNTMAP_device_map:
        increment += DEVICE_READ if readonly else DEVICE_WRITE
    if flags & GNTMAP_host_map:
        increment += HOST_READ if readonly else HOST_WRITE
    return increment


def map_grant_ref(
    local: "Domain", vcpu: int, host_addr: int, flags: int, ref: int, domid: int
) -> tuple[int, int]:
    """Map a reference of a domain; the handle and the frame.

    Args:
        local: the domain that maps, on its vCPU `vcpu`; for a host mapping it must be running.

    Raises:
        GrantRefused: with the GNTST_* status; then nothing has changed but the order of free handles.
    """
    increment = pin_increment(flags)
    if not increment:
        raise GrantRefused(GNTST_bad_gntref)
    if local.is_translated and flags & _NOT_TRANSLATED:
        raise GrantRefused(GNTST_general_error)
    granter = local.hypervisor.domains.get(domid)
    if granter is None:
        raise GrantRefused(GNTST_bad_domain)
    maptrack = local.grant_table.maptrack
    handle = maptrack.allocate(vcpu)
    if handle is None:
        raise GrantRefused(GNTST_no_space)
    try:
        mfn = _pin(local, granter, ref, flags, increment)
        try:
            _take(local, granter, host_addr, flags, mfn)
        except GrantRefused:
            granter.grant_table.unpin(ref, increment, readonly=bool(flags & GNTMAP_readonly))
            raise
    except GrantRefused:
        maptrack.release(handle)
        raise
    maptrack.record(handle, granter, ref, flags)
    return handle, mfn


def _pin(local: "Domain", granter: "Domain", ref: int, flags: int, increment: int) -> int:
    """Pin an entry for a mapping, and take the first reference on its frame; the frame."""
    table, frames = granter.grant_table, local.hypervisor.frames
    readonly = bool(flags & GNTMAP_readonly)
    if ref >= table.entries:
        raise GrantRefused(GNTST_bad_gntref)
    entry = table.active.get(ref)
    if entry is not None:
        if entry.domid != local.domid or entry.is_full(increment) or entry.is_sub_page:
            raise GrantRefused(GNTST_general_error)
        if not readonly and not entry.pin & WRITERS:
            table.set_status(ref, local.domid, readonly=False, mapping=True)
        table.pin(ref, entry, increment)
        if frames.count[entry.mfn]:
            frames.count[entry.mfn] += 1
            if frames.owner[entry.mfn] == granter.domid:
                return entry.mfn
            local.hypervisor.page_types.put_page(entry.mfn)
        # The frame is not the granter's any more; whoever mapped it first has overwritten the entry himself.
        table.unpin(ref, increment, readonly=readonly)
        raise GrantRefused(GNTST_general_error)
    table.set_status(ref, local.domid, readonly=readonly, mapping=True)
    mfn = table.machine_frame(ref)
    if not frames.get_page(mfn, granter.domid):
        table.reduce_status(ref, readonly=readonly)
        raise GrantRefused(GNTST_bad_page)
    table.pin(ref, ActiveEntry(local.domid, mfn, granter, ref), increment)
    return mfn


def _take(local: "Domain", granter: "Domain", host_addr: int, flags: int, mfn: int) -> None:
    """Take the other references of a mapping, and make it; the first reference is given back on failure."""
    types, frames = local.hypervisor.page_types, local.hypervisor.frames
    kinds = (flags & _KIND).bit_count()
    typed = 0
    frames.count[mfn] += kinds - 1
    try:
        if not flags & GNTMAP_readonly:
            while typed < kinds:
                if types.get_page_type(mfn, PGT_WRITABLE):
                    raise GrantRefused(GNTST_general_error)
                typed += 1
        if flags & GNTMAP_host_map:
            create = create_grant_p2m_mapping if local.is_translated else create_grant_host_mapping
            create(local, host_addr, mfn, flags)
    except GrantRefused:
        for _ in range(typed):
            types.put_page_type(mfn)
        for _ in range(kinds):
            types.put_page(mfn)
        raise


def unmap(local: "Domain", wanted: Unmap) -> None:
    """Give a mapping back, or one of its two parts.

    The domain crashes when the one that granted is gone, which can be only if it had unmapped the frame
    behind the back of the grant table.

    Raises:
        GrantRefused: GNTST_bad_handle; GNTST_bad_dev_addr; GNTST_general_error: it is not mapped there.
    """
    maptrack = local.grant_table.maptrack
    mapping = maptrack.get(wanted.handle)
    if mapping is None:
        raise GrantRefused(GNTST_bad_handle)
    granter = mapping.granter
    assert granter is not None
    if local.hypervisor.domains.get(granter.domid) is not granter:
        local.crash(f"the domain d{granter.domid} that granted what it unmaps is gone")
        return
    mfn = granter.grant_table.active[mapping.ref].mfn
    flags = mapping.flags
    if wanted.dev_bus_addr and flags & GNTMAP_device_map and wanted.dev_bus_addr != mfn << PAGE_SHIFT:
        raise GrantRefused(GNTST_bad_dev_addr)
    done = 0
    if wanted.host_addr and flags & GNTMAP_host_map:
        replace = replace_grant_p2m_mapping if local.is_translated else replace_grant_host_mapping
        replace(local, wanted.host_addr, mfn, wanted.new_addr, flags)
        done |= GNTMAP_host_map
    if wanted.dev_bus_addr and flags & GNTMAP_device_map:
        done |= GNTMAP_device_map
    mapping.flags &= ~done
    ref = mapping.ref
    if not mapping.flags & _KIND:
        maptrack.release(wanted.handle)
    if done:
        _put(granter.grant_table, local, ref, done | flags & GNTMAP_readonly, mfn)


def _put(table: GrantTable, local: "Domain", ref: int, flags: int, mfn: int) -> None:
    """Give back what a mapping held that is gone; the granter may be a dead domain's rest, and go with it."""
    types, readonly = local.hypervisor.page_types, bool(flags & GNTMAP_readonly)
    table.unpin(ref, pin_increment(flags), readonly=readonly)
    for _ in range((flags & _KIND).bit_count()):
        if not readonly:
            types.put_page_type(mfn)
        types.put_page(mfn)


def release_mappings(domain: "Domain") -> None:
    """Drop all handles of a domain that dies (Xen: gnttab_release_mappings).

    Host mappings of a PV guest hold their references in its page tables, which give them back when they go.
    """
    maptrack, hypervisor = domain.grant_table.maptrack, domain.hypervisor
    for granter, mapping in maptrack.in_use():
        if hypervisor.domains.get(granter.domid) is not granter:
            continue
        table, readonly = granter.grant_table, bool(mapping.flags & GNTMAP_readonly)
        device = mapping.flags & (GNTMAP_device_map | GNTMAP_readonly)
        host = mapping.flags & (GNTMAP_host_map | GNTMAP_readonly)
        mfn = table.active[mapping.ref].mfn
        if device & GNTMAP_device_map:
            _put(table, domain, mapping.ref, device, mfn)
        if host & GNTMAP_host_map and domain.is_translated:
            _put(table, domain, mapping.ref, host, mfn)
        elif host & GNTMAP_host_map:
            table.unpin(mapping.ref, pin_increment(host), readonly=readonly)
    maptrack.clear()
