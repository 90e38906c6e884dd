"""The engine on shadow tables: what `PagingEngine` does with the guest's own tables, one level removed."""

from typing import Final

from paging_engine import RAM_SIZE, WRITTEN, PagingEngine, Seen

from pvemu.cpu import layout
from pvemu.hypervisor.paging_pool import PagingPool
from pvemu.hypervisor.shadow.outcome import EmulateWrite, Fixed, GuestFault, Mmio
from pvemu.hypervisor.shadow.paging import Shadow
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FAULT_WRITE, FOUR_LEVEL, PAE
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE, Ram

#: The guest has the frames below this one; the shadows are in the others.
GUEST_END: Final = 0x80
_ATTEMPTS: Final = 16


class _LaboratoryRam(Ram):
    """The laboratory's memory as the hypervisor sees it."""

    def __init__(self, memory: memoryview) -> None:
        self.size, self.frames = RAM_SIZE, RAM_SIZE >> PAGE_SHIFT
        self.u8 = memory
        self.u16, self.u32, self.u64 = memory.cast("H"), memory.cast("I"), memory.cast("Q")


class ShadowEngine(PagingEngine):
    """A guest's accesses under shadow paging, by the engine."""

    def __init__(self) -> None:
        super().__init__()
        self.guest_mode = PagingMode(None)
        self._view = memoryview(self.memory)
        self.ram = _LaboratoryRam(self._view)
        free = list(range(GUEST_END, RAM_SIZE >> PAGE_SHIFT))
        pool = PagingPool(self.ram, free.pop, free.append)
        pool.resize(32)
        self.shadow = Shadow(
            self.ram,
            lambda gfn: gfn if gfn < GUEST_END else None,
            lambda gfn: gfn < GUEST_END,
            pool=pool,
            flush_tlb=self.engine.flush_tlb,
        )

    def load_root(self, mode: PagingMode, guest_cr3: int) -> None:
        """Run on the shadow of a guest's tables."""
        self.cr3 = self.shadow.set_root(mode, guest_cr3) << PAGE_SHIFT
        self.guest_mode = mode
        form = FOUR_LEVEL if mode.form is FOUR_LEVEL else PAE
        self.mode = PagingMode(form, write_protect=True, no_execute=True, large_pages=True)

    def access(self, address: int, access: int) -> Seen:
        for _ in range(_ATTEMPTS):
            fault = self.step(address, access)
            if fault is None:
                return Seen(None, self.window.u64[layout.RAX] & 0xFF)
            outcome = self.shadow.page_fault(*fault)
            if isinstance(outcome, GuestFault):
                assert fault[0] == address
                return Seen(outcome.error_code, 0)
            if isinstance(outcome, Mmio):
                return Seen(None, WRITTEN if access & FAULT_WRITE else 0xFF)
            if isinstance(outcome, EmulateWrite):
                self.memory[outcome.address] = WRITTEN
                self.shadow.guest_wrote(outcome.address >> 12, outcome.address & PAGE_SIZE - 1, 1)
                return Seen(None, WRITTEN)
            assert isinstance(outcome, Fixed)
        raise AssertionError(f"the access at {address:#x} does not get on")

    def close(self) -> None:
        for view in (self.ram.u16, self.ram.u32, self.ram.u64, self._view):
            view.release()
        super().close()
