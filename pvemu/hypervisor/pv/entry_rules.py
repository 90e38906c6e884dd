"""Which bits a guest's page-table entries may have, and which slots of a table are the guest's."""

from typing import Final

from pvemu.hypervisor.address_space import FIRST_XEN_L2_SLOT
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3
from pvemu.memory.page_tables import (
    ACCESSED,
    AVAILABLE,
    CACHE_DISABLE,
    DIRTY,
    GLOBAL,
    LARGE,
    NO_EXECUTE,
    USER,
    WRITABLE,
    WRITE_THROUGH,
)

_CACHE_BITS: Final = WRITE_THROUGH | CACHE_DISABLE | LARGE
#: Bits 52 to 62, which the processor leaves to software.
_AVAILABLE_HIGH: Final = 0x7FF << 52

#: A domU without devices may not choose cache attributes; domain 0 may (golden: mmu_update-val-pse-bit7).
L1_DISALLOWED: Final = _CACHE_BITS
L1_DISALLOWED_PRIVILEGED: Final = 0
#: Bits by which an ordinary mapping is known: of them it has just WRITABLE.
PLAIN: Final = WRITABLE | _CACHE_BITS
TABLE_DISALLOWED: Final = _CACHE_BITS | GLOBAL
#: An L3 entry of PAE has no bits above the frame, not even NO_EXECUTE.
L3_DISALLOWED: Final = TABLE_DISALLOWED | NO_EXECUTE | _AVAILABLE_HIGH

#: Bits that may change without looking at the frame anew.
HARMLESS: Final = NO_EXECUTE | _AVAILABLE_HIGH | AVAILABLE | GLOBAL | DIRTY | ACCESSED | USER

#: The others: an entry in which one of them changes maps something else, or with other rights.
CHANGES: Final = ~HARMLESS & (1 << 64) - 1

#: An L3 entry of PAE proper has no rights; in compatibility mode it must grant them.
COMPAT_L3_FORCED: Final = WRITABLE | USER
COMPAT_L3_UNFORCED: Final = COMPAT_L3_FORCED | ACCESSED

#: The slot of the L3 for the fourth GiB, where the hypervisor is.
XEN_L3_SLOT: Final = 3

#: Entries of a table that hold references.
GUEST_SLOTS: Final = {PGT_L1: 512, PGT_L2: 512, PGT_L3: 4}


def guest_slots(kind: int, xen_l2: int) -> int:
    """How many entries of a table are the guest's, from the first on."""
    return FIRST_XEN_L2_SLOT if xen_l2 else GUEST_SLOTS[kind]
