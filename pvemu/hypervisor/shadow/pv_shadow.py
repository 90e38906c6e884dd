"""Ordinary PV guests on shadows of their validated tables, so that their writes can be logged.

Direct paging sees to it that no table is ever mapped writable, and that the TLB is flushed before an old
translation could do harm. So nothing is protected here: the shadows are like a TLB that is flushed with the
processor's. Guest frames are machine frames.
"""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, layout
from pvemu.hypervisor.shadow.log_dirty import ShadowLogging
from pvemu.hypervisor.shadow.outcome import GuestFault
from pvemu.hypervisor.shadow.paging import Shadow
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3, PGT_SEG_DESC
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FOUR_LEVEL
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

_MODE: Final = PagingMode(FOUR_LEVEL, write_protect=True, no_execute=True, large_pages=True)
_TABLES: Final = (PGT_L1, PGT_L2, PGT_L3)
_PAGE_FAULT: Final = exits.EXCEPTION + exits.PF
_ERROR_CODE: Final = layout.ERROR_CODE // 4
_CR3: Final = slice(layout.CR + 24, layout.CR + 32)
#: Numbers from here on are no pages of a domain: of frames that are shared with it, for instance.
_NO_PAGE: Final = 1 << 31


def _same(frame: int) -> int:
    return frame


def _always(_frame: int) -> bool:
    return True


class PvShadow(ShadowLogging):
    """The shadows of one PV domain, from the moment they are made until `release`; and its dirty log.

    The domain has its paging pool already.
    """

    def __init__(self, domain: "Domain") -> None:
        hypervisor = domain.hypervisor
        self._domain, self._hypervisor = domain, hypervisor
        self._ram, self._frames = hypervisor.ram, hypervisor.frames
        shadow = Shadow(
            hypervisor.ram,
            _same,
            _always,
            pool=domain.paging_pool,
            flush_tlb=hypervisor.cpu.flush_tlb,
            protects=False,
        )
        super().__init__(shadow)
        #: What each table held when the log was last looked at: they are written by the hypervisor.
        self._tables: dict[int, bytes] = {}
        hypervisor.unload(domain)
        for vcpu in domain.vcpus:
            vcpu.shadow_root = self.shadow.set_root(_MODE, vcpu.monitor << PAGE_SHIFT, vcpu.id)
            _load_saved_root(vcpu)
        self._own_exits = domain.exits
        domain.exits = domain.exits[:]
        domain.exits[_PAGE_FAULT] = self._page_fault
        hypervisor.pv_shadows = (*hypervisor.pv_shadows, self)

    def release(self) -> None:
        """Let the processor walk the guest's own tables again."""
        self._hypervisor.unload(self._domain)
        self._hypervisor.pv_shadows = tuple(
            other for other in self._hypervisor.pv_shadows if other is not self
        )
        self._domain.exits = self._own_exits
        for vcpu in self._domain.vcpus:
            vcpu.shadow_root = None
            _load_saved_root(vcpu)
        self.shadow.destroy()

    # --- what happens -------------------------------------------------------------------------------

    def _page_fault(self) -> None:
        hypervisor = self._hypervisor
        vcpu, cpu = hypervisor.current, hypervisor.cpu
        u32 = cpu.window.u32
        outcome = self.shadow.page_fault(cpu.fault_address, u32[_ERROR_CODE], vcpu.id)
        if isinstance(outcome, GuestFault):
            u32[_ERROR_CODE] = outcome.error_code
            self._own_exits[_PAGE_FAULT]()

    def flush(self) -> None:
        """The TLB is flushed."""
        self.shadow.flush()

    def wrote(self, mfn: int) -> None:
        """The hypervisor writes a frame, or is about to."""
        if self._frames.owner[mfn] == self._domain.domid:
            self.shadow.mark_dirty(mfn)

    def table_made(self, mfn: int) -> None:
        """A frame was found fit to be a table, or one of descriptors, and may have been changed for that."""
        frames = self._frames
        if frames.owner[mfn] == self._domain.domid and self.is_on:
            kind = frames.type[mfn]
            if kind in _TABLES:
                self._tables[mfn] = bytes(self._ram.frame(mfn))
            if kind in (PGT_L3, PGT_SEG_DESC) or frames.xen_l2[mfn]:
                self.shadow.mark_dirty(mfn)

    def table_ends(self, mfn: int) -> None:
        """A frame is about to be no table any more."""
        if self.shadow.is_table(mfn):
            self.shadow.unshadow(mfn)
        contents = self._tables.pop(mfn, None)
        if contents is not None and contents != bytes(self._ram.frame(mfn)):
            self.shadow.mark_dirty(mfn)

    # --- the dirty log ------------------------------------------------------------------------------

    def start(self) -> None:
        """Note writes from now on."""
        super().start()
        frames, domid = self._frames, self._domain.domid
        for mfn, kind in enumerate(frames.type):
            if kind in _TABLES and frames.owner[mfn] == domid:
                self._tables[mfn] = bytes(self._ram.frame(mfn))

    def stop(self) -> None:
        """Note writes no more, and forget which there were."""
        super().stop()
        self._tables.clear()

    def written(self) -> set[int]:
        """The pages written since the log was cleaned."""
        if not self.is_on:
            return set()
        self._look_at_tables()
        return {pfn for mfn in super().written() if (pfn := self._pfn(mfn)) < _NO_PAGE}

    def clean(self, below: int) -> None:
        """Begin anew for the pages below a number."""
        self._look_at_tables()
        for mfn in self.shadow.clean_log():
            if self._pfn(mfn) >= below:
                self.shadow.mark_dirty(mfn)

    def _look_at_tables(self) -> None:
        for mfn, contents in self._tables.items():
            now = bytes(self._ram.frame(mfn))
            if now != contents:
                self._tables[mfn] = now
                self.shadow.mark_dirty(mfn)

    def _pfn(self, mfn: int) -> int:
        """The number of a frame in the domain; _NO_PAGE and above for one that has none there."""
        if mfn >= self._frames.number or self._frames.owner[mfn] != self._domain.domid:
            return _NO_PAGE
        return self._hypervisor.m2p.get(mfn)


def _load_saved_root(vcpu: "Vcpu") -> None:
    """Make the saved state of a vCPU name the tables that it is to run on."""
    if vcpu.saved is not None:
        saved = bytearray(vcpu.saved)
        saved[_CR3] = (vcpu.processor_root << PAGE_SHIFT).to_bytes(8, "little")
        vcpu.saved = bytes(saved)
