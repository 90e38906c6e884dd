"""Two translated domains on one machine; a test makes their hypercalls."""

import struct
from types import TracebackType
from typing import Any, Final, Self

from answers import LONG_SLICE, Answer

from pvemu.abi import grant_table as gnttab
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.structure import Structure
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.core import OVERHEAD, Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.hvm.hvm_vcpu import HvmEntry
from pvemu.hypervisor.hypercall import ARGUMENT_INDEXES, LONG_ARGUMENT_INDEXES, PackedWords

#: Frames that each guest has in the beginning, from gfn 0 on; it may have as many more.
PAGES: Final = 64
#: The page for structures of hypercalls, and that of the table of grants.
REQUESTS_GFN, TABLE_GFN = 1, 2
_INDEXES: Final = {4: ARGUMENT_INDEXES, 8: LONG_ARGUMENT_INDEXES}
_MOST: Final = 5_000
_OTHERS_MIB: Final = 8
#: Type of a range of memory.
RAM: Final = 1


class Guest:
    """A guest without paging: its linear addresses are guest-physical.

    Attributes:
        word: bytes of a long in the hypercalls that it makes.
    """

    def __init__(self, machine: "Translated", domid: int, *, vcpus: int, paging: str, word: int) -> None:
        self.machine, self.word = machine, word
        hvm = machine.domctl.hvm
        self.domain: Domain = hvm.create_domain(
            domid, pages=2 * PAGES, vcpus=vcpus, paging=paging, memory_map=((0, PAGES << 12, RAM),)
        )
        hvm.populate(self.domain, range(PAGES))
        self.vcpu = self.domain.vcpus[0]
        hvm.start(self.vcpu, HvmEntry())

    @property
    def domid(self) -> int:
        """Its number."""
        return self.domain.domid

    def load(self) -> None:
        """Have its vCPU on the processor."""
        self.machine.hypervisor.switch_to(self.vcpu)

    def write(self, address: int, data: bytes) -> None:
        """Write guest-physical memory."""
        self.load()
        self.domain.memory.copy_to_guest(address, data)

    def read(self, address: int, size: int) -> bytes:
        """Read guest-physical memory."""
        self.load()
        return self.domain.memory.copy_from_guest(address, size)

    def put(self, data: bytes, offset: int = 0) -> int:
        """Write a structure into the page for requests; its address."""
        address = (REQUESTS_GFN << 12) + offset
        self.write(address, data)
        return address

    def call(self, name: str, *words: int, slice_cycles: int = LONG_SLICE) -> int:
        """Make a hypercall, again and again while it says that it continues; its result."""
        hypervisor = self.machine.hypervisor
        self.load()
        self.domain.word = self.word
        padded = [*words, *[0] * 5][:5]
        for _ in range(_MOST):
            hypervisor.clock.deadline = hypervisor.clock.now + slice_cycles
            try:
                packed = PackedWords(padded, _INDEXES[self.word])
                return hypervisor.call(self.vcpu, BY_NAME[name].number, packed)
            except Continuation as continuation:
                padded = [*continuation.words, *padded[len(continuation.words) :]]
        raise AssertionError(f"{name}{words} goes on for ever")

    def command(self, name: str, command: int, structure: Structure, *more: int, **fields: Any) -> Answer:
        """A hypercall with a command and one structure."""
        at = self.put(structure.pack(self.word, **fields))
        result = self.call(name, command, at, *more)
        return Answer(result, structure.unpack(self.word, self.read(at, structure.size(self.word))))

    def grant(self, ref: int, domid: int, gfn: int, flags: int = gnttab.GTF_permit_access) -> None:
        """Write an entry of the table of grants, in version 1; the table is put at its gfn before."""
        self.write((TABLE_GFN << 12) + ref * 8, struct.pack("<HHI", flags, domid, gfn))

    def single(self, name: str, structure: Structure, **fields: Any) -> Answer:
        """A grant table command on one structure."""
        return self.command("grant_table_op", getattr(gnttab, f"GNTTABOP_{name}"), structure, 1, **fields)

    def map(self, gfn: int, owner: int, ref: int, flags: int = 0) -> Answer:
        """Map a grant at a gfn."""
        return self.single(
            "map_grant_ref",
            gnttab.gnttab_map_grant_ref,
            host_addr=gfn << 12,
            flags=gnttab.GNTMAP_host_map | flags,
            ref=ref,
            dom=owner,
        )

    def unmap(self, gfn: int, handle: int) -> int:
        """Give a mapping back; its status."""
        answer = self.single(
            "unmap_grant_ref", gnttab.gnttab_unmap_grant_ref, host_addr=gfn << 12, handle=handle
        )
        assert answer.result == 0
        return int(answer.op.status)


class Translated:
    """The machine. Domain 1 and domain 2 are translated; more can be added."""

    def __init__(self, *, paging: str = "nested", word: int = 4, vcpus: int = 1) -> None:
        self.hypervisor = Hypervisor(OVERHEAD + _OTHERS_MIB - OVERHEAD % 2, seconds=1_000_000)
        self.domctl = Domctl(self.hypervisor)
        self._auditor = Auditor(self.hypervisor)
        self.free_frames = self.hypervisor.heap.free_frames
        self.free_xen_frames = self.hypervisor.free_xen_frames
        self.guests = {domid: Guest(self, domid, vcpus=vcpus, paging=paging, word=word) for domid in (1, 2)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.audit()
        finally:
            self.hypervisor.cpu.close()

    def __getitem__(self, domid: int) -> Guest:
        return self.guests[domid]

    def audit(self) -> None:
        """Recompute all counts."""
        self._auditor.audit()

    def destroy(self, domid: int) -> None:
        """End a guest."""
        self.domctl.destroy(self.guests.pop(domid).domain)
