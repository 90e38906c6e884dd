"""The one door to guest memory: checked copies from and to a guest's virtual addresses.

Every byte is translated through the guest's own page tables with the rights that they grant, so nothing
is read or written here that the guest's kernel could not. Translations are cached by page until the
tables change; whoever changes them calls `flush`.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.memory.page_tables import LARGE, PRESENT, WRITABLE, PagingFormat, entry_frame, walk
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Ram

#: Address bits below those that choose an L1.
_L2_SHIFT: Final = 21
_ADDRESSES: Final = 1 << 32


class GuestFault(HypercallError):
    """The guest named memory that it may not use so; as a hypercall's result, -EFAULT."""

    def __init__(self, address: int) -> None:
        super().__init__(Errno.EFAULT)
        self.address = address


class GuestMemory:
    """The memory of one 32-bit guest as its kernel sees it.

    Attributes:
        readable: machine addresses of pages that are known to be readable, by virtual page number.
        own_l1_entries: of pages whose L1 entry the guest may have replaced, the index of that entry in RAM
            as 64-bit words. Whoever finds that out adds it; it is true until upper tables change.
        cached_by: pages of which something is cached here, by the index of the L1 entry that maps them.

    Args:
        ram: the machine's memory.
        form: the format of the guest's page tables.
        limit: the first address that belongs to the hypervisor. Nothing from there up is written; what the
            guest's tables show there may be read, as on real Xen: the machine-to-physical map.
        on_write: called with a frame number before it is written, so that translated code is forgotten.
    """

    def __init__(self, ram: Ram, form: PagingFormat, limit: int, on_write: Callable[[int], None]) -> None:
        self._ram, self._bytes = ram, ram.memory
        self._u8, self._u32 = ram.u8, ram.u32
        self._form = form
        self._limit = limit
        self._on_write = on_write
        self._root: int | None = None
        self.readable: dict[int, int] = {}
        self._writable: dict[int, int] = {}
        self._l1_tables: dict[int, int] = {}
        self.own_l1_entries: dict[int, int] = {}
        self.cached_by: dict[int, set[int]] = {}

    def set_root(self, mfn: int | None) -> None:
        """Use the page tables whose root is a machine frame; None: there are none, all faults."""
        self._root = mfn
        self.flush_tables()

    def flush(self) -> None:
        """Forget all cached translations."""
        self.readable.clear()
        self._writable.clear()
        self.cached_by.clear()

    def forget(self, l1_entry: int) -> None:
        """Forget what was translated through an L1 entry: its index in RAM as 64-bit words."""
        for page in self.cached_by.pop(l1_entry, ()):
            self.readable.pop(page, None)
            self._writable.pop(page, None)

    def flush_tables(self) -> None:
        """Forget where the L1s are, too: entries of upper tables have changed."""
        self._l1_tables.clear()
        self.own_l1_entries.clear()
        self.flush()

    def copy_from_guest(self, address: int, size: int) -> bytes:
        """Read `size` bytes; none at all can be read anywhere.

        Raises:
            GuestFault: some byte is not readable for the guest's kernel.
        """
        if not size:
            return b""
        offset = address & PAGE_MASK
        if offset + size <= PAGE_SIZE:
            page = self.readable.get(address >> PAGE_SHIFT)
            machine = offset + (self._translate(address, 0) if page is None else page)
            return self._bytes[machine : machine + size]
        chunks = []
        for at, length in _pages(address, size):
            machine = self._read_page(at) + (at & PAGE_MASK)
            chunks.append(self._ram.u8[machine : machine + length])
        return b"".join(chunks)

    def copy_to_guest(self, address: int, data: bytes) -> None:
        """Write bytes. Pages before the first that can't be written have been written then, as on Xen.

        Raises:
            GuestFault: some byte is not writable for the guest's kernel.
        """
        offset, size = address & PAGE_MASK, len(data)
        if not size:
            return
        if offset + size <= PAGE_SIZE:
            page = self._writable.get(address >> PAGE_SHIFT)
            if page is None:
                page = self._translate(address, WRITABLE)
            self._on_write(page >> PAGE_SHIFT)
            machine = page + offset
            self._bytes[machine : machine + size] = data
            return
        self._check_range(address, size)
        done = 0
        for at, length in _pages(address, size):
            machine = self._write_page(at) + (at & PAGE_MASK)
            self._ram.u8[machine : machine + length] = data[done : done + length]
            done += length

    def unpack(self, address: int, layout: struct.Struct) -> tuple[int, ...]:
        """Read a packed structure of numbers; raises GuestFault."""
        offset = address & PAGE_MASK
        if offset + layout.size > PAGE_SIZE:
            return layout.unpack(self.copy_from_guest(address, layout.size))
        page = self.readable.get(address >> PAGE_SHIFT)
        if page is None:
            page = self._translate(address, 0)
        return layout.unpack_from(self._u8, page + offset)

    def pack(self, address: int, layout: struct.Struct, *values: int) -> None:
        """Write a packed structure; raises GuestFault."""
        self.copy_to_guest(address, layout.pack(*values))

    def read_u16(self, address: int) -> int:
        """Read two bytes; raises GuestFault."""
        return int.from_bytes(self.copy_from_guest(address, 2), "little")

    def read_u32(self, address: int) -> int:
        """Read four bytes; raises GuestFault."""
        if address & 3:
            return int.from_bytes(self.copy_from_guest(address, 4), "little")
        page = self.readable.get(address >> PAGE_SHIFT)
        if page is None:
            page = self._translate(address, 0)
        return self._u32[page + (address & PAGE_MASK) >> 2]

    def read_word(self, address: int, size: int) -> int:
        """Read a number of as many bytes; raises GuestFault."""
        return int.from_bytes(self.copy_from_guest(address, size), "little")

    def write_u32(self, address: int, value: int) -> None:
        """Write four bytes; raises GuestFault."""
        if address & 3:
            self.copy_to_guest(address, value.to_bytes(4, "little"))
            return
        page = self._writable.get(address >> PAGE_SHIFT)
        if page is None:
            page = self._translate(address, WRITABLE)
        self._on_write(page >> PAGE_SHIFT)
        self._u32[page + (address & PAGE_MASK) >> 2] = value

    def write_u64(self, address: int, value: int) -> None:
        """Write eight bytes; raises GuestFault."""
        self.copy_to_guest(address, value.to_bytes(8, "little"))

    def write_word(self, address: int, size: int, value: int) -> None:
        """Write as many of a number's bytes; raises GuestFault."""
        self.copy_to_guest(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def readable_machine_address(self, address: int) -> int:
        """Where a readable byte is in machine memory; raises GuestFault."""
        return self._read_page(address) + (address & PAGE_MASK)

    def l1_entry_index(self, address: int) -> int | None:
        """The L1 entry for a linear address, as an index of 64-bit words of RAM; None: there is none."""
        region = address >> _L2_SHIFT
        table = self._l1_tables.get(region)
        if table is None:
            table = self._find_l1(address)
            if table is None:
                return None
            self._l1_tables[region] = table
        return table << 9 | address >> PAGE_SHIFT & 511

    def _find_l1(self, address: int) -> int | None:
        frame = self._root
        for level in self._form.levels[:-1]:
            if frame is None:
                return None
            entry = self._ram.u64[(frame << 9) + (address >> level.shift & (level.entries - 1))]
            if not entry & PRESENT or entry & LARGE:
                return None
            frame = entry_frame(entry)
        return frame

    def frame_of(self, address: int) -> int | None:
        """The machine frame behind a linear address; None when there is none. Raises nothing."""
        try:
            return self._read_page(address & 0xFFFFFFFF) >> PAGE_SHIFT
        except GuestFault:
            return None

    def range_okay(self, address: int, size: int) -> bool:
        """Whether a range of bytes lies below the hypervisor's part of the address space."""
        return address + (size or 1) <= self._limit

    def _check_range(self, address: int, size: int) -> None:
        if not self.range_okay(address, size):
            raise GuestFault(address)

    def _read_page(self, address: int) -> int:
        """Machine address of the page around a readable address."""
        page = self.readable.get(address >> PAGE_SHIFT)
        return self._translate(address, 0) if page is None else page

    def _write_page(self, address: int) -> int:
        """Machine address of the page around a writable address."""
        page = self._writable.get(address >> PAGE_SHIFT)
        if page is None:
            page = self._translate(address, WRITABLE)
        self._on_write(page >> PAGE_SHIFT)
        return page

    def _translate(self, address: int, right: int) -> int:
        if self._root is None or not 0 <= address < (self._limit if right else _ADDRESSES):
            raise GuestFault(address)
        found = walk(self._ram, self._form, self._root, address)
        if found is None or found.rights & right != right or found.address >= self._ram.size:
            raise GuestFault(address)
        page = found.address & ~PAGE_MASK
        number = address >> PAGE_SHIFT
        (self._writable if right else self.readable)[number] = page
        self.cached_by.setdefault(found.entry, set()).add(number)
        return page


def _pages(address: int, size: int) -> Iterator[tuple[int, int]]:
    """A range of addresses as pieces that each lie in one page."""
    while size > 0:
        length = min(PAGE_SIZE - (address & PAGE_MASK), size)
        yield address, length
        address, size = address + length, size - length
