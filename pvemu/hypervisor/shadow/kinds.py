"""The kinds of shadow tables, and what each entry of one should lead to, as the guest's tables say.

A shadow table has the format that the processor walks: 512 entries of 8 bytes (4 in a root below long mode).
What it stands for depends on the guest's format: a table of 512 entries is shadowed by one; one of 1024
entries of 4 bytes by two (in level 1) or four (in level 2), because the processor's tables map half as much;
a large page, and all memory while the guest's paging is off, by tables that follow no guest table at all.

Rights live in shadow_l1es alone. The upper shadow entries allow everything, and what the guest's upper
entries (gl2e and above) allow is part of the identity of the table below. So one guest table that is reached
with different rights has a shadow for each.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pvemu.memory.guest_walk import PagingMode, root_of, steps_of
from pvemu.memory.page_tables import (
    ACCESSED,
    DIRTY,
    FOUR_LEVEL,
    NO_EXECUTE,
    PAE,
    PRESENT,
    TRANSLATED,
    TWO_LEVEL,
    USER,
    WRITABLE,
)

#: What the way to a page allows, besides WRITABLE and USER: execution; and with DIRTY, writing at once,
#: because the guest's entry is marked dirty already.
EXECUTABLE: Final = 1
ALL_ACCESS: Final = WRITABLE | USER | EXECUTABLE
_HALF_OF_FOUR_MIB: Final = 512


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of shadow table.

    Attributes:
        level: of the shadow table; 1 maps pages. `address >> shift & last` is the number of an entry.
        guest_level: of the guest table whose entries it follows; 0: it follows none.
        entries: how many it has. fold: log2 of how many of them stand for one entry of the guest.
    """

    name: str
    level: int
    guest_level: int
    entries: int = 512
    fold: int = 0
    shift: int = field(init=False)
    last: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", 12 + 9 * (self.level - 1))
        object.__setattr__(self, "last", self.entries - 1)


L4: Final = Kind("sl4", 4, 4)
L3: Final = Kind("sl3", 3, 3)
L2: Final = Kind("sl2", 2, 2)
L1: Final = Kind("sl1", 1, 1)
ROOT_PAE: Final = Kind("sl3 of PAE", 3, 3, entries=4)
#: The same below the fourth level that a PV guest has: there its entries must grant rights.
ROOT_COMPAT: Final = Kind("sl3 below long mode", 3, 3)
#: The shadows of two levels: a quarter of a guest's L2, half of an L1, and the root over the four quarters.
L2_QUARTER: Final = Kind("sl2 of a quarter", 2, 2, fold=1)
L1_HALF: Final = Kind("sl1 of a half", 1, 1)
ROOT_TWO: Final = Kind("sl3 of four quarters", 3, 0, entries=4)
#: Tables for memory that is mapped as a whole: 4 GiB, 1 GiB and 2 MiB.
ROOT_REGION: Final = Kind("sl3 of a region", 3, 0, entries=4)
L2_REGION: Final = Kind("sl2 of a region", 2, 0)
L1_REGION: Final = Kind("fl1", 1, 0)

_ROOTS: Final = {
    None: ROOT_REGION,
    TWO_LEVEL: ROOT_TWO,
    PAE: ROOT_PAE,
    TRANSLATED: ROOT_COMPAT,
    FOUR_LEVEL: L4,
}
_REGION_OF_LEVEL: Final = {2: L2_REGION, 1: L1_REGION}


class Key(NamedTuple):
    """What a shadow table is a shadow of.

    Attributes:
        scheme: the paging mode in which the guest uses it.
        gfn: the guest table's frame, or the first frame of the region.
        first: the first entry of the guest's frame that it stands for.
        access: what the way to here allows (for a region, with DIRTY: all of it).
    """

    scheme: "Scheme"
    kind: Kind
    gfn: int
    first: int
    access: int

    def describe(self) -> str:
        """For messages."""
        return f"{self.kind.name} of gfn {self.gfn:#x} from entry {self.first} on, access {self.access:#x}"


