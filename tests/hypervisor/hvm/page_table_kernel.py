"""A kernel that is told what to do with its page tables, in words that leave their format open."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from page_table_guest import LARGE_FRAMES, NO_TRAP, Code, Operation, Result, Run
from page_table_model import PV_TABLES, Program, compare

from pvemu.cpu import exits
from pvemu.cpu.mode import CR4_PSE
from pvemu.memory.page_tables import ACCESSED, DIRTY, LARGE, PAE, PRESENT, TWO_LEVEL, USER, WRITABLE

_PAGE: Final = 4096
#: Pages of each region that the work uses, and that are looked at.
PAGES: Final = (*range(16), 300, 511)
REGIONS: Final = (0, 1)
#: Frames by what they are for: tables first, and those above the last level, which only HVM guests need.
FIRST, SECOND = 0, 1
UPPER: Final = (15, 14)
DATA: Final = range(PV_TABLES, 12)
_WP_OFF, _WP_ON = 0x80000011, 0x80010011

READ_ONLY: Final = PRESENT | USER
SHARED: Final = PRESENT | USER | WRITABLE
KERNEL: Final = PRESENT | WRITABLE
KERNEL_READ_ONLY: Final = PRESENT


@dataclass
class Image:
    """What a run has shown: a hash for each mark, and what each access found, free of addresses."""

    marks: dict[int, str] = field(default_factory=dict)
    found: list[tuple[object, ...]] = field(default_factory=list)


class Kernel:
    """Says what the guest is to do, in its own format; and afterwards what was seen."""

    def __init__(self, run: Run) -> None:
        self.run, self.form = run, run.variant.form
        self.program = Program(run)
        self.is_pv = run.variant.is_pv
        self._masks: dict[int, int] = {}
        self._hidden: set[tuple[int, int]] = set()
        self._hidden_at: dict[int, frozenset[tuple[int, int]]] = {}
        for index in DATA:
            self._fill(run.frames[index], index)
        for index in range(16):
            self._fill(run.large_frames[index], 0x40 + index)
        self._root = run.root >> 12
        self._open_window()

    # --- what a kernel does ----------------------------------------------------------------------

    def link(self, region: int, table: int, flags: int = SHARED) -> None:
        """Make a frame the table of a region."""
        if self.is_pv:
            self.program.add(Operation(Code.PROTECT, self.run.alias(table)))
        self.program.write_entry(*self.upper(region), self.run.frames[table] << 12 | flags)

    def unlink(self, region: int, *, free: int | None = None) -> None:
        """Leave a region without a table; `free`: the frame that is data from now on."""
        self.program.write_entry(*self.upper(region), 0)
        if free is not None and self.is_pv:
            self.program.add(Operation(Code.UNPROTECT, self.run.alias(free)))

    def map(self, table: int, page: int, frame: int, flags: int) -> None:
        """Map one of the test's frames in a table."""
        self.program.write_entry(self.run.frames[table], page, self.run.frames[frame] << 12 | flags)

    def unmap(self, table: int, page: int) -> None:
        """Take a mapping away."""
        self.program.write_entry(self.run.frames[table], page, 0)

    def link_large(self, region: int, table: int, flags: int) -> None:
        """Map memory as a whole: by a large page, or where the target has none by all pages of it."""
        if self.is_pv:
            self.split_large(region, table, flags)
        else:
            value = LARGE_FRAMES[0] << 12 | flags | LARGE
            self.program.write_entry(*self.upper(region), value)

    def split_large(self, region: int, table: int, flags: int) -> None:
        """Map the memory of the large page by the pages of a table."""
        for page in PAGES:
            self.program.write_entry(self.run.frames[table], page, self.run.large_frames[page] << 12 | flags)
        self.link(region, table)

    def write_despite(self, table: int, page: int, frame: int, flags: int, value: int) -> None:
        """The kernel writes what it may only read: with CR0.WP off, or where that can't be by a remap."""
        if self.is_pv:
            self.map(table, page, frame, flags | WRITABLE)
            self.access(Code.KERNEL_WRITE, 0, page, value=value)
            self.map(table, page, frame, flags | ACCESSED | DIRTY)
            return
        mode = self.program.mode
        self.program.set_control(0, _WP_OFF, mode._replace(write_protect=False))
        self.access(Code.KERNEL_WRITE, 0, page, value=value)
        self.program.set_control(0, _WP_ON, mode._replace(write_protect=True))

    def access(
        self, code: Code, region: int, page: int, offset: int = 0, value: int = 0, *, flush_all: bool = True
    ) -> None:
        """Access a page of a region."""
        self.program.access(code, self.address(region, page) + offset, value, flush_all=flush_all)

    def read_flags(self, region: int, page: int, slot: int) -> None:
        """Read an entry of a table that is mapped at a page; its flags are what counts."""
        before = len(self.program)
        self.access(Code.KERNEL_READ, region, page, slot * self.form.entry_size)
        assert len(self.program) > before
        self._masks[len(self.program) - 1] = 0xFFF

    def hide(self, region: int, page: int) -> None:
        """What is at a page is a table, and looks otherwise in each format."""
        self._hidden.add((region, page))

    def show(self, region: int, page: int) -> None:
        """What is at a page is memory like any other again."""
        self._hidden.discard((region, page))

    def mark(self, number: int) -> None:
        """A place at which all guests must see the same memory."""
        self._hidden_at[number] = frozenset(self._hidden)
        self.program.add(Operation(Code.MARK, detail=number))

    def address(self, region: int, page: int) -> int:
        """Where a page of a region is."""
        return self.run.variant.window + (region << self.form.levels[-2].shift) + page * _PAGE

    # --- what was seen ---------------------------------------------------------------------------

    def finish(self) -> Image:
        """Run it all."""
        image = Image()
        self.run.run(self.program.finish(), lambda number: image.marks.update({number: self._hash(number)}))
        compare(self.run, self.program)
        for number, (operation, result) in enumerate(
            zip(self.program.operations, self.run.results, strict=True)
        ):
            if Code.KERNEL_READ <= operation.code <= Code.USER_FETCH:
                image.found.append(self._found(operation, result, self._masks.get(number, -1)))
        return image

    # --- inside ----------------------------------------------------------------------------------

    def _found(self, operation: Operation, result: Result, mask: int) -> tuple[object, ...]:
        if result.vector == exits.PF:
            return operation.code, "fault", result.error_code, result.value == operation.address
        value = result.value if operation.code in (Code.KERNEL_READ, Code.USER_READ) else 0
        return operation.code, result.vector == NO_TRAP, value & mask

    def _hash(self, number: int) -> str:
        digest = sha256()
        for region in REGIONS:
            for page in PAGES:
                if (region, page) not in self._hidden_at[number]:
                    digest.update(
                        self.run.visible(self.program.mode, self.address(region, page)) or b"nothing"
                    )
        return digest.hexdigest()

    def _fill(self, number: int, seed: int) -> None:
        """Contents for a frame, before the guest runs."""
        contents = sha256(bytes([seed])).digest() * (_PAGE // 32)
        self.run.frame(number)[:] = contents
        frame = self.program.memory.get(number)
        assert frame is not None
        frame[:] = contents

    def _open_window(self) -> None:
        """The tables above the last level."""
        if self.is_pv:
            l3 = self.program.memory.get(self._root)
            assert l3 is not None
            self._window = int.from_bytes(l3[24:32], "little") >> 12 & 0xFFFFFFF
            return
        if self.form is TWO_LEVEL:
            self.program.set_control(4, CR4_PSE, self.program.mode._replace(large_pages=True))
        table, slot = self._root, self.run.variant.root_slot
        for index, _ in zip(UPPER, self.form.levels[1:-1], strict=False):
            flags = PRESENT if self.form is PAE else SHARED
            self.program.write_entry(table, slot, self.run.frames[index] << 12 | flags)
            table, slot = self.run.frames[index], 0
        self._window = table

    def upper(self, region: int) -> tuple[int, int]:
        """The entry of level 2 for a region: table and number."""
        if self.is_pv or self.form is TWO_LEVEL:
            return self._window, self.run.variant.root_slot + region
        return self._window, region
