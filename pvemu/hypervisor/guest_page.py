"""A page of a guest that the hypervisor writes by itself: event queues, vcpu_info, a map of interrupts.

It is held by a reference of type PGT_writable_page as long as it is in use, so that it can be neither
freed nor made a page table meanwhile (Xen: get_page_from_gfn, get_page_type).
"""

from typing import TYPE_CHECKING

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.hypervisor.gfn import machine_frame
from pvemu.memory.frames import PGT_WRITABLE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain


def get_guest_page(domain: "Domain", number: int) -> int:
    """Take a frame that the domain names to write into, and return it; raises HypercallError(EINVAL)."""
    mfn = machine_frame(domain, number)
    if not hold_page(domain, mfn):
        raise HypercallError(Errno.EINVAL)
    domain.hypervisor.before_write(mfn)
    return mfn


def hold_page(domain: "Domain", mfn: int) -> bool:
    """Hold a machine frame of the domain to be written; False: it is not the domain's to write."""
    if domain.hypervisor.page_types.get_page_and_type(mfn, domain, PGT_WRITABLE):
        return False
    domain.written_pages.append(mfn)
    return True


def put_guest_page(domain: "Domain", mfn: int) -> None:
    """Give a page back."""
    domain.written_pages.remove(mfn)
    domain.hypervisor.page_types.put_page_and_type(mfn)
