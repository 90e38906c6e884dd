"""Host mappings of grants in a translated guest: the granted frame is its memory at a guest-physical address.

References on the granted frame are the caller's to take and to give back.
"""

from typing import TYPE_CHECKING

from pvemu.abi.errors import GrantRefused, HypercallError
from pvemu.abi.grant_table import GNTMAP_contains_pte, GNTMAP_host_map, GNTMAP_readonly, GNTST_general_error
from pvemu.hypervisor.hvm.physmap import add_page, remove_page
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain


def create_grant_p2m_mapping(domain: "Domain", address: int, mfn: int, flags: int) -> None:
    """Put a granted frame at an address. Memory that was there before stays the guest's, at no address.

    Raises:
        GrantRefused: GNTST_general_error; other flags than for a plain mapping, or no place for it.
    """
    if flags & ~GNTMAP_readonly != GNTMAP_host_map:
        raise GrantRefused(GNTST_general_error)
    try:
        writable = not flags & GNTMAP_readonly
        add_page(domain, address >> PAGE_SHIFT, mfn, writable=writable, is_grant=True)
    except HypercallError as refused:
        raise GrantRefused(GNTST_general_error) from refused
    domain.hypervisor.flush_stale_tlb()


def replace_grant_p2m_mapping(domain: "Domain", address: int, mfn: int, new_address: int, flags: int) -> None:
    """Take a granted frame away from an address; nothing can take its place.

    Raises:
        GrantRefused: GNTST_general_error; the frame is not mapped there.
    """
    gfn, p2m = address >> PAGE_SHIFT, domain.p2m
    is_mapped = gfn in p2m.grants and p2m.get(gfn) == mfn
    if new_address or flags & GNTMAP_contains_pte or not is_mapped:
        raise GrantRefused(GNTST_general_error)
    remove_page(domain, gfn, mfn)
