"""Three small domains on one machine, and one outside it, that use grants: a test makes their hypercalls."""

import struct
from types import TracebackType
from typing import Any, Final, Self

from answers import LONG_SLICE, OUTSIDE, Answer

from guestkit import assemble
from pvemu.abi import grant_table as abi
from pvemu.abi.structure import Structure
from pvemu.abi.xen import DOMID_SELF, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, UVMF_INVLPG
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.hypervisor.core import OVERHEAD, Hypervisor
from pvemu.hypervisor.domctl import Domctl
from pvemu.memory.page_tables import PRESENT, entry_frame
from pvemu.testing.puppet import make_hypercall
from pvemu.toolstack.domain_builder import build_domain

PAGES: Final = 256
VIRT_BASE: Final = 0xC030_0000
_SOURCE: Final = f"""
guest "three_domains", virt_base={VIRT_BASE:#x}, paddr=0x10000
section .text
start:  jmp start
section .data, align=4096
requests: reserve 4096
"""
#: Pages by pfn: frames that nothing maps, pages in which grants are mapped, and the table of grants.
POOL_PFNS: Final = range(32, 40)
WINDOW_PFNS: Final = range(48, 54)
TABLE_PFN: Final = 56
_SPARE_MIB: Final = 1


class Guest:
    """One of the three.

    Attributes:
        frames: the mfns that it had at the start, by pfn; pool: those that nothing maps.
        requests: virtual address of a page for structures.
    """

    def __init__(self, machine: "ThreeDomains", domid: int) -> None:
        self._machine = machine
        image = machine.image
        built = build_domain(machine.domctl, domid, image.elf, pages=PAGES, privileged=domid == 0)
        self.domain, self.vcpu = built.domain, built.domain.vcpus[0]
        m2p, owner = machine.hypervisor.m2p, machine.hypervisor.frames.owner
        by_pfn = {m2p.get(mfn): mfn for mfn, domain in enumerate(owner) if domain == domid}
        self.frames = [by_pfn[pfn] for pfn in range(PAGES)]
        self.requests = image.symbols["requests"]
        self.root_table = self.frames[built.layout.page_tables.pfn]
        self.pool = [self.frames[pfn] for pfn in POOL_PFNS]
        for pfn in POOL_PFNS:
            assert self.show(pfn, 0) == 0
        listed = self.requests + 2048
        op = self.single(
            "setup_table", abi.gnttab_setup_table, dom=DOMID_SELF, nr_frames=1, frame_list=listed
        )
        assert (op.result, op.op.status) == (0, 0)
        self.table_frame = self.domain.memory.read_u32(listed)
        assert self.show(TABLE_PFN, self.table_frame << 12 | 0x63) == 0

    @property
    def domid(self) -> int:
        """Its number."""
        return self.domain.domid

    def virtual(self, pfn: int) -> int:
        """Where the boot tables map a page."""
        return VIRT_BASE + pfn * 4096

    def put(self, data: bytes, offset: int = 0) -> int:
        """Write a structure into the page for requests; its address."""
        self._machine.hypervisor.switch_to(self.vcpu)
        self.domain.memory.copy_to_guest(self.requests + offset, data)
        return self.requests + offset

    def call(self, name: str, *words: int, slice_cycles: int = LONG_SLICE) -> int:
        """Make a hypercall, again and again while it says that it continues; its result."""
        result = make_hypercall(self.domain, name, *words, slice_cycles=slice_cycles)
        assert result is not None
        return result

    def single(self, name: str, structure: Structure, **fields: Any) -> Answer:
        """A grant table command on one structure."""
        at = self.put(structure.pack(4, **fields))
        result = self.call("grant_table_op", getattr(abi, f"GNTTABOP_{name}"), at, 1)
        raw = self.domain.memory.copy_from_guest(at, structure.size(4))
        return Answer(result, structure.unpack(4, raw))

    def show(self, pfn: int, entry: int) -> int:
        """Write the L1 entry of a page, as update_va_mapping does."""
        words = (entry & 0xFFFFFFFF, entry >> 32, UVMF_INVLPG)
        return self.call("update_va_mapping", self.virtual(pfn), *words)

    def entry(self, pfn: int) -> int:
        """The L1 entry of a page, as an index of 64-bit words of RAM."""
        self._machine.hypervisor.switch_to(self.vcpu)
        at = self.domain.memory.l1_entry_index(self.virtual(pfn))
        assert at is not None
        return at

    def shown(self, pfn: int) -> int | None:
        """The frame that the L1 entry of a page maps, if any."""
        entry = self._machine.hypervisor.ram.u64[self.entry(pfn)]
        return entry_frame(entry) if entry & PRESENT else None

    def grant(
        self, ref: int, domid: int, mfn: int, flags: int = abi.GTF_permit_access, extra: int = 0
    ) -> None:
        """Write an entry of the table, in the form that it has now; `extra` is bytes 4 to 7 of version 2."""
        if self.domain.grant_table.version == 1:
            raw, size = struct.pack("<HHI", flags, domid, mfn & 0xFFFFFFFF), 8
        else:
            raw, size = struct.pack("<HHIQ", flags, domid, extra, mfn), 16
        self._machine.hypervisor.switch_to(self.vcpu)
        self.domain.memory.copy_to_guest(self.virtual(TABLE_PFN) + ref * size, raw)

    def flags(self, ref: int) -> int:
        """The flags of an entry of version 1."""
        return self._machine.hypervisor.ram.u16[(self.table_frame << 11) + ref * 4]

    def map(self, domid: int, ref: int, pfn: int, flags: int = abi.GNTMAP_host_map) -> Any:
        """Map a reference at a page of the window, or by its entry; the structure afterwards."""
        address = self.virtual(pfn)
        if flags & abi.GNTMAP_contains_pte:
            address = self.entry(pfn) * 8
        answer = self.single(
            "map_grant_ref",
            abi.gnttab_map_grant_ref,
            host_addr=address,
            flags=flags,
            ref=ref,
            dom=domid,
            status=77,
        )
        assert answer.result == 0
        return answer.op

    def unmap(self, handle: int, host_addr: int = 0, dev_bus_addr: int = 0) -> int:
        """Unmap; the status."""
        fields = {"host_addr": host_addr, "dev_bus_addr": dev_bus_addr, "handle": handle, "status": 77}
        answer = self.single("unmap_grant_ref", abi.gnttab_unmap_grant_ref, **fields)
        assert answer.result == 0
        return int(answer.op.status)

    def pin_as_table(self, mfn: int, *, pin: bool = True) -> int:
        """Make a frame an L1, or let it be one no more; the result."""
        command = MMUEXT_PIN_L1_TABLE if pin else MMUEXT_UNPIN_TABLE
        return self.call("mmuext_op", self.put(struct.pack("<3I", command, mfn, 0)), 1, 0, DOMID_SELF)


class ThreeDomains:
    """The machine. Domain 0 is privileged; `outside` acts for a domain that lives outside it."""

    def __init__(self, *, window: WindowKind = "live", clock: ClockKind = "auto") -> None:
        self.image = assemble(_SOURCE)
        megabytes = 4 * PAGES // 256 + _SPARE_MIB
        self.hypervisor = Hypervisor(
            OVERHEAD + megabytes + (OVERHEAD + megabytes) % 2, window=window, clock=clock
        )
        self.domctl = Domctl(self.hypervisor)
        self.guests = {0: Guest(self, 0)}
        self.domctl = Domctl(self.hypervisor, 0)
        for domid in (1, 2):
            self.make(domid)
        self.outside = Domctl(self.hypervisor)
        self.outside.adopt(OUTSIDE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hypervisor.cpu.close()

    def make(self, domid: int) -> Guest:
        """Make a domain anew."""
        guest = self.guests[domid] = Guest(self, domid)
        return guest

    def destroy(self, domid: int) -> None:
        """Let a domain die."""
        self.domctl.destroy(self.guests.pop(domid).domain)

    def bytes_of(self, mfn: int) -> memoryview:
        """What is in a machine frame."""
        return self.hypervisor.ram.frame(mfn)
