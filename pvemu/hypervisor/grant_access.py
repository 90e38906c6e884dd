"""How a domain that lives outside the machine uses what others grant to it: mapping and copying.

It has no page tables, so its mappings are device mappings: they pin the entry and hold references on the
frame, and no L1 entry is made.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pvemu.abi.errors import GrantRefused
from pvemu.abi.grant_table import (
    GNTMAP_device_map,
    GNTMAP_readonly,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_eagain,
    GNTST_general_error,
)
from pvemu.hypervisor.grant_copy import Grant, UnstableGrant, acquire, release
from pvemu.hypervisor.grant_map import Unmap, map_grant_ref, unmap
from pvemu.memory.frames import PGT_WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain


class GrantAccess:
    """What one domain outside the machine has mapped."""

    def __init__(self, caller: "Domain") -> None:
        self._caller = caller
        self._hypervisor = caller.hypervisor
        #: Frames that may be written at any time, and how often each is mapped so.
        self._writable: Counter[int] = Counter()

    def map(self, domid: int, ref: int, *, writable: bool) -> tuple[int, memoryview]:
        """Map a granted frame: a handle, and the frame's 4096 bytes; raises GrantRefused."""
        flags = GNTMAP_device_map if writable else GNTMAP_device_map | GNTMAP_readonly
        handle, mfn = map_grant_ref(self._caller, 0, 0, flags, ref, domid)
        view = self._hypervisor.ram.frame(mfn)
        if not writable:
            return handle, view.toreadonly()
        self._writable[mfn] += 1
        return handle, view

    def unmap(self, handle: int) -> None:
        """Give a mapping back; one that is none is no error."""
        mapping = self._caller.grant_table.maptrack.get(handle)
        if mapping is None or mapping.granter is None:
            return
        mfn = mapping.granter.grant_table.active[mapping.ref].mfn
        if mfn in self._writable and not mapping.flags & GNTMAP_readonly:
            self.forget_written_code()
            self._writable[mfn] -= 1
            if not self._writable[mfn]:
                del self._writable[mfn]
        unmap(self._caller, Unmap(handle, dev_bus_addr=mfn << PAGE_SHIFT))

    def copy_from(self, domid: int, ref: int, offset: int, size: int) -> bytes:
        """Bytes out of a granted frame; raises GrantRefused."""
        with self._used(domid, ref, offset, size, readonly=True) as grant:
            return bytes(self._hypervisor.ram.frame(grant.mfn)[offset : offset + size])

    def copy_to(self, domid: int, ref: int, offset: int, data: bytes) -> None:
        """Bytes into a granted frame; raises GrantRefused."""
        with self._used(domid, ref, offset, len(data), readonly=False) as grant:
            types = self._hypervisor.page_types
            if types.get_page_type(grant.mfn, PGT_WRITABLE):
                raise GrantRefused(GNTST_general_error)
            self._hypervisor.before_write(grant.mfn)
            self._hypervisor.ram.frame(grant.mfn)[offset : offset + len(data)] = data
            types.put_page_type(grant.mfn)

    def forget_written_code(self) -> None:
        """Let translated code be forgotten that lies in frames which may have been written.

        To be called before a guest hears of what was written: it may be about to run it.
        """
        for mfn in self._writable.keys() & self._hypervisor.cpu.code_frames:
            self._hypervisor.before_write(mfn)

    @contextmanager
    def _used(self, domid: int, ref: int, offset: int, size: int, *, readonly: bool) -> Iterator[Grant]:
        granter = self._hypervisor.domains.get(domid)
        if granter is None:
            raise GrantRefused(GNTST_bad_domain)
        try:
            grant = acquire(granter, ref, self._caller.domid, readonly=readonly)
        except UnstableGrant as unstable:
            raise GrantRefused(GNTST_eagain) from unstable
        try:
            if offset < 0 or offset + size > PAGE_SIZE:
                raise GrantRefused(GNTST_bad_copy_arg)
            if offset < grant.start or offset + size > grant.start + grant.length:
                raise GrantRefused(GNTST_general_error)
            yield grant
        finally:
            release(granter, ref, readonly=readonly)
            self._hypervisor.page_types.put_page(grant.mfn)
