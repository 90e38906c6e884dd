"""Runs tests/guests/hvm/page_tables.gk: a program of operations on page tables, under any kind of paging.

`Variant` says how a guest is built and paged, and where what it works with lies; `Run` what came of it.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from reference_walk import Reached, reference_walk

from guestkit import Image, assemble_file
from pvemu import Machine
from pvemu.cpu import exits, layout
from pvemu.cpu.mode import CR0_PG, CR4_PAE, EFER_LME
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.hvm.shadow_paging import ShadowPaging
from pvemu.hypervisor.shadow.paging import Shadow
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import FOUR_LEVEL, PAE, TWO_LEVEL, PagingFormat
from pvemu.memory.ram import PAGE_SHIFT
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

GUEST: Final = Path(__file__).parents[2] / "guests/hvm/page_tables.gk"
#: MiB of the guest, and of its machine.
_MEMORY, _MACHINE_MEMORY = 8, 24
#: Frames that are the test's besides those of `frames`: 4 MiB of memory that nothing else uses.
LARGE_FRAMES: Final = range(0x400, 0x800)
#: Frames below the test's own are the guest's image; a test leaves them alone.
IMAGE: Final = range(0x400)
NO_TRAP: Final = 0xFFFFFFFF
_OPERATION: Final = struct.Struct("<IIQQ8x")
_RESULT: Final = struct.Struct("<IIQ")
_SECONDS: Final = 1.0
#: By which exit a mark is known, and in which register the magic number is.
_CPUID: Final = (exits.VMEXIT + 0x72, layout.RAX)
_HYPERCALL: Final = (0x82, layout.RBX)


class Code(IntEnum):
    """What an operation does; the numbers are those of the guest's table."""

    END = 0
    WRITE_NARROW, WRITE_WIDE, FLUSH_ALL, FLUSH_PAGE, SET_CONTROL, MARK = 1, 2, 3, 4, 5, 6
    KERNEL_READ, KERNEL_WRITE, KERNEL_CHANGE, KERNEL_FETCH = 7, 8, 9, 10
    USER_READ, USER_WRITE, USER_CHANGE, USER_FETCH = 11, 12, 13, 14
    PROTECT, UNPROTECT = 15, 16


class Operation(NamedTuple):
    """One operation: for most, at an address, with a value. `detail` chooses among ways to do it."""

    code: Code
    address: int = 0
    value: int = 0
    detail: int = 0


class Result(NamedTuple):
    """What an operation came to: NO_TRAP and a value, or an exception, for a page fault with CR2."""

    vector: int
    error_code: int
    value: int


@dataclass(frozen=True)
class Variant:
    """One way to build and page the guest.

    Attributes:
        window: where the test's tables map things. root_slot: the entry of the root for it (of a PV guest,
            whose tables Xen has made, of the L2).
    """

    name: str
    target: str
    form: PagingFormat
    paging: Paging
    window: int
    root_slot: int

    @property
    def is_pv(self) -> bool:
        """Whether tables hold machine frames, and Xen writes them."""
        return self.target == "pv32"

    @property
    def mode(self) -> PagingMode:
        """The paging mode in which the test finds the guest."""
        return PagingMode.of(CR0_PG | 1 << 16, 0 if self.form is TWO_LEVEL else CR4_PAE, self.efer)

    @property
    def efer(self) -> int:
        """EFER as the test finds it, without what only matters to the engine."""
        if self.is_pv:
            return 1 << 11
        return EFER_LME if self.form is FOUR_LEVEL else 0


def _hvm(name: str, target: str, form: PagingFormat, window: int, slot: int) -> list[Variant]:
    return [
        Variant(f"{name}-{paging.value}", target, form, paging, window, slot)
        for paging in (Paging.NESTED, Paging.SHADOW)
    ]


DIRECT: Final = Variant("pv32-direct", "pv32", PAE, Paging.DIRECT, 0xD0000000, 128)
HVM: Final = (
    *_hvm("two-level", "hvm32", TWO_LEVEL, 0xD0000000, 832),
    *_hvm("pae", "hvm32", PAE, 0xC0000000, 3),
    *_hvm("four-level", "hvm64", FOUR_LEVEL, 1 << 39, 1),
)


@cache
def image_of(target: str, form: PagingFormat) -> Image:
    """The guest, assembled once for each kind."""
    defines = {"LEVELS": 2} if form is TWO_LEVEL else {}
    return assemble_file(GUEST, target=target, defines=defines)


class _Frames(dict[int, bytearray]):
    """The guest's frames, live, for a walk."""

    def __init__(self, run: "Run") -> None:
        super().__init__()
        self._run = run

    def get(self, number: int, default: object = None) -> bytearray | None:  # type: ignore[override]
        return self._run.frame(number) if self._run.has_frame(number) else None  # type: ignore[return-value]


