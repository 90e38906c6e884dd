"""Host mappings of grants in a paravirtual guest: the hypervisor writes the L1 entry that the guest names.

The guest names it by the linear address that it maps, or by its own machine address (GNTMAP_contains_pte).
References on the granted frame are the caller's to take and to give back; those of whatever the entry held
before are given back here.
"""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errors import GrantRefused
from pvemu.abi.grant_table import (
    GNTMAP_application_map,
    GNTMAP_contains_pte,
    GNTMAP_readonly,
    GNTST_general_error,
)
from pvemu.memory.page_tables import (
    ACCESSED,
    AVAILABLE,
    DIRTY,
    NO_EXECUTE,
    PRESENT,
    USER,
    WRITABLE,
    entry_frame,
)
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_ENTRY_SIZE: Final = 8
#: The bits for the guest's own use: from bit 16 of the flags to bit 9 of an entry.
_AVAILABLE_SHIFT: Final = 16 - 9
_HIGHEST_ADDRESS: Final = 0xFFFFFFFF


def create_grant_host_mapping(domain: "Domain", address: int, mfn: int, flags: int) -> None:
    """Make an L1 entry of the running domain map a granted frame.

    Raises:
        GrantRefused: GNTST_general_error; the address leads to no L1 entry of the domain's.
    """
    at = _l1_entry(domain, address, flags)
    if at is None:
        raise GrantRefused(GNTST_general_error)
    old = _exchange(domain, at, mfn << PAGE_SHIFT | _entry_flags(flags))
    if old & PRESENT:
        domain.hypervisor.page_types.put_page_from_l1e(old)


def replace_grant_host_mapping(
    domain: "Domain", address: int, mfn: int, new_address: int, flags: int
) -> None:
    """Take a granted frame out of the L1 entry that maps it, and put there what `new_address` maps, if not 0.

    Raises:
        GrantRefused: GNTST_general_error; the entry doesn't map the frame with these rights, or either
            address leads to no entry. What `new_address` mapped is lost all the same, once it was found.
    """
    by_address = not flags & GNTMAP_contains_pte
    if (by_address and max(address, new_address) > _HIGHEST_ADDRESS) or (new_address and not by_address):
        raise GrantRefused(GNTST_general_error)
    put_page_from_l1e = domain.hypervisor.page_types.put_page_from_l1e
    new = 0
    if new_address:
        at = _l1_entry(domain, new_address, 0)
        if at is None:
            raise GrantRefused(GNTST_general_error)
        new = _exchange(domain, at, 0)
    at = _l1_entry(domain, address, flags)
    old = 0 if at is None else domain.hypervisor.ram.u64[at]
    matches = entry_frame(old) == mfn and not (old ^ _entry_flags(flags)) & (PRESENT | WRITABLE)
    if at is None or not matches:
        if new & PRESENT:
            put_page_from_l1e(new)
        raise GrantRefused(GNTST_general_error)
    _exchange(domain, at, new)


def _entry_flags(flags: int) -> int:
    entry = PRESENT | ACCESSED | DIRTY | NO_EXECUTE | flags >> _AVAILABLE_SHIFT & AVAILABLE
    if flags & GNTMAP_application_map:
        entry |= USER
    return entry if flags & GNTMAP_readonly else entry | WRITABLE


def _l1_entry(domain: "Domain", address: int, flags: int) -> int | None:
    """The entry that is meant, as an index of 64-bit words of RAM; None: it is in no L1 of the domain's."""
    if flags & GNTMAP_contains_pte:
        at = None if address % _ENTRY_SIZE else address // _ENTRY_SIZE
    else:
        at = None if address > _HIGHEST_ADDRESS else domain.memory.l1_entry_index(address)
    if at is None or domain.hypervisor.frames.l1_owner.get(at >> 9) != domain.domid:
        return None
    return at


def _exchange(domain: "Domain", at: int, new: int) -> int:
    """Write an L1 entry, so that no translation through the old one remains; the old one."""
    hypervisor = domain.hypervisor
    old = hypervisor.ram.u64[at]
    hypervisor.ram.u64[at] = new
    if old & PRESENT:
        hypervisor.tlb_is_stale = True
        domain.memory.forget(at)
    return old
