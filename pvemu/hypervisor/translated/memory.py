"""The linear memory of an auto-translated PV guest, for hypercalls and for instructions that are emulated."""

from typing import TYPE_CHECKING, Final

from pvemu.hypervisor.emulate import Memory
from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.guest_walk import GuestPageFault, GuestTranslation, PagingMode, steps_of, walk
from pvemu.memory.page_tables import (
    COMPAT,
    FAULT_FETCH,
    FAULT_PRESENT,
    FAULT_WRITE,
    PRESENT,
    TRANSLATED,
    WRITABLE,
)
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

#: Such a guest has the whole of the address space: nothing of the hypervisor is in it.
_END: Final = 1 << 32
_LOW: Final = _END - 1


class LinearMemory:
    """What the vCPU that is loaded finds at linear addresses, by the guest's tables as they are now.

    Attributes:
        mode: how those tables are read.
    """

    mode: Final = PagingMode(TRANSLATED, write_protect=True, no_execute=True, large_pages=True)

    def __init__(self, domain: "Domain") -> None:
        self._domain = domain
        self._ram, self._p2m = domain.hypervisor.ram, domain.p2m

    def translate(self, address: int, access: int, *, update: bool = True) -> GuestTranslation:
        """Where an address leads; accessed and dirty bits are set as by the processor.

        Raises:
            GuestPageFault: the guest's tables do not allow it.
        """
        vcpu = self._domain.hypervisor.current
        writable = self._domain.translation.is_writable
        root = vcpu.cr3 << PAGE_SHIFT
        return walk(
            *(self._ram, self._p2m.get, self.mode, root, address, access),
            is_writable=writable,
            update=update,
        )

    def guest_l1e(self, vcpu: "Vcpu", address: int) -> int | None:
        """Guest-physical address of the L1 entry for a linear address; None: it has no L1."""
        gfn = vcpu.cr3
        for step in steps_of(self.mode):
            slot = address >> step.shift & step.last
            mfn = self._p2m.get(gfn)
            if mfn is None:
                return None
            if step.level == 1:
                return gfn << PAGE_SHIFT | slot << 3
            entry = self._ram.u64[(mfn << 9) + slot]
            if not entry & PRESENT or entry & step.large or not step.is_sound(entry):
                return None
            gfn = step.frame(entry)
        return None

    def read(self, address: int, size: int, access: int) -> bytes:
        """Read bytes; raises GuestPageFault."""
        found = b""
        while size:
            length = min(size, PAGE_SIZE - (address & PAGE_MASK))
            place = self.translate(address, access).address
            mfn = self._p2m.get(place >> PAGE_SHIFT)
            if mfn is None:
                raise GuestPageFault(address, access)
            at = mfn << PAGE_SHIFT | place & PAGE_MASK
            found += self._ram.u8[at : at + length]
            address, size = address + length & _LOW, size - length
        return found

    def write(self, address: int, data: bytes, access: int) -> None:
        """Write bytes, all or none; raises GuestPageFault."""
        pieces = []
        while data:
            length = min(len(data), PAGE_SIZE - (address & PAGE_MASK))
            place = self.translate(address, access | FAULT_WRITE).address
            gfn = place >> PAGE_SHIFT
            if not self._p2m.is_writable(gfn):
                present = FAULT_PRESENT if self._p2m.get(gfn) is not None else 0
                raise GuestPageFault(address, access | FAULT_WRITE | present)
            pieces.append((place, data[:length]))
            address, data = address + length & _LOW, data[length:]
        for place, piece in pieces:
            self._domain.translation.store(place, piece)


class InstructionMemory(Memory):
    """Memory as an emulated instruction has it, with the rights of its ring.

    Args:
        ring: FAULT_USER in ring 3, else 0.
    """

    __slots__ = ("_memory", "_ring")

    def __init__(self, memory: LinearMemory, ring: int) -> None:
        self._memory, self._ring = memory, ring

    def fetch(self, address: int, size: int) -> bytes:
        """Bytes of code; raises GuestPageFault."""
        return self._memory.read(address & _LOW, size, self._ring | FAULT_FETCH)

    def read(self, address: int, size: int) -> bytes:
        """Load; raises GuestPageFault."""
        return self._memory.read(address, size, self._ring)

    def read_for_write(self, address: int, size: int) -> bytes:
        """Load what will be stored to; raises GuestPageFault as the load would, or else the store."""
        data = self.read(address, size)
        self._memory.translate(address, self._ring | FAULT_WRITE)
        return data

    def write(self, address: int, data: bytes) -> None:
        """Store; raises GuestPageFault."""
        self._memory.write(address, data, self._ring)


class TranslatedMemory(GuestMemory):
    """The door to the guest's memory: the linear memory of the vCPU that is loaded.

    Nothing is remembered between two looks, because the guest changes its tables without telling anybody.
    """

    def __init__(self, domain: "Domain") -> None:
        hypervisor = domain.hypervisor
        super().__init__(hypervisor.ram, COMPAT, _END, hypervisor.before_write)
        self._domain = domain

    def set_root(self, mfn: int | None) -> None:
        """The vCPU knows its root itself."""

    def l1_entry_index(self, address: int) -> int | None:
        """No entry of the guest's tables is one that the processor uses."""
        return None

    def frame_of(self, address: int) -> int | None:
        """The machine frame behind a linear address; None when there is none. Raises nothing."""
        if not self._is_loaded:
            return None
        try:
            found = self._domain.translation.memory.translate(address & _LOW, 0, update=False)
        except GuestPageFault:
            return None
        return self._domain.p2m.get(found.address >> PAGE_SHIFT)

    @property
    def _is_loaded(self) -> bool:
        loaded = self._domain.hypervisor.loaded
        return loaded is not None and loaded.domain is self._domain

    def _translate(self, address: int, right: int) -> int:
        if not self._is_loaded or not 0 <= address < _END:
            raise GuestFault(address)
        translation, write = self._domain.translation, bool(right & WRITABLE)
        try:
            found = translation.memory.translate(address, FAULT_WRITE if write else 0)
        except GuestPageFault as fault:
            raise GuestFault(address) from fault
        page = translation.open_page(found.address >> PAGE_SHIFT, write=write)
        if page is None:
            raise GuestFault(address)
        return page
