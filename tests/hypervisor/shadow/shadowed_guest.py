"""A guest under shadow paging without a processor: a plain walk of the shadow tables makes its accesses.

Like a processor it remembers translations until it is told to forget them.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from reference_walk import Memory, Reached, reference_walk

from pvemu.hypervisor.paging_pool import PagingPool
from pvemu.hypervisor.shadow.outcome import EmulateWrite, Fixed, GuestFault, Mmio
from pvemu.hypervisor.shadow.paging import Shadow
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.p2m import P2m
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_PRESENT, FAULT_USER, FAULT_WRITE, FOUR_LEVEL
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE, Ram

#: Guest frames that may be memory, and the machine frames for them; the frames for shadows come behind.
GUEST_FRAMES: Final = range(0x20, 0x2C)
_MACHINE_FRAMES: Final = range(1, 128)
_SHADOW_FRAMES: Final = range(128, 320)
_ATTEMPTS: Final = 24
_FRAME_BITS: Final = (1 << 40) - PAGE_SIZE


class Allowed(NamedTuple):
    """An access reached memory; `frame` is the machine's."""

    frame: int
    offset: int


class _Translation(NamedTuple):
    frame: int
    writable: bool
    user: bool
    executable: bool


Result = Allowed | GuestFault | EmulateWrite | Mmio