class Leaf(NamedTuple):
    """A page as the guest's tables map it: its frame, and what the whole way allows."""

    gfn: int
    access: int


class Scheme:
    """How one paging mode of the guest is shadowed; there is one for each mode in use.

    Attributes:
        entry_size: of the guest's entries, in bytes.
    """

    def __init__(self, mode: PagingMode) -> None:
        self.mode = mode
        self.entry_size = 8 if mode.form is None else mode.form.entry_size
        self.write_protect = mode.write_protect
        self.steps = {step.level: step for step in steps_of(mode)}
        self.root_kind = _ROOTS[mode.form]
        self._kind_below = {
            L4: L3,
            L3: L2,
            ROOT_PAE: L2,
            ROOT_COMPAT: L2,
            L2: L1,
            L2_QUARTER: L1_HALF,
            ROOT_REGION: L2_REGION,
            L2_REGION: L1_REGION,
        }

    def root(self, cr3: int) -> Key:
        """The table for a value of CR3."""
        if self.root_kind is ROOT_REGION:
            return Key(self, ROOT_REGION, 0, 0, ALL_ACCESS | DIRTY)
        gfn, first = root_of(self.mode, cr3)
        return Key(self, self.root_kind, gfn, first, ALL_ACCESS)

    def below(self, key: Key, index: int, guest_entry: int, frozen: bool) -> Key | None:
        """What an upper entry of a shadow table should lead to; None: nothing.

        An entry that isn't marked accessed leads nowhere yet, so that its first use is seen.

        Args:
            guest_entry: the one that the shadow entry stands for (0 where the kind follows no guest table).
            frozen: whether the guest's table can't be written, so that marks can't be set there.
        """
        _, kind, gfn, _, access = key
        if kind is ROOT_TWO:
            return Key(self, L2_QUARTER, gfn, index << 8, access)
        if not kind.guest_level:
            return Key(self, self._kind_below[kind], gfn + (index << 9 * (kind.level - 1)), 0, access)
        step = self.steps[kind.guest_level]
        if not guest_entry & PRESENT or not step.is_sound(guest_entry):
            return None
        if step.has_rights:
            if not frozen and not guest_entry & ACCESSED:
                return None
            access &= guest_entry | EXECUTABLE
            if guest_entry & NO_EXECUTE:
                access &= ~EXECUTABLE
        half = (index & 1) * _HALF_OF_FOUR_MIB if kind.fold else 0
        below = step.frame(guest_entry)
        if guest_entry & step.large:
            if frozen or guest_entry & DIRTY:
                access |= DIRTY
            return Key(self, _REGION_OF_LEVEL[kind.level - 1], below + half, 0, access)
        return Key(self, self._kind_below[kind], below, half, access)

    def leaf(self, key: Key, index: int, guest_l1e: int, frozen: bool) -> Leaf | None:
        """What a shadow_l1e should map; None: nothing (yet). The arguments are those of `below`."""
        _, kind, gfn, _, access = key
        if not kind.guest_level:
            return Leaf(gfn + index, access)
        step = self.steps[1]
        if not guest_l1e & PRESENT or not step.is_sound(guest_l1e) or not (frozen or guest_l1e & ACCESSED):
            return None
        access &= guest_l1e | EXECUTABLE
        if guest_l1e & NO_EXECUTE:
            access &= ~EXECUTABLE
        if frozen or guest_l1e & DIRTY:
            access |= DIRTY
        return Leaf(step.frame(guest_l1e), access)


def guest_slot(key: Key, index: int) -> int:
    """Which entry of the guest's frame an entry of a shadow table stands for."""
    return key.first + (index >> key.kind.fold)


def indexes_of(key: Key, slot: int) -> range:
    """Which entries of a shadow table stand for an entry of the guest's frame; possibly none."""
    fold = key.kind.fold
    first = slot - key.first << fold
    return range(first, first + (1 << fold)) if 0 <= first < key.kind.entries else range(0)
