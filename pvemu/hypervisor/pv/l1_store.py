"""The memory that an emulated store to an L1 sees: the entry it may change, and what its kernel may read."""

from typing import TYPE_CHECKING

from pvemu.hypervisor.emulate import Memory
from pvemu.hypervisor.pv.entry_rules import HARMLESS
from pvemu.memory.page_tables import PRESENT
from pvemu.memory.ram import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain


class Refused(Exception):
    """The store is not for Xen to carry out: not aligned, not where the fault is, or a bad entry."""


class L1Store(Memory):
    """One store at a time; the attributes are set before each.

    Attributes:
        domain: whose L1 it is.
        address: the linear address that faulted: the store's first byte, if it is to be carried out.
        at: the same as a machine address.
        is_exchange: whether the instruction locks the bus.
    """

    __slots__ = ("_hypervisor", "_u8", "_u64", "address", "at", "domain", "is_exchange")

    domain: "Domain"

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self._u8, self._u64 = hypervisor.ram.u8, hypervisor.ram.u64
        self.address = self.at = 0
        self.is_exchange = False

    def read(self, address: int, size: int) -> bytes:
        """What the kernel reads there; raises GuestFault."""
        return self.domain.memory.copy_from_guest(address, size)

    def read_for_write(self, address: int, size: int) -> bytes:
        """What is in the table. Behind the end of its frame another one follows."""
        at = self.at
        if address != self.address or (at & PAGE_MASK) + size > PAGE_SIZE:
            raise Refused
        return bytes(self._u8[at : at + size])

    def replace(self, address: int, old: bytes, new: bytes) -> None:
        """An instruction that changes nothing writes nothing."""
        if new != old:
            self.write(address, new)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into the entry, if what comes out is valid; raises Refused."""
        size = len(data)
        if address != self.address or address & size - 1:
            raise Refused
        hypervisor, u64, at, offset = self._hypervisor, self._u64, self.at >> 3, self.at & 7
        old = u64[at]
        shift = 8 * offset
        mask = (1 << 8 * size) - 1 << shift
        new = old & ~mask | int.from_bytes(data, "little") << shift
        if new & PRESENT and (not old & PRESENT or (old ^ new) & ~HARMLESS):
            result = hypervisor.page_types.get_page_from_l1e(new, self.domain, self.domain)
            if result < 0:
                # The halves of an entry may be written in the wrong order: the lower one will follow.
                if size != 4 or offset != 4 or self.is_exchange:
                    raise Refused
                new &= ~PRESENT
            else:
                new ^= result
        elif new & PRESENT:
            u64[at] = new
            hypervisor.tlb_is_stale = True
            return
        u64[at] = new
        if old & PRESENT:
            hypervisor.tlb_is_stale = True
            self.domain.memory.forget(at)
            hypervisor.page_types.put_page_from_l1e(old)
