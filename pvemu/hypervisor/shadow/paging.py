"""Shadow paging of one domain: what page faults, loads of CR3, INVLPG and writes to guest tables lead to."""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.hypervisor.paging_pool import PagingPool
from pvemu.hypervisor.shadow import checker
from pvemu.hypervisor.shadow.dirty_log import DirtyLog
from pvemu.hypervisor.shadow.guest_tables import GuestTables
from pvemu.hypervisor.shadow.kinds import Key, Scheme
from pvemu.hypervisor.shadow.out_of_sync import OutOfSync
from pvemu.hypervisor.shadow.outcome import FIXED, EmulateWrite, GuestFault, Mmio, Outcome
from pvemu.hypervisor.shadow.tables import ShadowTable, ShadowTables
from pvemu.hypervisor.shadow.upkeep import Upkeep
from pvemu.hypervisor.shadow.write_history import WriteHistory
from pvemu.memory.guest_walk import GuestPageFault, PagingMode, walk
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE
from pvemu.memory.ram import PAGE_SHIFT, Ram

#: With fewer frames, and one more for each further virtual processor, not even one access gets on. Domains
#: have far more: paging_pool.py says how many an instruction needs.
LEAST_FRAMES: Final = 4
#: Bringing a table in sync costs up to 512 entries, at each load of CR3.
_OUT_OF_SYNC: Final = 16

_ACCESS: Final = FAULT_WRITE | FAULT_USER | FAULT_FETCH


class _Root(NamedTuple):
    """What one virtual processor runs on."""

    scheme: Scheme
    cr3: int
    table: ShadowTable


