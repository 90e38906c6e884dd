"""Writable descriptor tables: the processor reads checked copies of the pages of a guest's GDTs and LDTs.

A page is copied when the processor first looks into it. From then on the guest can't write its frame
unnoticed: when it does, the copy is given up, and the next look makes another one. So the guest may write its
tables at any time, and a descriptor that no guest may have reads as an absent one.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from pvemu.abi.arch_x86 import FIRST_RESERVED_GDT_PAGE
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.cpu.segments import Descriptor
from pvemu.hypervisor.address_space import LDT_L1_INDEX, map_descriptor_page
from pvemu.hypervisor.pv.descriptor_check import fixed_descriptor
from pvemu.memory.guest_walk import GuestPageFault
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

_LOCAL: Final = 4  #: bit of a selector that names the LDT
_ENTRIES_SHIFT: Final = 9
_ENTRIES: Final = 1 << _ENTRIES_SHIFT


class _Place(NamedTuple):
    """A page of a vCPU's descriptor area."""

    vcpu: int
    page: int


class _Copy(NamedTuple):
    """What is there: the guest's frame, and the frame with what the processor may see of it."""

    gfn: int
    mfn: int


class DescriptorPages:
    """The copies of one domain. `gfn in pages` says whether a frame of the guest's is copied anywhere."""

    def __init__(self, domain: "Domain") -> None:
        self._domain, self._hypervisor = domain, domain.hypervisor
        self._copies: dict[_Place, _Copy] = {}
        self._by_gfn: dict[int, set[_Place]] = {}
        self._gdts: dict[int, list[int]] = {}

    def __contains__(self, gfn: int) -> bool:
        return gfn in self._by_gfn

    # --- what the guest asks for -----------------------------------------------------------------

    def gdt(self, vcpu: "Vcpu") -> list[int]:
        """The guest's frames of a vCPU's GDT."""
        return self._gdts.get(vcpu.id, [])

    def install_gdt(self, vcpu: "Vcpu", gfns: list[int]) -> None:
        """Make frames of the guest a vCPU's GDT; raises HypercallError(EINVAL): one is not its own memory."""
        if not all(self._is_own(gfn) for gfn in gfns):
            raise HypercallError(Errno.EINVAL)
        self._gdts[vcpu.id] = gfns
        self.map_gdt(vcpu)

    def map_gdt(self, vcpu: "Vcpu") -> None:
        """Have the processor find the vCPU's GDT, page by page when it looks; the rest reads as null."""
        given = len(self.gdt(vcpu))
        self._drop(place for place in self._copies if place.vcpu == vcpu.id and place.page < LDT_L1_INDEX)
        for index in range(FIRST_RESERVED_GDT_PAGE):
            mfn = None if index < given else self._hypervisor.zero_frame
            map_descriptor_page(self._hypervisor, vcpu, index, mfn)
        self._hypervisor.flush_tlb()

    def drop_ldt(self, vcpu: "Vcpu") -> None:
        """The vCPU has another LDT, or finds it through other tables."""
        self._drop(place for place in self._copies if place.vcpu == vcpu.id and place.page >= LDT_L1_INDEX)

    # --- looking ---------------------------------------------------------------------------------

    def fault_in(self, vcpu: "Vcpu", index: int) -> bool:
        """Let the processor see a page of the descriptor area; False: nothing of the guest's is there."""
        place = _Place(vcpu.id, index)
        gfn = self._gfn_at(vcpu, index)
        if gfn is None or place in self._copies or not self._is_own(gfn):
            return False
        mfn = self._domain.translation.shadow.take_frame()
        self._copy(gfn, mfn)
        self._copies[place] = _Copy(gfn, mfn)
        others = self._by_gfn.get(gfn)
        if others is None:
            self._by_gfn[gfn] = {place}
            self._domain.translation.rights_changed(gfn)
        else:
            others.add(place)
        map_descriptor_page(self._hypervisor, vcpu, index, mfn)
        return True

    def read(self, vcpu: "Vcpu", selector: int) -> Descriptor | None:
        """The descriptor that a selector names in the guest's tables; None beyond their end."""
        number = selector >> 3
        index = number >> _ENTRIES_SHIFT
        if selector & _LOCAL:
            index += LDT_L1_INDEX
            if number >= vcpu.ldt_entries:
                return None
        elif not number:
            return None
        place = _Place(vcpu.id, index)
        if place not in self._copies and not self.fault_in(vcpu, index):
            return None
        copy = self._copies.get(place)
        if copy is None:
            return None
        at = (copy.mfn << _ENTRIES_SHIFT) + (number & _ENTRIES - 1)
        return Descriptor.from_int(self._hypervisor.ram.u64[at])

    def give_up(self, gfn: int) -> bool:
        """A frame is about to be written, or is no memory any more; whether there were copies of it."""
        places = self._by_gfn.get(gfn)
        if places is None:
            return False
        self._drop(tuple(places))
        return True

    def release(self) -> None:
        """Give all copies back; no vCPU will run any more."""
        for copy in self._copies.values():
            self._domain.paging_pool.put_back(copy.mfn)
        self._copies.clear()
        self._by_gfn.clear()

    # --- inside ----------------------------------------------------------------------------------

    def _is_own(self, gfn: int) -> bool:
        mfn = self._domain.p2m.get(gfn)
        return mfn is not None and self._hypervisor.frames.owner[mfn] == self._domain.domid

    def _gfn_at(self, vcpu: "Vcpu", index: int) -> int | None:
        if index < LDT_L1_INDEX:
            gdt = self.gdt(vcpu)
            return gdt[index] if index < len(gdt) else None
        offset = index - LDT_L1_INDEX << PAGE_SHIFT
        if offset >= vcpu.ldt_entries * 8:
            return None
        try:
            found = self._domain.translation.memory.translate(vcpu.ldt_base + offset & 0xFFFFFFFF, 0)
        except GuestPageFault:
            return None
        return found.address >> PAGE_SHIFT

    def _copy(self, gfn: int, mfn: int) -> None:
        u64 = self._hypervisor.ram.u64
        source = self._domain.p2m.get(gfn)
        assert source is not None
        first = source << _ENTRIES_SHIFT
        for at, value in enumerate(u64[first : first + _ENTRIES].tolist(), mfn << _ENTRIES_SHIFT):
            if value:
                fixed = fixed_descriptor(Descriptor.from_int(value))
                u64[at] = 0 if fixed is None else fixed.low | fixed.high << 32

    def _drop(self, places: Iterable[_Place]) -> None:
        dropped = tuple(places)
        if not dropped:
            return
        free: list[int] = []
        writable: list[int] = []
        for place in dropped:
            copy = self._copies.pop(place)
            map_descriptor_page(self._hypervisor, self._domain.vcpus[place.vcpu], place.page, None)
            free.append(copy.mfn)
            others = self._by_gfn[copy.gfn]
            others.discard(place)
            if not others:
                del self._by_gfn[copy.gfn]
                writable.append(copy.gfn)
        self._hypervisor.flush_tlb()
        for mfn in free:
            self._domain.paging_pool.put_back(mfn)
        for gfn in writable:
            self._domain.translation.rights_changed(gfn)
