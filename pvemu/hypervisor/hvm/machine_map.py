"""Where a processor under shadow paging finds machine memory: high up, where no CR3 of a TSS can lead.

The engine carries out a guest's task switches itself and takes CR3 from the TSS, which nothing intercepts. So
shadow tables run below a nested table that never changes: it has machine memory from MACHINE_BASE on, and
nothing below 4 GiB. A CR3 of 32 bits then leads to a nested page fault at once, and `finish_task_switch`
completes the switch.
"""

from collections.abc import Callable
from typing import Final

from pvemu.memory.page_tables import ACCESSED, DIRTY, LARGE, PRESENT, USER, WRITABLE
from pvemu.memory.ram import PAGE_SHIFT, Ram

#: Physical address of machine memory's first byte: the second half of 40 bits.
MACHINE_BASE: Final = 1 << 39
_SLOT: Final = MACHINE_BASE >> 39
_GIB_SHIFT: Final = 30
_LINK: Final = PRESENT | WRITABLE | USER | ACCESSED
_PAGE: Final = _LINK | DIRTY | LARGE


class MachineMap:
    """The nested table: an L4 and an L3 of pages of 1 GiB.

    Attributes:
        root: physical address of the L4.

    Args:
        allocate: one zeroed machine frame.
    """

    def __init__(self, ram: Ram, allocate: Callable[[], int]) -> None:
        root, below = allocate(), allocate()
        self.root = root << PAGE_SHIFT
        ram.u64[(root << 9) + _SLOT] = below << PAGE_SHIFT | _LINK
        for number in range(-(-ram.size >> _GIB_SHIFT)):
            ram.u64[(below << 9) + number] = number << _GIB_SHIFT | _PAGE