class Shadow:
    """The shadow tables of one domain, whose virtual processors are told apart by number.

    The processor that walks them has CR0.PG, CR0.WP, CR4.PAE and EFER.NXE set, and is in long mode exactly
    when the guest is. It never changes them: accessed and dirty are set in every shadow entry.

    Attributes:
        tables: what there is; guest: what it was made from; out_of_sync: what the guest may write of that.

    Args:
        lookup: guest frame to machine frame; None: no memory is there.
        is_writable: whether the guest may write a frame that is memory.
        pool: where the frames for shadows come from.
        flush_tlb: forget all translations of all virtual processors that are loaded anywhere.
        protects: whether guest tables are kept from being written unnoticed. If not, all are out of sync for
            good, and the shadows are like a TLB: the caller says `flush` when translations have to go, and
            `unshadow` before a frame stops being a table.

    Raises:
        ValueError: the pool is too small for anything.
    """

    def __init__(
        self,
        ram: Ram,
        lookup: Callable[[int], int | None],
        is_writable: Callable[[int], bool],
        *,
        pool: PagingPool,
        flush_tlb: Callable[[], None],
        protects: bool = True,
    ) -> None:
        _check_size(len(pool))
        self._ram = ram
        self._lookup, self._is_writable, self._flush_tlb = lookup, is_writable, flush_tlb
        self._protects = protects
        self.tables = ShadowTables(ram, pool)
        self.out_of_sync = OutOfSync(ram, _OUT_OF_SYNC if protects else ram.frames)
        self.guest = GuestTables(ram, lookup, is_writable, self.tables, self.out_of_sync)
        self._upkeep = Upkeep(lookup, self.tables, self.guest, self.out_of_sync)
        self._history = WriteHistory()
        self._schemes: dict[PagingMode, Scheme] = {}
        self._roots: dict[int, _Root] = {}
        #: The last page fault: when it comes again, nothing is taken for granted.
        self._last_fault = (0, 0, 0)

    # --- what the guest does ---------------------------------------------------------------------

    def set_root(self, mode: PagingMode, guest_cr3: int, vcpu: int = 0) -> int:
        """A virtual processor loads CR3, or its mode changes; the frame for the real CR3.

        The caller loads that, and so flushes the TLB.
        """
        self._synchronise()
        scheme = self._schemes.get(mode) or self._schemes.setdefault(mode, Scheme(mode))
        old = self._roots.get(vcpu)
        self.drop_root(vcpu)
        if old is not None and all(scheme is not old.scheme for scheme in self._schemes_in_use(scheme)):
            self._drop_scheme(old.scheme)
        key = scheme.root(guest_cr3)
        table = self.tables.get(key) or self._new_table(key)
        table.users += 1
        self._roots[vcpu] = _Root(scheme, guest_cr3, table)
        table.last_use = self.tables.now
        self._settle()
        return table.mfn

    def drop_root(self, vcpu: int) -> None:
        """A virtual processor uses no tables any more; its root stays as long as there is room."""
        root = self._roots.pop(vcpu, None)
        if root is not None:
            root.table.users -= 1

    def page_fault(self, address: int, error_code: int, vcpu: int = 0) -> Outcome:
        """A page fault of the processor: make the shadow allow the access, or say what else it is.

        Accessed and dirty bits in the guest's tables are set as its own processor would.
        """
        root = self._roots[vcpu]
        access = error_code & _ACCESS
        try:
            found = walk(
                *(self._ram, self._lookup, root.scheme.mode, root.cr3, address, access),
                is_writable=self.may_mark,
            )
        except GuestPageFault as fault:
            return GuestFault(fault.error_code)
        gfn = found.address >> PAGE_SHIFT
        if self._lookup(gfn) is None or (access & FAULT_WRITE and not self._is_writable(gfn)):
            return Mmio(found.address)
        this = (address, error_code, vcpu)
        table = self._shadow_l1(root, address, trusting=this != self._last_fault)
        self._last_fault = this
        outcome: Outcome = FIXED
        if access & FAULT_WRITE and not self._make_writable(gfn):
            outcome = EmulateWrite(found.address)
        else:
            for_supervisor = access & (FAULT_WRITE | FAULT_USER) == FAULT_WRITE
            self._upkeep.fill(table, address >> PAGE_SHIFT & 511, for_supervisor=for_supervisor)
            if self.guest.log is not None:
                self.guest.log.faults += 1
        self._settle()
        return outcome

    def invalidate(self, address: int, vcpu: int = 0) -> None:
        """INVLPG: what the guest's tables say of an address now is in force, and the TLB is flushed."""
        if not self._protects:
            self._synchronise()
        elif len(self.out_of_sync):
            root = self._roots[vcpu]
            self._upkeep.catch_up_way(root.scheme, root.cr3, address)
            for gfn in self.out_of_sync:
                if not self._has_only_l1s(gfn):
                    self._upkeep.resync(gfn)
        self.tables.weakened = False
        self._flush_tlb()

    def flush(self) -> None:
        """What all guest tables say now is in force; the caller flushes the TLB, or will."""
        self._synchronise()
        self.tables.weakened = False

    def guest_wrote(self, gfn: int, offset: int, size: int) -> None:
        """Memory of the guest was written, `size` bytes within one frame, other than by the guest itself.

        An emulated instruction does so, a device may. Cheap for frames that are no tables.
        """
        if self.guest.log is not None:
            self.guest.log.mark(gfn)
        if not self.guest.is_protected(gfn):
            return
        mfn = self._lookup(gfn)
        if mfn is None:
            return
        at = (mfn << PAGE_SHIFT) + offset
        suspicious = self._history.suspects(gfn, offset, bytes(self._ram.u8[at : at + size]))
        if suspicious and not self._is_root(gfn):
            self.unshadow(gfn)
        else:
            self._upkeep.revalidate(gfn, offset, size)
            self._settle()

    # --- what happens to the guest's memory ------------------------------------------------------

    def p2m_changed(self, gfn: int) -> None:
        """The physical-to-machine map of a frame has changed: nothing maps its old memory afterwards."""
        self._upkeep.unmap(gfn)
        self.unshadow(gfn)
        self.out_of_sync.forget(gfn)
        for table in self.tables.by_gfn.get(gfn, ()):
            table.frozen = self.guest.is_fixed(gfn)
        if self.guest.log is not None and self._lookup(gfn) is not None:
            self.guest.log.mark(gfn)
        self._settle()

    def unshadow(self, gfn: int) -> bool:
        """Give up the shadows of a guest table, as it may be none any more; whether it can be written now.

        A root that is in use stays, without entries, and protected.
        """
        for table in tuple(self.tables.by_gfn.get(gfn, ())):
            if table.users:
                self.tables.empty(table)
            else:
                self.tables.remove(table)
        self._history.forget(gfn)
        gone = gfn not in self.tables.by_gfn
        if gone:
            self.out_of_sync.forget(gfn)
        self._settle()
        return gone

    def unsync(self, gfn: int) -> None:
        """Let the guest write a table, of whatever level, until INVLPG or a load of CR3.

        For a store that can't be emulated; level 1 tables come to this by themselves.
        """
        mfn = self._lookup(gfn)
        if mfn is None or not self.guest.is_protected(gfn):
            return
        oldest = self.out_of_sync.oldest()
        if oldest is not None:
            self._upkeep.resync(oldest)
        self.out_of_sync.add(gfn, mfn)
        self._history.forget(gfn)
        self._settle()

    def is_table(self, gfn: int) -> bool:
        """Whether a guest frame is shadowed as a table: who writes it has to say `guest_wrote`."""
        return gfn in self.tables.by_gfn

    def resize_pool(self, size: int) -> None:
        """Change how many frames the pool has; tables give up those that go.

        Raises:
            ValueError: too few are left for shadows. OutOfFrames: the machine has not so many; those that it
                had are in the pool.
        """
        pool = self.tables.pool
        used_otherwise = len(pool) - pool.spare - len(self.tables)
        _check_size(size - used_otherwise)
        surplus = len(pool) - size - pool.spare
        if surplus > 0:
            self.tables.evict(surplus)
            self._settle()
        pool.resize(size)

    def take_frame(self) -> int:
        """A zeroed frame of the pool for what else the domain needs; it may cost tables theirs."""
        mfn = self.tables.take_frame()
        self._settle()
        return mfn

    def destroy(self) -> None:
        """Give all frames back to the pool."""
        self._roots.clear()
        for table in tuple(self.tables):
            self.tables.remove(table)
        self._settle()

    def check(self) -> None:
        """Compare every live shadow entry with what the guest's tables mean (slow: for tests).

        Raises:
            ShadowError: with the guest's entry and the shadow's.
        """
        checker.check(self._ram, self.tables, self.guest)

    # --- the dirty log ---------------------------------------------------------------------------

    @property
    def log(self) -> DirtyLog | None:
        """The dirty log, while there is one."""
        return self.guest.log

    def start_log(self) -> None:
        """Note from now on which frames are written."""
        self.guest.log = DirtyLog()
        for mfn in self.tables.mappings.frames():
            self.tables.write_protect(mfn)
        self._settle()

    def stop_log(self) -> None:
        """Note writes no more."""
        self.guest.log = None

    def clean_log(self) -> set[int]:
        """Begin the log anew; the frames that were written since it began. Without a log, none."""
        if self.guest.log is None:
            return set()
        frames = self.guest.log.clean()
        for gfn in frames:
            mfn = self._lookup(gfn)
            if mfn is not None:
                self.tables.write_protect(mfn)
        self._settle()
        return frames

    def mark_dirty(self, gfn: int) -> None:
        """A frame was written without the guest's tables: by a hypercall, a device, another domain."""
        if self.guest.log is not None:
            self.guest.log.mark(gfn)

    # --- inside ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Make the processor forget what it must not use any more."""
        if self.tables.weakened:
            self.tables.weakened = False
            self._flush_tlb()

    def _synchronise(self) -> None:
        bring_up = self._upkeep.resync if self._protects else self._upkeep.refresh
        for gfn in self.out_of_sync:
            bring_up(gfn)

    def may_mark(self, gfn: int) -> bool:
        """Asked before accessed or dirty is set in a guest table."""
        if not self._is_writable(gfn):
            return False
        if self.guest.log is not None:
            self.guest.log.mark(gfn)
        return True

    def _shadow_l1(self, root: _Root, address: int, *, trusting: bool) -> ShadowTable:
        """The shadow L1 for an address that the guest's tables translate; made and linked if need be.

        Args:
            trusting: take links that are there for right, as they are unless memory was written unnoticed.
        """
        self.tables.now += 1
        table = root.table
        while True:
            key = table.key
            kind = key.kind
            index = address >> kind.shift & kind.last
            table.last_use = self.tables.now
            self._history.used(key.gfn)
            self._upkeep.catch_up(table, index)
            if kind.level == 1:
                return table
            below = self.tables.target(table.base + index) if trusting else None
            table = below or self._link(table, index)

    def _link(self, table: ShadowTable, index: int) -> ShadowTable:
        """Make an upper shadow entry lead to the shadow of what the guest's entry names."""
        wanted = self.guest.below(table, index)
        # The walk has just come by, and has marked every entry as accessed.
        assert wanted is not None
        below = self.tables.get(wanted) or self._new_table(wanted)
        if self.tables.target(table.base + index) is not below:
            self.tables.link(table.base + index, below)
        return below

    def _new_table(self, key: Key) -> ShadowTable:
        """Make a shadow table, without entries; its guest table can't be written unnoticed from then on."""
        gfn = key.gfn
        table = self.tables.add(key, self.guest.is_fixed(gfn))
        if table.follows_guest:
            mfn = self._lookup(gfn)
            if not self._protects:
                if mfn is not None and gfn not in self.out_of_sync:
                    self.out_of_sync.add(gfn, mfn)
            elif gfn not in self.out_of_sync:
                if mfn is not None:
                    self.tables.write_protect(mfn)
            elif key.kind.level > 1:
                self._upkeep.resync(gfn)
        return table

    def _make_writable(self, gfn: int) -> bool:
        """See to it that a frame may be mapped writable; False when it is a table that stays in sync."""
        if self.guest.is_protected(gfn):
            if not self._has_only_l1s(gfn):
                return False
            self.unsync(gfn)
        self.mark_dirty(gfn)
        return True

    def _has_only_l1s(self, gfn: int) -> bool:
        return all(table.key.kind.level == 1 for table in self.tables.by_gfn.get(gfn, ()))

    def _is_root(self, gfn: int) -> bool:
        return any(table.users for table in self.tables.by_gfn.get(gfn, ()))

    def _schemes_in_use(self, *more: Scheme) -> list[Scheme]:
        return [*(root.scheme for root in self._roots.values()), *more]

    def _drop_scheme(self, scheme: Scheme) -> None:
        """Give up the shadows for a mode that nobody is in."""
        for table in tuple(self.tables):
            if table.key.scheme is scheme:
                self.tables.remove(table)
        del self._schemes[scheme.mode]
        for gfn in self.out_of_sync:
            if gfn not in self.tables.by_gfn:
                self.out_of_sync.forget(gfn)


def _check_size(frames: int) -> None:
    if frames < LEAST_FRAMES:
        raise ValueError(f"shadows need at least {LEAST_FRAMES} frames, not {frames}")