class Run:
    """A machine with the guest, whose program is still to be given.

    Attributes:
        frames: the numbers, as in page-table entries, of the frames that are the test's.
        table: where the root's table is, by frame number; root: the value of CR3.
    """

    def __init__(self, variant: Variant, **options: object) -> None:
        self.variant = variant
        self.image = image_of(variant.target, variant.form)
        config = GuestConfig(self.image.elf, memory=_MEMORY, paging=variant.paging)
        self.machine = Machine([config], machine_memory=_MACHINE_MEMORY, **options)  # type: ignore[arg-type]
        self._symbols = self.image.symbols
        self._frames_of_ram = self._find_frames()
        first = self._symbols["frames"] - (0xC0000000 if variant.is_pv else 0) >> PAGE_SHIFT
        number = self._symbols["FRAMES"]
        self.frames = [self.number_of(pfn) for pfn in range(first, first + number)]
        self.large_frames = [self.number_of(pfn) for pfn in LARGE_FRAMES]
        self.results: list[Result] = []

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()

    @property
    def root(self) -> int:
        """CR3, with which a walk of the guest's tables begins."""
        if self.variant.is_pv:
            return self.machine.domain.vcpus[0].cr3 << PAGE_SHIFT
        return self._symbols["boot_l4" if self.variant.form is FOUR_LEVEL else "root"]

    def number_of(self, pfn: int) -> int:
        """A frame's number in page-table entries."""
        return self._frames_of_ram[pfn] if self.variant.is_pv else pfn

    def alias(self, index: int) -> int:
        """Where the kernel sees one of the test's frames."""
        return self._symbols["frames"] + (index << PAGE_SHIFT)

    def frame(self, number: int) -> memoryview:
        """The bytes of a frame by its number in page-table entries."""
        mfn = number if self.variant.is_pv else self._frames_of_ram[number]
        return self.machine.hypervisor.ram.frame(mfn)

    def has_frame(self, number: int) -> bool:
        """Whether a number in a page-table entry is memory of the guest."""
        return number in (self._frames_of_ram.values() if self.variant.is_pv else self._frames_of_ram)

    def run(self, program: Sequence[Operation], at_mark: Callable[[int], None] | None = None) -> None:
        """Run a program to its end, and look into every count and shadow afterwards.

        Args:
            at_mark: called at each MARK with its detail.
        """
        if at_mark is not None:
            self._watch(at_mark)
        outcome = self.start(program, _SECONDS)
        assert outcome is Outcome.POWEROFF, (outcome, self.machine.log_lines, self.text)

    def start(self, program: Sequence[Operation], seconds: float) -> Outcome:
        """Run a program to whatever end, and look into every count and shadow afterwards."""
        code = b"".join(_OPERATION.pack(op.code, op.detail, op.address, op.value) for op in program)
        assert len(program) < self._symbols["OPERATIONS"]
        self._write(self._symbols["program"], code)
        outcome = self.machine.run(seconds).outcome
        found = self._read(self._symbols["results"], _RESULT.size * len(program))
        self.results = [Result(*fields) for fields in _RESULT.iter_unpack(found)]
        Auditor(self.machine.hypervisor).audit()
        if self.shadow is not None:
            self.shadow.check()
        return outcome

    @property
    def shadow(self) -> Shadow | None:
        """The guest's shadows, if it has any."""
        paging = None if self.variant.is_pv else self.machine.domain.hvm.paging
        return paging.shadow if isinstance(paging, ShadowPaging) else None

    @property
    def text(self) -> str:
        """What the guest has printed."""
        return self.machine.console_bytes.decode()

    def visible(self, mode: PagingMode, address: int) -> bytes | None:
        """A page of guest memory by linear address, by the guest's tables of now; None: nothing is there."""
        found = reference_walk(_Frames(self), mode, self.root, address, write=False, user=False, fetch=False)
        return bytes(self.frame(found.address >> PAGE_SHIFT)) if isinstance(found, Reached) else None

    # --- inside ----------------------------------------------------------------------------------

    def _find_frames(self) -> dict[int, int]:
        """Machine frames by the guest's own numbers."""
        domain, hypervisor = self.machine.domain, self.machine.hypervisor
        if not self.variant.is_pv:
            return dict(domain.p2m)
        owner = hypervisor.frames.owner
        owned = [
            mfn for mfn in range(hypervisor.heap.first, hypervisor.heap.end) if owner[mfn] == domain.domid
        ]
        return {hypervisor.m2p.get(mfn): mfn for mfn in owned}

    def _pieces(self, address: int, size: int) -> list[tuple[int, int]]:
        """Machine addresses and sizes of a part of the image."""
        address -= 0xC0000000 if self.variant.is_pv else 0
        pieces = []
        while size:
            piece = min(size, 4096 - address % 4096)
            mfn = self._frames_of_ram[address >> PAGE_SHIFT]
            pieces.append(((mfn << PAGE_SHIFT) + address % 4096, piece))
            address, size = address + piece, size - piece
        return pieces

    def _read(self, address: int, size: int) -> bytes:
        u8 = self.machine.hypervisor.ram.u8
        return b"".join(bytes(u8[at : at + piece]) for at, piece in self._pieces(address, size))

    def _write(self, address: int, data: bytes) -> None:
        u8 = self.machine.hypervisor.ram.u8
        for at, piece in self._pieces(address, len(data)):
            u8[at : at + piece], data = data[:piece], data[piece:]

    def _watch(self, at_mark: Callable[[int], None]) -> None:
        cpu, leaf = self.machine.hypervisor.cpu, self._symbols["MARK"]
        u64 = cpu.window.u64
        marking, register = _HYPERCALL if self.variant.is_pv else _CPUID

        def look(number: int) -> None:
            if number == marking and u64[register] & 0xFFFFFFFF == leaf:
                at_mark(u64[layout.RCX] & 0xFFFFFFFF)

        cpu.trace(look)
