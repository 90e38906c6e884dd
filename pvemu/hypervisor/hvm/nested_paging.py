"""Nested paging: the processor walks the guest's tables, and for each address in them those kept here.

AMD64 Architecture Programmer's Manual volume 2, section 15.25. The nested tables have four levels and mirror
the domain's P2m; a hole there is a nested page fault, which mmio.py answers.
"""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import layout
from pvemu.memory.page_tables import ACCESSED, DIRTY, PRESENT, USER, WRITABLE, entry_frame
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

#: Accessed and dirty are set in advance, so that the processor never writes the tables.
_READABLE: Final = PRESENT | USER | ACCESSED | DIRTY
_TABLE: Final = _READABLE | WRITABLE
_ENTRY_BITS: Final = 9
_SHIFTS: Final = (27, 18, 9)  #: of a gfn, at the levels above the last
_CR3: Final = layout.CR // 8 + 3


class NestedPaging:
    """The nested tables of one domain, in frames of its paging pool; they only ever become more."""

    name = "nested"
    has_guest_cr3 = True

    def __init__(self, domain: "Domain") -> None:
        self._hypervisor = domain.hypervisor
        self._u64 = domain.hypervisor.ram.u64
        self._p2m = domain.p2m
        self.may_mark = domain.p2m.is_writable
        self._take = domain.paging_pool.take
        self._root = self._take()
        #: The last level, by the gfn's upper bits.
        self._leaves: dict[int, int] = {}
        domain.p2m.watchers.append(self._changed)

    def engine_registers(self, cr0: int, cr4: int, efer: int) -> tuple[int, int, int]:
        """The guest's own."""
        return cr0, cr4, efer

    def enter(self, vcpu: "Vcpu") -> None:
        """A vCPU was loaded onto the processor."""
        self._hypervisor.cpu.set_nested_root(self._root << PAGE_SHIFT)

    def mode_changed(self, vcpu: "Vcpu") -> None:
        """Paging works otherwise: what the processor has cached is void."""
        self._hypervisor.cpu.flush_tlb()

    def root_changed(self, vcpu: "Vcpu") -> None:
        """CR3 was written otherwise than by the guest's MOV."""
        self._hypervisor.cpu.set_root(vcpu.hvm.cr3)

    def invalidate(self, vcpu: "Vcpu", address: int) -> None:
        """INVLPG does not exit."""

    def page_fault(self, vcpu: "Vcpu", address: int, error_code: int) -> bool:
        """Every page fault is the guest's own; ours are nested ones."""
        return False

    def nested_page_fault(self, vcpu: "Vcpu") -> bool:
        """An address that is no memory is a device's, and none of this module's affair."""
        return False

    def guest_wrote(self, gfn: int, offset: int, size: int) -> None:
        """The guest's tables are walked anew each time."""

    def release(self) -> None:
        """Give back the tables."""
        self._p2m.watchers.remove(self._changed)

    def _changed(self, gfn: int) -> None:
        mfn = self._p2m.get(gfn)
        leaf = self._leaves.get(gfn >> _ENTRY_BITS)
        if leaf is None:
            if mfn is None:
                return
            leaf = self._leaves[gfn >> _ENTRY_BITS] = self._make_leaf(gfn)
        flags = _TABLE if self._p2m.is_writable(gfn) else _READABLE
        slot = (leaf << _ENTRY_BITS) + (gfn & 511)
        had = self._u64[slot]
        self._u64[slot] = 0 if mfn is None else mfn << PAGE_SHIFT | flags
        if had:
            self._hypervisor.tlb_is_stale = True

    def _make_leaf(self, gfn: int) -> int:
        table = self._root
        for shift in _SHIFTS:
            slot = (table << _ENTRY_BITS) + (gfn >> shift & 511)
            entry = self._u64[slot]
            if not entry & PRESENT:
                entry = self._u64[slot] = self._take() << PAGE_SHIFT | _TABLE
            table = entry_frame(entry)
        return table
