"""The checker: every live shadow entry is compared with what the guest's tables mean."""

from typing import Final

from pvemu.hypervisor.shadow.guest_tables import GuestTables
from pvemu.hypervisor.shadow.kinds import guest_slot
from pvemu.hypervisor.shadow.tables import FRAME_BITS, ShadowTable, ShadowTables
from pvemu.memory.page_tables import DIRTY, USER, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, Ram

#: What upper entries say besides the frame, by how many the table has.
_UPPER_FLAGS: Final = {512: 0x27, 4: 0x01}


class ShadowError(AssertionError):
    """A shadow entry that isn't what the guest's tables mean, or a shadow that isn't known to be one."""


def check(ram: Ram, tables: ShadowTables, guest: GuestTables) -> None:
    """Look at every entry of every shadow table of a domain (slow: for tests).

    An entry that isn't there is always right: the next access makes it. So is one with fewer rights. A table
    that is out of sync is held against what it was when its shadows were made.

    Raises:
        ShadowError: with the guest's entry and the shadow's.
    """
    _Check(ram, tables, guest).run()


class _Check:
    def __init__(self, ram: Ram, tables: ShadowTables, guest: GuestTables) -> None:
        self._ram, self._tables, self._guest = ram, tables, guest
        self._leaves: set[tuple[int, int]] = set()
        self._links: set[tuple[int, int]] = set()

    def run(self) -> None:
        tables = list(self._tables)
        pool = self._tables.pool
        if len(tables) + pool.spare > len(pool):
            raise ShadowError(f"{len(tables)} shadow tables, {pool.spare} of {len(pool)} frames unused")
        if len({table.mfn for table in tables}) != len(tables):
            raise ShadowError("two shadow tables in one frame")
        for table in tables:
            number = table.key.kind.entries
            entries = self._ram.u64[table.base : table.base + number].tolist()
            for index, entry in enumerate(entries):
                if entry and table.key.kind.level == 1:
                    self._check_leaf(table, index, entry)
                elif entry:
                    self._check_upper(table, index, entry)
        self._compare("reverse maps", set(self._tables.mappings.pairs()), self._leaves)
        parents = {(table.mfn, place) for table in tables for place in table.parents}
        self._compare("links", parents, self._links)
        following = {(table.key.gfn, table.mfn) for table in tables if table.follows_guest}
        known = {(gfn, table.mfn) for gfn, found in self._tables.by_gfn.items() for table in found}
        self._compare("shadows by guest frame", known, following)

    def _compare(self, what: str, kept: set[tuple[int, int]], real: set[tuple[int, int]]) -> None:
        if kept != real:
            surplus = sorted(kept - real)[:3], sorted(real - kept)[:3]
            raise ShadowError(f"{what}: kept but not there {surplus[0]}, there but not kept {surplus[1]}")

    def _check_upper(self, table: ShadowTable, index: int, entry: int) -> None:
        wanted = self._guest.below(table, index)
        below = self._tables.target(table.base + index)
        assert below is not None
        self._links.add((below.mfn, table.base + index))
        expected = self._tables.machine_base | below.mfn << PAGE_SHIFT | _UPPER_FLAGS[table.key.kind.entries]
        # A large page that another shadow has let be written is read-only here until somebody writes it here.
        is_right = wanted is not None and below.key in (
            wanted,
            wanted._replace(access=wanted.access & ~DIRTY),
        )
        if not is_right or entry != expected:
            raise self._error(table, index, entry, "nothing" if wanted is None else wanted.describe())

    def _check_leaf(self, table: ShadowTable, index: int, entry: int) -> None:
        self._leaves.add(((entry & FRAME_BITS) >> PAGE_SHIFT, table.base + index))
        leaf = self._guest.leaf(table, index)
        rights = WRITABLE | USER
        allowed = [self._guest.shadow_l1e(table, leaf, for_supervisor=on) for on in (False, True)]
        if not any(entry & ~rights == most & ~rights and not entry & ~most for most in allowed):
            raise self._error(table, index, entry, " or ".join(f"{most:#x}" for most in allowed))

    def _error(self, table: ShadowTable, index: int, entry: int, meaning: str) -> ShadowError:
        key = table.key
        level = key.kind.level
        shadow = f"sl{level}e {index} of {key.kind.name} in frame {table.mfn:#x} is {entry:#x}"
        if not key.kind.guest_level:
            return ShadowError(f"{shadow}, but the region from gfn {key.gfn:#x} on means {meaning}")
        guest = f"gl{key.kind.guest_level}e {guest_slot(key, index)} of gfn {key.gfn:#x}"
        value = self._guest.entry(key, index)
        return ShadowError(f"{shadow}, but {guest} is {value:#x}, and means {meaning}")
