"""A guest's page tables as the shadows know them, and the shadow entries that follow from them."""

from collections.abc import Callable

from pvemu.hypervisor.shadow.dirty_log import DirtyLog
from pvemu.hypervisor.shadow.kinds import EXECUTABLE, Key, Leaf, guest_slot
from pvemu.hypervisor.shadow.out_of_sync import OutOfSync
from pvemu.hypervisor.shadow.tables import ShadowTable, ShadowTables
from pvemu.memory.guest_walk import NOBODY
from pvemu.memory.page_tables import ACCESSED, DIRTY, NO_EXECUTE, PRESENT, USER, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, Ram


class GuestTables:
    """What every shadow entry should be.

    Attributes:
        log: the dirty log, while there is one.

    Args:
        lookup, is_writable: the domain's physical-to-machine map, as for `guest_walk.walk`.
    """

    def __init__(
        self,
        ram: Ram,
        lookup: Callable[[int], int | None],
        is_writable: Callable[[int], bool],
        tables: ShadowTables,
        out_of_sync: OutOfSync,
    ) -> None:
        self._ram = ram
        self._lookup, self._is_writable = lookup, is_writable
        self._tables, self._out_of_sync = tables, out_of_sync
        self.log: DirtyLog | None = None

    def is_fixed(self, gfn: int) -> bool:
        """Whether a guest frame can't be written, and so a table there gets no marks."""
        return self._lookup(gfn) is None or not self._is_writable(gfn)

    def is_protected(self, gfn: int) -> bool:
        """Whether a frame must not be mapped writable: it is a guest table, in sync with its shadows."""
        return gfn in self._tables.by_gfn and gfn not in self._out_of_sync

    def may_write(self, gfn: int) -> bool:
        """Whether a shadow_l1e may allow writes to a frame that is memory."""
        if not self._is_writable(gfn) or self.is_protected(gfn):
            return False
        return self.log is None or gfn in self.log

    def live_entry(self, gfn: int, slot: int, size: int) -> int:
        """An entry of `size` bytes in the guest's memory as it is now; all ones where no memory is."""
        mfn = self._lookup(gfn)
        if mfn is None:
            return NOBODY[size]
        if size == 8:
            return self._ram.u64[(mfn << 9) + slot]
        return self._ram.u32[(mfn << 10) + slot]

    def entry(self, key: Key, index: int) -> int:
        """The guest's entry that an entry of a shadow table was made from (0 where the kind follows none)."""
        if not key.kind.guest_level:
            return 0
        slot, size = guest_slot(key, index), key.scheme.entry_size
        if key.gfn in self._out_of_sync:
            return self._out_of_sync.entry(key.gfn, slot, size)
        return self.live_entry(key.gfn, slot, size)

    def below(self, table: ShadowTable, index: int) -> Key | None:
        """What an upper shadow entry should lead to."""
        key = table.key
        return key.scheme.below(key, index, self.entry(key, index), table.frozen)

    def leaf(self, table: ShadowTable, index: int) -> Leaf | None:
        """What a shadow_l1e should map."""
        key = table.key
        return key.scheme.leaf(key, index, self.entry(key, index), table.frozen)

    def shadow_l1e(self, table: ShadowTable, leaf: Leaf | None, *, for_supervisor: bool = False) -> int:
        """The shadow_l1e for a page; 0 when no memory is there.

        While the guest's CR0.WP is off, its kernel may write pages that are read-only for its users, but the
        processor under the shadow has CR0.WP on. Such a page is mapped either read-only for all or, with
        `for_supervisor`, writable and out of the users' reach; an access of the other sort faults and
        changes it.
        """
        mfn = None if leaf is None else self._lookup(leaf.gfn)
        if leaf is None or mfn is None:
            return 0
        access, writable = leaf.access, leaf.access & WRITABLE
        user = access & USER
        if not writable and not table.key.scheme.write_protect and (for_supervisor or not user):
            writable, user = WRITABLE, 0
        if not access & DIRTY or not self.may_write(leaf.gfn):
            writable = 0
        executable = 0 if access & EXECUTABLE else NO_EXECUTE
        place = self._tables.machine_base | mfn << PAGE_SHIFT
        return place | PRESENT | ACCESSED | DIRTY | writable | user | executable
