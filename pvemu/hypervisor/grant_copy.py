"""Copying between granted frames: GNTTABOP_copy, and the short use of an entry that it makes.

Either side is a frame of the caller's own, or a reference; a reference may grant a part of a frame only, or
hand on what a third domain granted (version 2). What one operation has claimed is kept for the next one, as
on Xen, so that a batch about the same frames looks at their entries once.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pvemu.abi.errors import GrantRefused
from pvemu.abi.grant_table import (
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_eagain,
    GNTST_general_error,
    GNTST_permission_denied,
    GTF_sub_page,
    GTF_transitive,
    GTF_type_mask,
)
from pvemu.abi.xen import DOMID_SELF
from pvemu.hypervisor.gfn import machine_frame
from pvemu.hypervisor.grant_table import HOST_READ, HOST_WRITE, WRITERS, ActiveEntry, GrantTable
from pvemu.memory.frames import PGT_WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

#: Xen copies eight bytes at a time, from the lowest on; where the sides overlap, it shows.
_STEP: Final = 8
#: Xen keeps only so many bits of where a part of a frame begins (recorded: versions, part-far).
_START_MASK: Final = 0x7FFF


class UnstableGrant(Exception):
    """A transitive grant is not what it was when the use began that it still has."""


class Side(NamedTuple):
    """One side of a copy as the caller gave it: a reference, or a frame of his own, and where in it."""

    domid: int
    is_reference: bool
    number: int
    offset: int


class Grant(NamedTuple):
    """A grant in use: the frame, on which a reference is held, and the bytes of it that may be used."""

    mfn: int
    start: int
    length: int


# --- using an entry -------------------------------------------------------------------------------


def acquire(granter: "Domain", ref: int, domid: int, *, readonly: bool, transitive: bool = True) -> Grant:
    """Begin to use an entry for a copy on behalf of a domain (Xen: acquire_grant_for_copy).

    Args:
        transitive: whether the entry may hand on another domain's grant.

    Raises:
        GrantRefused: with the GNTST_* status.
        UnstableGrant: see there.
    """
    table, frames = granter.grant_table, granter.hypervisor.frames
    increment = HOST_READ if readonly else HOST_WRITE
    if ref >= table.entries:
        raise GrantRefused(GNTST_bad_gntref)
    entry = table.active.get(ref)
    if entry is not None and (entry.domid != domid or entry.is_full(increment)):
        raise GrantRefused(GNTST_general_error)
    is_new_use = entry is None or not (readonly or entry.pin & WRITERS)
    if table.version > 1 and table.flags(ref) & GTF_type_mask == GTF_transitive:
        entry = _acquire_transitive(granter, ref, domid, entry, is_new_use, readonly, transitive)
    elif is_new_use:
        table.set_status(ref, domid, readonly=readonly, mapping=False)
        mfn = table.machine_frame(ref)
        if not frames.get_page(mfn, granter.domid):
            table.reduce_status(ref, readonly=readonly)
            raise GrantRefused(GNTST_bad_page)
        if entry is None:
            entry = ActiveEntry(domid, mfn, granter, ref)
            if table.version > 1 and table.flags(ref) & GTF_sub_page:
                at = (table.address(ref) >> 1) + 2
                offset, entry.length = granter.hypervisor.ram.u16[at : at + 2].tolist()
                entry.start = offset & _START_MASK
                entry.is_sub_page = True
        elif entry.mfn != mfn:
            # The guest named another frame meanwhile; what is in use counts, and must be what is referred to.
            granter.hypervisor.page_types.put_page(mfn)
            _take_page(table, granter, entry.mfn, ref, readonly)
    else:
        assert entry is not None
        _take_page(table, granter, entry.mfn, ref, readonly)
    assert entry is not None
    table.pin(ref, entry, increment)
    return Grant(entry.mfn, entry.start, entry.length)


def _take_page(table: GrantTable, granter: "Domain", mfn: int, ref: int, readonly: bool) -> None:
    """Take a reference on the frame of an entry in use."""
    if granter.is_dying or not granter.hypervisor.frames.get_page(mfn, granter.domid):
        table.reduce_status(ref, readonly=readonly)
        raise GrantRefused(GNTST_bad_domain)


def _acquire_transitive(
    granter: "Domain",
    ref: int,
    domid: int,
    entry: ActiveEntry | None,
    is_new_use: bool,
    readonly: bool,
    transitive: bool,
) -> ActiveEntry:
    """Use the third domain's entry, too; the granter's own, which is not pinned yet."""
    table, hypervisor = granter.grant_table, granter.hypervisor
    if is_new_use:
        table.set_status(ref, domid, readonly=readonly, mapping=False)
    at = table.address(ref)
    third_domid, third_ref = hypervisor.ram.u16[(at >> 1) + 2], hypervisor.ram.u32[(at >> 2) + 2]
    third = hypervisor.domains.get(third_domid)
    try:
        if not transitive or third is None or third is granter:
            raise GrantRefused(GNTST_general_error)
        grant = acquire(third, third_ref, granter.domid, readonly=readonly, transitive=False)
    except GrantRefused:
        table.reduce_status(ref, readonly=readonly)
        raise
    # It is always taken for a part of a frame, because a transitive grant can't be mapped.
    found = ActiveEntry(domid, grant.mfn, third, third_ref, grant.start, grant.length, True)
    if entry is None:
        return found
    found.pin = entry.pin
    if found != entry:
        release(third, third_ref, readonly=readonly)
        table.reduce_status(ref, readonly=readonly)
        hypervisor.page_types.put_page(grant.mfn)
        raise UnstableGrant
    return entry


def release(granter: "Domain", ref: int, *, readonly: bool) -> None:
    """End the use of an entry; the reference on its frame is the caller's (Xen: release_grant_for_copy)."""
    table = granter.grant_table
    entry = table.active[ref]
    table.unpin(ref, HOST_READ if readonly else HOST_WRITE, readonly=readonly)
    if table.version > 1 and entry.trans_domain is not granter:
        release(entry.trans_domain, entry.trans_gref, readonly=readonly)


