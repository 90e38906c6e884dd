"""Linear memory of an HVM vCPU as its processor sees it now: the guest's tables, rights and faults."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from pvemu.cpu.mode import CR4_PAE
from pvemu.memory.guest_walk import GuestTranslation, PagingMode, walk
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_USER, FAULT_WRITE
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: Linear addresses beyond the guest's own mode wrap around.
_LONG_BITS = (1 << 64) - 1
_SHORT_BITS = (1 << 32) - 1


#: Pages of which the last walk is remembered.
_MOST_KNOWN: Final = 64
#: In the key of a walk, beside FAULT_* bits: it has set no accessed and dirty bits.
_UNMARKED: Final = 1 << 11
#: How many bytes a device can be asked for at once.
_AT_ONCE: Final = (4, 1, 2, 8)


class _Known(NamedTuple):
    """A walk that was made: the entries that it read (by index into RAM), and the page that it came to.

    `changes` counts those of the vCPU's mode and those of the P2m; neither number ever becomes less.
    """

    cr3: int
    changes: int
    table: memoryview
    entries: tuple[tuple[int, int], ...]
    page: int


class NoCode(Exception):
    """Instructions were to be fetched from where no memory is."""


class LinearMemory:
    """What a vCPU's instructions, and the processor on their behalf, find at linear addresses.

    Accessed and dirty bits are set in the guest's tables as by the processor. Where no memory is, the
    device at that guest-physical address is asked.
    """

    def __init__(self, vcpu: "Vcpu") -> None:
        self._vcpu = vcpu
        hypervisor = vcpu.domain.hypervisor
        self._ram, self._before_write = hypervisor.ram, hypervisor.before_write
        self._known: dict[int, _Known] = {}

    def read(self, address: int, size: int, *, user: bool = False, fetch: bool = False) -> bytes:
        """Read `size` bytes; raises GuestPageFault."""
        access = (FAULT_USER if user else 0) | (FAULT_FETCH if fetch else 0)
        offset = address & PAGE_MASK
        if offset + size <= PAGE_SIZE:
            return self._read_piece(self.place(address, access), size)
        first = PAGE_SIZE - offset
        return self.read(address, first, user=user, fetch=fetch) + self.read(
            self._wrap(address + first), size - first, user=user, fetch=fetch
        )

    def fetch(self, address: int, size: int, *, user: bool) -> bytes:
        """Read code of one page, which the processor has fetched already: nothing is marked as accessed.

        Raises:
            GuestPageFault: the guest's tables lead nowhere. NoCode: they lead to no memory.
        """
        access = FAULT_FETCH | FAULT_USER if user else FAULT_FETCH
        place = self.place(address, access, update=False)
        mfn = self._vcpu.domain.p2m.get(place >> PAGE_SHIFT)
        if mfn is None:
            raise NoCode
        machine = mfn << PAGE_SHIFT | place & PAGE_MASK
        return self._ram.memory[machine : machine + size]

    def write(self, address: int, data: bytes, *, user: bool = False) -> None:
        """Write bytes, all or none; raises GuestPageFault."""
        for place, first, last in self._pieces_to_write(address, len(data), user=user):
            self._write_piece(place, data[first:last])

    def check_read(self, address: int, size: int, *, user: bool = False) -> None:
        """Raise GuestPageFault if a read of so many bytes would; pages are marked as if it had been made."""
        access, last = FAULT_USER if user else 0, address + size - 1
        self.place(address, access)
        if (address ^ last) & ~PAGE_MASK:
            self.place(self._wrap(last & ~PAGE_MASK), access)

    def check_write(self, address: int, size: int, *, user: bool = False) -> None:
        """Raise GuestPageFault if a write of so many bytes would; pages are marked as if it had been made."""
        self._pieces_to_write(address, size, user=user)

    def translate(self, address: int, access: int, *, update: bool = True) -> GuestTranslation:
        """Where a linear address leads in guest-physical memory.

        Args:
            access: FAULT_* bits; update: whether accessed and dirty bits are set.

        Raises:
            GuestPageFault: the guest's tables do not allow it.
        """
        hvm, domain = self._vcpu.hvm, self._vcpu.domain
        p2m = domain.p2m
        mode = PagingMode.of(hvm.cr0, hvm.cr4, hvm.efer)
        return walk(
            self._ram,
            p2m.get,
            mode,
            hvm.cr3,
            address,
            access,
            is_writable=domain.hvm.paging.may_mark,
            update=update,
        )

    def _pieces_to_write(self, address: int, size: int, *, user: bool) -> list[tuple[int, int, int]]:
        """Page by page: the guest-physical address, and the first and the end of the bytes for there."""
        access = FAULT_WRITE | (FAULT_USER if user else 0)
        pieces = []
        done = 0
        while done < size:
            at = self._wrap(address + done)
            end = min(done + PAGE_SIZE - (at & PAGE_MASK), size)
            pieces.append((self.place(at, access), done, end))
            done = end
        return pieces

    def place(self, address: int, access: int, *, update: bool = True) -> int:
        """The guest-physical address of a linear one; raises GuestPageFault.

        The last walk to a page is remembered with the entries that it read. While these hold what they did,
        another walk would come to the same: looking at them takes a tenth of its time, and the delivery of an
        interrupt takes five. So nobody has to say when a guest's tables have changed.

        Args:
            access: FAULT_* bits; update: whether accessed and dirty bits are set.
        """
        vcpu, key = self._vcpu, address & ~PAGE_MASK | access
        if not update:
            key |= _UNMARKED
        known = self._known.get(key)
        if known is not None:
            cr3, changes, table, entries, page = known
            hvm = vcpu.hvm
            if cr3 == hvm.cr3 and changes == hvm.mode_changes + vcpu.domain.p2m.changes:
                for at, entry in entries:
                    if table[at] != entry:
                        break
                else:
                    return page | address & PAGE_MASK
        found = self.translate(address, access, update=update)
        self._remember(key, found)
        return found.address

    def _remember(self, key: int, found: GuestTranslation) -> None:
        ram, lookup = self._ram, self._vcpu.domain.p2m.get
        is_wide = bool(self._vcpu.hvm.cr4 & CR4_PAE)
        table, shift = (ram.u64, PAGE_SHIFT - 3) if is_wide else (ram.u32, PAGE_SHIFT - 2)
        entries = []
        for entry in found.entries:
            mfn = lookup(entry.gfn)
            if mfn is None:
                return
            entries.append(((mfn << shift) + entry.slot, entry.value))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        hvm = self._vcpu.hvm
        changes = hvm.mode_changes + self._vcpu.domain.p2m.changes
        self._known[key] = _Known(hvm.cr3, changes, table, tuple(entries), found.address & ~PAGE_MASK)

    def _wrap(self, address: int) -> int:
        return address & (_LONG_BITS if self._vcpu.hvm.is_long else _SHORT_BITS)

    def _read_piece(self, place: int, size: int) -> bytes:
        domain = self._vcpu.domain
        mfn = domain.p2m.get(place >> PAGE_SHIFT)
        if mfn is None:
            return self._read_device(place, size)
        machine = mfn << PAGE_SHIFT | place & PAGE_MASK
        return self._ram.memory[machine : machine + size]

    def _read_device(self, place: int, size: int) -> bytes:
        mmio = self._vcpu.domain.hvm.mmio
        if size in _AT_ONCE:
            return mmio.read(place, size).to_bytes(size, "little")
        return b"".join(
            mmio.read(place + at, length).to_bytes(length, "little") for at, length in _device_pieces(size)
        )

    def _write_device(self, place: int, data: bytes) -> None:
        mmio, size = self._vcpu.domain.hvm.mmio, len(data)
        if size in _AT_ONCE:
            mmio.write(place, size, int.from_bytes(data, "little"))
            return
        for at, length in _device_pieces(size):
            mmio.write(place + at, length, int.from_bytes(data[at : at + length], "little"))

    def _write_piece(self, place: int, data: bytes) -> None:
        domain = self._vcpu.domain
        gfn = place >> PAGE_SHIFT
        mfn = domain.p2m.get(gfn)
        if mfn is None:
            self._write_device(place, data)
        elif domain.p2m.is_writable(gfn):
            self._before_write(mfn)
            machine = mfn << PAGE_SHIFT | place & PAGE_MASK
            self._ram.u8[machine : machine + len(data)] = data
            domain.hvm.paging.guest_wrote(gfn, place & PAGE_MASK, len(data))


def _device_pieces(size: int) -> Iterator[tuple[int, int]]:
    """How an access falls apart for a device, as in Xen: offsets and lengths, the longest first."""
    at, length = 0, max(_AT_ONCE)
    while at < size:
        while length > size - at:
            length //= 2
        yield at, length
        at += length
