"""The shadow tables that exist: found by what they are shadows of, linked, emptied, evicted for others."""

from collections.abc import Iterator
from typing import Final

from pvemu.hypervisor.paging_pool import PagingPool
from pvemu.hypervisor.shadow.kinds import Key
from pvemu.hypervisor.shadow.reverse_map import ReverseMap
from pvemu.memory.page_tables import ACCESSED, NO_EXECUTE, PRESENT, USER, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, Ram

#: What every upper shadow entry allows. A root below long mode may only say that it is there.
_LINK: Final = PRESENT | WRITABLE | USER | ACCESSED
_LINK_OF_FOUR: Final = PRESENT
#: The frame number's bits of a shadow entry.
FRAME_BITS: Final = (1 << 39) - (1 << PAGE_SHIFT)
_SLOT_BITS: Final = 9
#: When frames run out, one in so many tables goes, so that the search for them pays.
_EVICTED_AT_ONCE: Final = 16


class ShadowTable:
    """One shadow table.

    Attributes:
        key: what it is a shadow of.
        mfn: where it is; base: its first entry, as an index into RAM in 64-bit words.
        frozen: whether the guest's table can't be written, so that no marks are waited for.
        parents: the places of the upper shadow entries that lead here.
        users: how many virtual processors have it as their root.
        last_use: a number that grows with each page fault.
    """

    __slots__ = ("base", "frozen", "key", "last_use", "mfn", "parents", "users")

    def __init__(self, key: Key, mfn: int, frozen: bool) -> None:
        self.key = key
        self.mfn = mfn
        self.base = mfn << _SLOT_BITS
        self.frozen = frozen
        self.parents: set[int] = set()
        self.users = 0
        self.last_use = 0

    @property
    def follows_guest(self) -> bool:
        """Whether its entries stand for entries of a guest table."""
        return self.key.kind.guest_level > 0


class ShadowTables:
    """All shadow tables of one domain.

    Attributes:
        pool: where their frames come from, one for each.
        machine_base: physical address at which the processor finds machine memory; set before the first
            table.
        by_gfn: the tables that follow a guest table, by its frame.
        weakened: whether some access that was allowed isn't any more, so that the TLB has to be flushed.
        now: the number of the present use, for `last_use`.
    """

    def __init__(self, ram: Ram, pool: PagingPool) -> None:
        self._ram = ram
        self.pool = pool
        self.machine_base = 0
        self._by_key: dict[Key, ShadowTable] = {}
        self._by_mfn: dict[int, ShadowTable] = {}
        self.by_gfn: dict[int, list[ShadowTable]] = {}
        self.mappings = ReverseMap()
        self.weakened = False
        self.now = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[ShadowTable]:
        return iter(self._by_key.values())

    def get(self, key: Key) -> ShadowTable | None:
        """The shadow of something, if there is one."""
        return self._by_key.get(key)

    def holding(self, place: int) -> ShadowTable:
        """The table that an entry belongs to."""
        return self._by_mfn[place >> _SLOT_BITS]

    def target(self, place: int) -> ShadowTable | None:
        """The table that an upper shadow entry leads to."""
        entry = self._ram.u64[place]
        return self._by_mfn[(entry & FRAME_BITS) >> PAGE_SHIFT] if entry else None

    # --- coming and going ------------------------------------------------------------------------

    def add(self, key: Key, frozen: bool) -> ShadowTable:
        """Make an empty table, which may cost others theirs: never a root in use, nor one used just now."""
        mfn = self.take_frame()
        table = ShadowTable(key, mfn, frozen)
        table.last_use = self.now
        self._by_key[key] = self._by_mfn[mfn] = table
        if table.follows_guest:
            self.by_gfn.setdefault(key.gfn, []).append(table)
        return table

    def remove(self, table: ShadowTable) -> None:
        """Give a table up: nothing leads to it afterwards. Tables below it stay."""
        for place in table.parents:
            self._ram.u64[place] = 0
        self.empty(table)
        del self._by_key[table.key], self._by_mfn[table.mfn]
        if table.follows_guest:
            siblings = self.by_gfn[table.key.gfn]
            siblings.remove(table)
            if not siblings:
                del self.by_gfn[table.key.gfn]
        self.pool.put_back(table.mfn)
        self.weakened = True

    def empty(self, table: ShadowTable) -> None:
        """Take all its entries away."""
        number = table.key.kind.entries
        entries = self._ram.u64[table.base : table.base + number].tolist()
        for place, entry in enumerate(entries, table.base):
            if entry and table.key.kind.level == 1:
                self.set_leaf(place, 0)
            elif entry:
                self.link(place, None)

    def take_frame(self) -> int:
        """A zeroed frame of the pool, which may cost tables theirs: those that were not used for longest."""
        if not self.pool.spare:
            self.evict(max(1, len(self.pool) // _EVICTED_AT_ONCE))
        return self.pool.take()

    def evict(self, number: int) -> None:
        """Remove so many tables: first those that nothing leads to, then others; long unused ones first."""
        for only_without_parents in (True, False):
            candidates = [
                table for table in self if not table.users and not (only_without_parents and table.parents)
            ]
            candidates.sort(key=lambda table: table.last_use)
            victims = candidates[:number]
            for table in victims:
                self.remove(table)
            number -= len(victims)

    # --- entries ---------------------------------------------------------------------------------

    def link(self, place: int, below: ShadowTable | None) -> None:
        """Make an upper shadow entry lead to a table, or nowhere."""
        before = self.target(place)
        if before is not None:
            before.parents.discard(place)
            self.weakened = True
        if below is None:
            self._ram.u64[place] = 0
            return
        below.parents.add(place)
        flags = _LINK if self.holding(place).key.kind.entries > 4 else _LINK_OF_FOUR
        self._ram.u64[place] = self.machine_base | below.mfn << PAGE_SHIFT | flags

    def set_leaf(self, place: int, entry: int) -> None:
        """Write a shadow_l1e."""
        before = self._ram.u64[place]
        if before == entry:
            return
        if (before ^ entry) & FRAME_BITS or not before or not entry:
            if before:
                self.mappings.remove((before & FRAME_BITS) >> PAGE_SHIFT, place)
                self.weakened = True
            if entry:
                self.mappings.add((entry & FRAME_BITS) >> PAGE_SHIFT, place)
        elif before & ~entry & (WRITABLE | USER) or entry & ~before & NO_EXECUTE:
            self.weakened = True
        self._ram.u64[place] = entry

    def write_protect(self, mfn: int) -> None:
        """Take the right to write a frame from every shadow_l1e that maps it."""
        u64 = self._ram.u64
        for place in self.mappings.places(mfn):
            self.set_leaf(place, u64[place] & ~WRITABLE)

    def unmap(self, mfn: int) -> None:
        """Take every mapping of a frame away."""
        for place in self.mappings.places(mfn):
            self.set_leaf(place, 0)