# --- one side -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Claim:
    """What is held for one side of a copy, until another frame is wanted."""

    domain: "Domain"
    side: Side
    grant: Grant
    readonly: bool

    def serves(self, side: Side) -> bool:
        return self.side[:3] == side[:3]

    def give_back(self) -> None:
        types = self.domain.hypervisor.page_types
        if self.side.is_reference:
            release(self.domain, self.side.number, readonly=self.readonly)
        if not self.readonly:
            types.put_page_type(self.grant.mfn)
        types.put_page(self.grant.mfn)


def _claim(caller: "Domain", domain: "Domain", side: Side, *, readonly: bool) -> _Claim:
    hypervisor = caller.hypervisor
    if side.is_reference:
        grant = acquire(domain, side.number, caller.domid, readonly=readonly)
    else:
        mfn = machine_frame(domain, side.number)
        if not hypervisor.frames.get_page(mfn, domain.domid):
            raise GrantRefused(GNTST_bad_page)
        grant = Grant(mfn, 0, PAGE_SIZE)
    if not readonly and hypervisor.page_types.get_page_type(grant.mfn, PGT_WRITABLE):
        if side.is_reference:
            release(domain, side.number, readonly=readonly)
        hypervisor.page_types.put_page(grant.mfn)
        raise GrantRefused(GNTST_general_error)
    return _Claim(domain, side, grant, readonly)


class Copier:
    """Carries out the operations of a batch, and holds what the last one claimed. Close it at the end."""

    def __init__(self, caller: "Domain") -> None:
        self._caller = caller
        self._source: _Claim | None = None
        self._destination: _Claim | None = None

    def copy(self, source: Side, destination: Side, length: int) -> None:
        """Copy bytes from one side to the other.

        Raises:
            GrantRefused: with the GNTST_* status.
        """
        try:
            self._copy(source, destination, length)
        except GrantRefused:
            self.close()
            raise
        except UnstableGrant:
            self.close()
            self._copy_again(source, destination, length)

    def _copy_again(self, source: Side, destination: Side, length: int) -> None:
        """Try once more, with nothing claimed. What is unstable now stays so: real Xen would try for ever."""
        try:
            self._copy(source, destination, length)
        except (GrantRefused, UnstableGrant) as failure:
            self.close()
            raise failure if isinstance(failure, GrantRefused) else GrantRefused(GNTST_eagain) from failure

    def close(self) -> None:
        """Give back what is held."""
        if self._source is not None:
            self._source.give_back()
        if self._destination is not None:
            self._destination.give_back()
        self._source = self._destination = None

    def _copy(self, source: Side, destination: Side, length: int) -> None:
        source_domain, destination_domain = self._find(source), self._find(destination)
        if self._source is None or not self._source.serves(source):
            if self._source is not None:
                self._source.give_back()
            self._source = None
            self._source = _claim(self._caller, source_domain, source, readonly=True)
        if self._destination is None or not self._destination.serves(destination):
            if self._destination is not None:
                self._destination.give_back()
            self._destination = None
            self._destination = _claim(self._caller, destination_domain, destination, readonly=False)
        if max(source.offset, destination.offset) + length > PAGE_SIZE:
            raise GrantRefused(GNTST_bad_copy_arg)
        for side, claim in ((source, self._source), (destination, self._destination)):
            start = claim.grant.start
            if side.offset < start or side.offset + length > start + claim.grant.length:
                raise GrantRefused(GNTST_general_error)
        copy_bytes(
            self._caller.hypervisor,
            self._source.grant.mfn << PAGE_SHIFT | source.offset,
            self._destination.grant.mfn << PAGE_SHIFT | destination.offset,
            length,
        )

    def _find(self, side: Side) -> "Domain":
        """The domain that a side is about: a frame by its number must be the caller's, named DOMID_SELF."""
        if side.domid == DOMID_SELF:
            return self._caller
        if not side.is_reference:
            raise GrantRefused(GNTST_permission_denied)
        found = self._caller.hypervisor.domains.get(side.domid)
        if found is None:
            raise GrantRefused(GNTST_bad_domain)
        return found


def copy_bytes(hypervisor: "Hypervisor", source: int, destination: int, length: int) -> None:
    """Copy between machine addresses in ascending order, even where the two sides overlap."""
    u8 = hypervisor.ram.u8
    hypervisor.before_write(destination >> PAGE_SHIFT)
    if not source < destination < source + length:
        u8[destination : destination + length] = u8[source : source + length]
        return
    whole = length - length % _STEP
    for at in range(0, whole, _STEP):
        u8[destination + at : destination + at + _STEP] = bytes(u8[source + at : source + at + _STEP])
    for at in range(whole, length):
        u8[destination + at] = u8[source + at]
