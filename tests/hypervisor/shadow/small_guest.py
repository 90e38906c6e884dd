"""A small guest with one tree of four-level tables under shadow paging, for tests of single promises."""

import struct
from typing import Final

from shadowed_guest import Allowed, ShadowedGuest

from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FOUR_LEVEL

MODE: Final = PagingMode(FOUR_LEVEL, write_protect=True, no_execute=True, large_pages=True)
#: The guest's tables and pages, by frame. Both L2s are there for two different GiB.
L4, L3, L2, OTHER_L2, L1, OTHER_L1 = range(0x20, 0x26)
DATA: Final = range(0x26, 0x2C)
ALL: Final = 0x67
GIB: Final = 1 << 30


class SmallGuest(ShadowedGuest):
    """Page n is frame 0x20 + n; the second GiB maps the same, by an L2 and an L1 of its own."""

    def __init__(self, limit: int = 40, mode: PagingMode = MODE, rights: int = ALL) -> None:
        super().__init__(limit)
        self.put(L4, 0, L3)
        self.put(L3, 0, L2)
        self.put(L3, 1, OTHER_L2)
        self.put(L2, 0, L1)
        self.put(OTHER_L2, 0, OTHER_L1)
        for number, (gfn, _) in enumerate(sorted(self.p2m)):
            self.put(L1, number, gfn, rights)
            self.put(OTHER_L1, number, gfn, rights)
        self.load_root(mode, L4 << 12)

    def put(self, gfn: int, slot: int, target: int, flags: int = ALL) -> None:
        """Write an entry behind everybody's back."""
        mfn = self.p2m.get(gfn)
        assert mfn is not None
        struct.pack_into("<Q", self.ram.frame(mfn), slot * 8, target << 12 | flags)

    def change(self, gfn: int, slot: int, target: int, flags: int = ALL) -> None:
        """Write an entry as the emulator does."""
        self.write(gfn, slot * 8, (target << 12 | flags).to_bytes(8, "little"))

    def faults(self, address: int, access: int = 0, vcpu: int = 0) -> int:
        """How many page faults an access takes that is allowed."""
        count = 0
        page_fault = self.shadow.page_fault

        def counting(address: int, error_code: int, vcpu: int = 0) -> object:
            nonlocal count
            count += 1
            return page_fault(address, error_code, vcpu)

        self.shadow.page_fault = counting  # type: ignore[method-assign,assignment]
        try:
            assert isinstance(self.access(address, access, vcpu), Allowed)
        finally:
            self.shadow.page_fault = page_fault  # type: ignore[method-assign]
        return count


def page(gfn: int) -> int:
    """Where a frame is mapped in the first GiB."""
    return gfn - L4 << 12
