"""Keeping shadow entries what the guest's entries mean, for tables in sync and for those that are not."""

from collections.abc import Callable
from typing import Final

from pvemu.hypervisor.shadow.guest_tables import GuestTables
from pvemu.hypervisor.shadow.kinds import Scheme, guest_slot, indexes_of
from pvemu.hypervisor.shadow.out_of_sync import OutOfSync
from pvemu.hypervisor.shadow.tables import ShadowTable, ShadowTables
from pvemu.memory.guest_walk import root_of
from pvemu.memory.page_tables import PRESENT

_WORD: Final = 8


class Upkeep:
    """What changes shadow entries after changes of the guest's."""

    def __init__(
        self,
        lookup: Callable[[int], int | None],
        tables: ShadowTables,
        guest: GuestTables,
        out_of_sync: OutOfSync,
    ) -> None:
        self._lookup = lookup
        self._tables, self._guest, self._out_of_sync = tables, guest, out_of_sync
        #: Which machine frame each guest frame was when it was mapped.
        self._mapped_as: dict[int, int] = {}

    def fill(self, table: ShadowTable, index: int, *, for_supervisor: bool = False) -> None:
        """Make a shadow_l1e what the guest's entry means."""
        leaf = self._guest.leaf(table, index)
        entry = self._guest.shadow_l1e(table, leaf, for_supervisor=for_supervisor)
        if leaf is not None and entry:
            mfn = self._lookup(leaf.gfn)
            assert mfn is not None
            self._mapped_as[leaf.gfn] = mfn
        self._tables.set_leaf(table.base + index, entry)

    def unmap(self, gfn: int) -> None:
        """Take all mappings of what a guest frame was away."""
        mfn = self._mapped_as.pop(gfn, None)
        if mfn is not None:
            self._tables.unmap(mfn)

    def revalidate(self, gfn: int, offset: int, size: int) -> None:
        """Make the shadow entries right that stand for some bytes of a guest table."""
        for table in tuple(self._tables.by_gfn.get(gfn, ())):
            entry_size = table.key.scheme.entry_size
            for slot in range(offset // entry_size, (offset + size - 1) // entry_size + 1):
                for index in indexes_of(table.key, slot):
                    self._renew(table, index)

    def _renew(self, table: ShadowTable, index: int) -> None:
        """Make one shadow entry right again; an upper one is taken away until its next use."""
        if table.key.kind.level == 1:
            self.fill(table, index)
            return
        place = table.base + index
        below = self._tables.target(place)
        if below is not None and below.key != self._guest.below(table, index):
            self._tables.link(place, None)

    # --- out of sync -----------------------------------------------------------------------------

    def catch_up(self, table: ShadowTable, index: int) -> None:
        """If a guest table is out of sync, take over the one entry that is used now."""
        key = table.key
        if key.gfn in self._out_of_sync and table.follows_guest:
            self._catch_up_slot(key.gfn, guest_slot(key, index), key.scheme.entry_size)

    def catch_up_way(self, scheme: Scheme, cr3: int, address: int) -> None:
        """Take over every entry on the way to an address, as the guest's tables are now."""
        gfn, first = root_of(scheme.mode, cr3)
        for step in scheme.steps.values():
            slot = first + (address >> step.shift & step.last)
            if gfn in self._out_of_sync:
                self._catch_up_slot(gfn, slot, scheme.entry_size)
            entry = self._guest.live_entry(gfn, slot, scheme.entry_size)
            if not entry & PRESENT or entry & step.large or not step.is_sound(entry):
                return
            gfn, first = step.frame(entry), 0

    def _catch_up_slot(self, gfn: int, slot: int, size: int) -> None:
        mfn = self._lookup(gfn)
        if mfn is not None and self._out_of_sync.catch_up(gfn, mfn, slot, size):
            self.revalidate(gfn, slot * size, size)

    def refresh(self, gfn: int) -> None:
        """Bring the shadows of a guest table up to date, which stays out of sync."""
        mfn = self._lookup(gfn)
        if mfn is None or gfn not in self._tables.by_gfn:
            self._out_of_sync.forget(gfn)
            return
        changes = self._out_of_sync.changes(gfn, mfn)
        if changes:
            self._out_of_sync.add(gfn, mfn)
        for offset in changes:
            self.revalidate(gfn, offset, _WORD)

    def resync(self, gfn: int) -> None:
        """Bring the shadows of a guest table up to date, and protect it again."""
        mfn = self._lookup(gfn)
        changes = [] if mfn is None else self._out_of_sync.changes(gfn, mfn)
        self._out_of_sync.forget(gfn)
        for offset in changes:
            self.revalidate(gfn, offset, _WORD)
        if mfn is not None and gfn in self._tables.by_gfn:
            self._tables.write_protect(mfn)
