"""The engine's own memory-management unit as a judge: one access through given tables, in any paging mode."""

import struct
from typing import Final, NamedTuple

from pvemu.cpu import exits, layout
from pvemu.cpu.laboratory import Laboratory
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE, FOUR_LEVEL, PAE, TWO_LEVEL
from pvemu.memory.ram import PAGE_SIZE

RAM_SIZE: Final = 1 << 20
#: Frames for tables and data that a test may use as it likes; the first is the root.
FIRST: Final = 0x40
LAST: Final = 0x4B
ROOT: Final = FIRST
#: What an access to a writable place leaves there.
WRITTEN: Final = 0xA5
#: Fills a page so that code can start at any even byte of it: int 0x82.
CODE_PAGE: Final = b"\xcd\x82" * (PAGE_SIZE // 2)

_LOW_L1, _LOW_L2, _LOW_L3 = 0x32, 0x31, 0x33
_ALL: Final = 0x67  # present, writable, user, accessed, dirty
_CODE: Final = {
    0: b"\x8a\x03\xcd\x82",  # mov al, [rbx] ; int 0x82
    FAULT_WRITE: b"\x88\x03\xcd\x82",  # mov [rbx], al ; int 0x82
    FAULT_FETCH: b"\xff\xe3",  # jmp rbx
}
_PF: Final = exits.EXCEPTION + exits.PF
_WP, _PSE = 1 << 16, 1 << 4
_CR0, _CR4, _EFER = 0x80040033, 0x6C0, 0x1001


class Seen(NamedTuple):
    """What an access came to: `error_code` is None when it was allowed; `value` is what a read gave."""

    error_code: int | None
    value: int


class PagingEngine(Laboratory):
    """A laboratory whose tables, from entry 1 of the root on, are the test's. Above 1 MiB is nothing."""

    def __init__(self) -> None:
        super().__init__("live")
        self.engine.map_nothing(RAM_SIZE, 1 << 40)
        self.mode = PagingMode(None)
        self.cr3 = self.address = 0

    def prepare(self, mode: PagingMode, cr3: int) -> None:
        """Empty tables for a mode, but for the first entry of the root, which maps the code."""
        self.mode, self.cr3 = mode, cr3
        for frame in range(FIRST, LAST + 1):
            self.memory[frame * PAGE_SIZE : (frame + 1) * PAGE_SIZE] = bytes(PAGE_SIZE)
        size, layout_ = (4, "<I") if mode.form is TWO_LEVEL else (8, "<Q")
        for page in range(RAM_SIZE // PAGE_SIZE):
            struct.pack_into(layout_, self.memory, _LOW_L1 * PAGE_SIZE + page * size, page << 12 | _ALL)
        self._put(_LOW_L2 * PAGE_SIZE, _LOW_L1 << 12 | _ALL)
        self._put(_LOW_L3 * PAGE_SIZE, _LOW_L2 << 12 | _ALL)
        first = {TWO_LEVEL: _LOW_L1 << 12 | _ALL, PAE: _LOW_L2 << 12 | 1, FOUR_LEVEL: _LOW_L3 << 12 | _ALL}
        assert mode.form is not None
        struct.pack_into(layout_, self.memory, cr3, first[mode.form])

    def access(self, address: int, access: int) -> Seen:
        """Read, write or jump to a linear address in ring 0, or in ring 3 with FAULT_USER."""
        fault = self.step(address, access)
        if fault is None:
            return Seen(None, self.window.u64[layout.RAX] & 0xFF)
        assert fault[0] == address
        return Seen(fault[1], 0)

    def step(self, address: int, access: int) -> tuple[int, int] | None:
        """Run an access to its end, or to its first page fault: address and error code of that."""
        self.address = address
        self.run_status(3 if access & FAULT_USER else 0, _CODE[access & (FAULT_WRITE | FAULT_FETCH)])
        seen = self.exit
        if seen is None:
            raise AssertionError("the access ended in neither a fault nor an exit")
        if seen.number == _PF:
            return seen.fault_address, seen.error_code
        assert seen.number == 0x82, seen
        return None

    def _enter(self, ring: int, intercept: int) -> None:
        super()._enter(ring, intercept)
        u32, u64 = self.window.u32, self.window.u64
        form = self.mode.form
        long_mode = form is FOUR_LEVEL
        control = layout.CR // 8
        u64[control] = _CR0 | (_WP if self.mode.write_protect else 0)
        u64[control + 3] = self.cr3
        u64[control + 4] = (
            _CR4 & ~0x20 | (0 if form is TWO_LEVEL else 0x20) | (_PSE if self.mode.large_pages else 0)
        )
        u64[layout.EFER // 8] = _EFER | (0x500 if long_mode else 0) | (0x800 if self.mode.no_execute else 0)
        u32[layout.HFLAGS // 4] &= ~(layout.HF_LMA | layout.HF_CS64)
        if long_mode:
            u32[layout.HFLAGS // 4] |= layout.HF_LMA | layout.HF_CS64
        u64[layout.RBX], u64[layout.RAX] = self.address, WRITTEN
        self.window.store()
        self.engine.flush_tlb()
