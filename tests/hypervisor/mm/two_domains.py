"""Two small domains on one machine, whose hypercalls a test makes for them: no code of theirs ever runs."""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from guestkit import assemble
from pvemu.cpu import layout
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.hypervisor.core import OVERHEAD, Hypervisor
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.pv.mm import new_guest_cr3
from pvemu.hypervisor.pv.ro_page_fault import make_emulate_store
from pvemu.hypervisor.scheduler import TIME_SLICE
from pvemu.memory.page_tables import FAULT_PRESENT, FAULT_WRITE, PRESENT
from pvemu.testing.puppet import MOST_CONTINUATIONS as MOST
from pvemu.testing.puppet import make_hypercall
from pvemu.toolstack.domain_builder import BuiltDomain, build_domain

PAGES: Final = 256
VIRT_BASE: Final = 0xC030_0000
#: The boot mapping ends at the next boundary of 4 MiB, and that is where these domains end.
_SOURCE: Final = f"""
guest "two_domains", virt_base={VIRT_BASE:#x}, paddr=0x10000
section .text
start:  jmp start
section .data, align=4096
requests: reserve 4096
code:   reserve 4096
"""
_FIRST_FREE_PFN: Final = 32
#: Pages that the boot tables map read-only, so that they may be pages of descriptors.
READ_ONLY_PFNS: Final = range(56, 60)
_SPARE_MIB: Final = 1


class Guest:
    """One of the two domains.

    Attributes:
        built: what the builder made; domain, vcpu: of it.
        frames: mfns that it had at the start, by pfn.
        requests: virtual address of a page for the structures that hypercalls point to.
        pool: mfns of frames that nothing maps: for tables.
    """

    def __init__(self, built: BuiltDomain, frames: list[int], requests: int, code: int) -> None:
        self.built, self.domain, self.vcpu = built, built.domain, built.domain.vcpus[0]
        self.frames, self.requests, self.code = frames, requests, code
        self.pool: list[int] = []
        self.root = self.vcpu.cr3

    def virtual(self, pfn: int) -> int:
        """Where the boot tables map a page."""
        return VIRT_BASE + pfn * 4096


class TwoDomains:
    """A machine with domain 0 and an unprivileged domain 1 of 1 MiB each.

    Args:
        pool: how many frames of each are taken out of their page tables, to be made tables of.
    """

    def __init__(self, pool: int = 12, *, window: WindowKind = "live", clock: ClockKind = "auto") -> None:
        image = assemble(_SOURCE)
        megabytes = 2 * PAGES // 256 + _SPARE_MIB
        self.hypervisor = Hypervisor(
            OVERHEAD + megabytes + (OVERHEAD + megabytes) % 2, window=window, clock=clock
        )
        self._emulate_store = make_emulate_store(self.hypervisor)
        built = build_domain(Domctl(self.hypervisor), 0, image.elf, pages=PAGES, privileged=True)
        second = build_domain(Domctl(self.hypervisor, 0), 1, image.elf, pages=PAGES, privileged=False)
        symbols = image.symbols
        self.guests = [
            Guest(each, self._frames_of(each.domain.domid), symbols["requests"], symbols["code"])
            for each in (built, second)
        ]
        for guest in self.guests:
            for pfn in range(_FIRST_FREE_PFN, _FIRST_FREE_PFN + pool):
                assert self.call(guest, "update_va_mapping", guest.virtual(pfn), 0, 0, 0) == 0
                guest.pool.append(guest.frames[pfn])
            for pfn in READ_ONLY_PFNS:
                entry = guest.frames[pfn] << 12 | PRESENT
                assert self.call(guest, "update_va_mapping", guest.virtual(pfn), entry, 0, 0) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the engine back."""
        self.hypervisor.cpu.close()

    def _frames_of(self, domid: int) -> list[int]:
        """The mfns of a new domain by pfn, as the m2p has them."""
        hypervisor = self.hypervisor
        owned = [mfn for mfn, owner in enumerate(hypervisor.frames.owner) if owner == domid]
        by_pfn = {hypervisor.m2p.get(mfn): mfn for mfn in owned if hypervisor.m2p.get(mfn) < PAGES}
        return [by_pfn[pfn] for pfn in range(PAGES)]

    def call(
        self, guest: Guest, name: str, *words: int, slice_cycles: int = TIME_SLICE, patience: int = MOST
    ) -> int | None:
        """Make a hypercall as the guest would, again and again while it says that it continues; its result.

        Args:
            slice_cycles: how long it may take at a time.
            patience: how often the guest goes on with it; None is returned when it then gives up.

        Raises:
            NeverDone: it continues for ever.
        """
        return make_hypercall(guest.domain, name, *words, slice_cycles=slice_cycles, patience=patience)

    def put(self, guest: Guest, data: bytes, offset: int = 0) -> int:
        """Write a structure into the guest's page for requests; its virtual address.

        A guest that has lost that page, because it runs on tables of its own, goes back to its first ones.
        """
        self.hypervisor.switch_to(guest.vcpu)
        if guest.domain.memory.frame_of(guest.requests) is None:
            assert new_guest_cr3(guest.vcpu, guest.root) == 0
        guest.domain.memory.copy_to_guest(guest.requests + offset, data)
        return guest.requests + offset

    def store(self, guest: Guest, address: int, code: bytes, registers: Sequence[int]) -> bool:
        """Let the guest's kernel execute a store that faulted at an address: whether it was emulated."""
        self.put(guest, b"")
        guest.domain.memory.copy_to_guest(guest.code, code)
        u64 = self.hypervisor.cpu.window.u64
        for number, value in enumerate(registers):
            u64[number] = value
        u64[layout.EIP // 8] = guest.code
        return self._emulate_store(guest.vcpu, address, FAULT_PRESENT | FAULT_WRITE)
