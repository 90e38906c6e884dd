"""What both builders of domains work with: the plan, the new memory, and what is there in the end."""

from dataclasses import dataclass
from typing import NamedTuple

from pvemu.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.memory.ram import PAGE_SIZE
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.hvm_layout import HvmLayout
from pvemu.toolstack.layout import DomainLayout


class DomainPlan(NamedTuple):
    """What is asked for.

    Attributes:
        pages: memory in frames of 4 KiB.
        privileged: it is domain 0.
        module: a boot module (an initrd).
    """

    domid: int
    kind: GuestKind
    paging: Paging
    pages: int
    privileged: bool
    vcpus: int
    command_line: bytes
    module: bytes | None


class Ring(NamedTuple):
    """A page that a guest shares with domain 0.

    Attributes:
        frame: its machine frame; reference: the number by which the guest and its keys in xenstore name it:
            the same, or the guest's frame in a guest that has frames of its own.
        port: the event channel that the guest offers for it.
    """

    frame: int
    reference: int
    port: int


class Rings(NamedTuple):
    """The rings of xenstore and of the console."""

    store: Ring
    console: Ring


@dataclass(frozen=True)
class BuiltDomain:
    """A domain that is ready to run, and what its back ends need to know; domain 0 has no rings."""

    domain: Domain
    kind: GuestKind
    layout: DomainLayout | HvmLayout
    rings: Rings | None


class NewMemory:
    """A new domain's memory by pseudo-physical or guest-physical address.

    Args:
        frames: the machine frames by page number.
    """

    def __init__(self, domctl: Domctl, domain: Domain, frames: dict[int, int]) -> None:
        self._domctl, self._domain, self.frames = domctl, domain, frames

    def page(self, number: int) -> memoryview:
        """A page's bytes."""
        return self._domctl.new_page(self._domain, self.frames[number])

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy bytes to an address."""
        done = 0
        while done < len(data):
            number, offset = divmod(address + done, PAGE_SIZE)
            piece = data[done : done + PAGE_SIZE - offset]
            self.page(number)[offset : offset + len(piece)] = piece
            done += len(piece)


def make_rings(domctl: Domctl, domain: Domain, *, store: tuple[int, int], console: tuple[int, int]) -> Rings:
    """Offer domain 0 the ports of xenstore and console, and grant it their pages.

    Args:
        store, console: machine frame and reference of each page.
    """
    domctl.seed_grant(domain, GNTTAB_RESERVED_CONSOLE, console[0])
    domctl.seed_grant(domain, GNTTAB_RESERVED_XENSTORE, store[0])
    store_port = domctl.alloc_unbound(domain.domid)
    return Rings(Ring(*store, store_port), Ring(*console, domctl.alloc_unbound(domain.domid)))