class ShadowedGuest:
    """A guest's memory, its shadow, and the virtual processors' translations."""

    def __init__(self, limit: int, frames: Iterable[int] = GUEST_FRAMES) -> None:
        self.ram = Ram(_SHADOW_FRAMES.stop * PAGE_SIZE)
        self.p2m = P2m()
        self.free_frames = list(_SHADOW_FRAMES)
        self.free_machine_frames = list(_MACHINE_FRAMES)
        for gfn in frames:
            self.p2m.set(gfn, self.free_machine_frames.pop())
        self.pool = PagingPool(self.ram, self._allocate, self.free_frames.append)
        self.pool.resize(limit)
        self.shadow = Shadow(
            self.ram,
            self.p2m.get,
            self.p2m.is_writable,
            pool=self.pool,
            flush_tlb=self.flush_tlb,
        )
        self.p2m.watchers.append(self.shadow.p2m_changed)
        self._tlb: dict[tuple[int, int], _Translation] = {}
        self._roots: dict[int, tuple[int, PagingMode, int]] = {}
        self.shadow_frames = len(_SHADOW_FRAMES)

    def flush_tlb(self) -> None:
        self._tlb.clear()

    def load_root(self, mode: PagingMode, cr3: int, vcpu: int = 0) -> None:
        frame = self.shadow.set_root(mode, cr3, vcpu)
        self._roots[vcpu] = (frame, mode, cr3)
        self._tlb.clear()

    def stop(self, vcpu: int) -> None:
        self.shadow.drop_root(vcpu)
        self._roots.pop(vcpu, None)

    def mode(self, vcpu: int = 0) -> PagingMode:
        return self._roots[vcpu][1]

    def cr3(self, vcpu: int = 0) -> int:
        return self._roots[vcpu][2]

    def access(self, address: int, access: int, vcpu: int = 0) -> Result:
        """Make an access, with as many page faults as it takes; nothing is written to memory here."""
        for _ in range(_ATTEMPTS):
            seen = self._translate(address, access, vcpu)
            if isinstance(seen, _Translation):
                return Allowed(seen.frame, address & PAGE_SIZE - 1)
            outcome = self.shadow.page_fault(address, seen, vcpu)
            if not isinstance(outcome, Fixed):
                return outcome
        raise AssertionError(f"the access at {address:#x} does not get on")

    def _translate(self, address: int, access: int, vcpu: int) -> _Translation | int:
        """A translation that allows the access, or the error code of the processor's fault."""
        page = (vcpu, address >> PAGE_SHIFT)
        known = self._tlb.get(page)
        code = access | (FAULT_PRESENT if known else 0)
        if known is None or not _allows(known, access):
            known = self._walk(address, vcpu)
            if known is None:
                return access
            code = access | FAULT_PRESENT
        if not _allows(known, access):
            return code
        self._tlb[page] = known
        return known

    def _walk(self, address: int, vcpu: int) -> _Translation | None:
        """The walk of the real processor: PAE or four levels, with CR0.WP and EFER.NXE."""
        frame, mode, _ = self._roots[vcpu]
        writable = user = executable = True
        shifts = (39, 30, 21, 12) if mode.form is FOUR_LEVEL else (30, 21, 12)
        for shift in shifts:
            last = 3 if shift == 30 and mode.form is not FOUR_LEVEL else 511
            entry = self.ram.u64[(frame << 9) + (address >> shift & last)]
            if not entry & 1:
                return None
            assert not entry & 0x000F_FF00_0000_0000, "a shadow entry has reserved bits set"
            if last == 3:
                assert not entry & ~(_FRAME_BITS | 1), "a PAE root entry has reserved bits set"
            else:
                writable, user = writable and bool(entry & 2), user and bool(entry & 4)
                executable = executable and not entry >> 63
            frame = (entry & _FRAME_BITS) >> PAGE_SHIFT
        return _Translation(frame, writable, user, executable)

    # --- the guest's memory, seen from outside ---------------------------------------------------

    @property
    def memory(self) -> Memory:
        """The guest's frames, live."""
        return {gfn: self.ram.frame(mfn) for gfn, mfn in self.p2m}  # type: ignore[misc]

    def copy(self) -> Memory:
        return {gfn: bytearray(frame) for gfn, frame in self.memory.items()}

    def expected(self, address: int, access: int, vcpu: int = 0) -> tuple[Result, Memory, set[int]]:
        """By the plain walk: the result of an access, memory with the marks it sets, the frames marked."""
        _, mode, cr3 = self._roots[vcpu]
        memory = self.copy()
        found = reference_walk(
            memory,
            mode,
            cr3,
            address,
            write=bool(access & FAULT_WRITE),
            user=bool(access & FAULT_USER),
            fetch=bool(access & FAULT_FETCH),
        )
        marked = set()
        for place, bits in found.used:
            gfn, offset = place >> PAGE_SHIFT, place & PAGE_SIZE - 1
            if self.p2m.is_writable(gfn) and memory[gfn][offset] & bits != bits:
                memory[gfn][offset] |= bits
                marked.add(gfn)
        if not isinstance(found, Reached):
            return GuestFault(found.error_code), memory, marked
        mfn = self.p2m.get(found.address >> PAGE_SHIFT)
        read_only = access & FAULT_WRITE and not self.p2m.is_writable(found.address >> PAGE_SHIFT)
        if mfn is None or read_only:
            return Mmio(found.address), memory, marked
        return Allowed(mfn, address & PAGE_SIZE - 1), memory, marked

    def gfn_of(self, mfn: int) -> int:
        return next(gfn for gfn, machine in self.p2m if machine == mfn)

    def add_frame(self, gfn: int) -> None:
        self.p2m.set(gfn, self.free_machine_frames.pop())

    def write(self, gfn: int, offset: int, data: bytes) -> None:
        """Write memory in the guest's name, as the emulator does."""
        mfn = self.p2m.get(gfn)
        assert mfn is not None
        self.ram.frame(mfn)[offset : offset + len(data)] = data
        self.shadow.guest_wrote(gfn, offset, len(data))

    def _allocate(self) -> int:
        if not self.free_frames:
            raise OutOfFrames
        mfn = self.free_frames.pop()
        self.ram.clear(mfn)
        return mfn


def _allows(translation: _Translation, access: int) -> bool:
    if access & FAULT_USER and not translation.user:
        return False
    if access & FAULT_WRITE and not translation.writable:
        return False
    return translation.executable or not access & FAULT_FETCH
