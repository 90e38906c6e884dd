"""A guest with tables of its own making and code to run, for tests of what no guest may bring about."""

from functools import cache
from typing import Final

import pytest
from page_table_guest import HVM, Code, Operation, Run
from page_table_kernel import DATA, FIRST, SHARED, UPPER, Kernel

from guestkit import assemble
from pvemu.memory.page_tables import FOUR_LEVEL
from pvemu.memory.ram import PAGE_SHIFT
from pvemu.toolstack.machine import Outcome

SECONDS: Final = 0.05
CODE_FRAME: Final = DATA[0]
#: Pages of region 0 with a meaning of their own; with two levels UPPER_TABLE is memory like any other.
ITSELF, UPPER_TABLE, ROOT, UNMAPPED, LAPIC, HOLE, MEMORY = 5, 6, 7, 9, 10, 11, 12
LAPIC_FRAME, HOLE_FRAME = 0xFEE00, 0xC0000
ENDS: Final = frozenset({Outcome.POWEROFF, Outcome.REBOOT, Outcome.CRASH, Outcome.DEADLINE})

Options = dict[str, object]
every_variant = pytest.mark.parametrize("variant", HVM, ids=lambda variant: variant.name)


@cache
def _assembled(bits: int, source: str) -> bytes:
    return assemble(f"bits {bits}\ncode:\n{source}").section_bytes(".text")


class Hostile:
    """A guest with some tables of its own making, and code to run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.kernel = Kernel(run)
        self.program = self.kernel.program
        self.bits = 64 if run.variant.form is FOUR_LEVEL else 32
        self.size = run.variant.form.entry_size
        kernel = self.kernel
        kernel.link(0, FIRST)
        kernel.map(FIRST, ITSELF, FIRST, SHARED)
        kernel.map(FIRST, UPPER_TABLE, UPPER[0], SHARED)
        self.map_frame(ROOT, run.root >> PAGE_SHIFT)
        self.map_frame(LAPIC, LAPIC_FRAME)
        self.map_frame(HOLE, HOLE_FRAME)
        kernel.map(FIRST, MEMORY, DATA[1], SHARED)

    def map_frame(self, page: int, number: int) -> None:
        """Map a frame that need not be the test's."""
        self.program.write_entry(self.run.frames[FIRST], page, number << PAGE_SHIFT | SHARED)

    def at(self, page: int) -> int:
        """The address of a page of region 0."""
        return self.kernel.address(0, page)

    def code(self, source: str) -> bytes:
        """Assembled; `ax` to `sp` behind a dollar sign are registers of the full width."""
        width = "r" if self.bits == 64 else "e"
        return _assembled(self.bits, source.replace("$", width))

    def write(self, number: int, offset: int, data: bytes) -> None:
        """Put something into a frame before the guest runs."""
        self.run.frame(number)[offset : offset + len(data)] = data

    def call(self, source: str) -> int:
        """Run code in ring 0 from memory that is nothing special; EBX is its own address, EAX its result."""
        self.write(self.run.frames[CODE_FRAME], 0, self.code(source))
        return self.do(Code.KERNEL_FETCH, self.run.alias(CODE_FRAME))

    def do(self, code: Code, address: int = 0, value: int = 0, detail: int = 0) -> int:
        """Append an operation; its number."""
        self.program.add(Operation(code, address, value, detail))
        return len(self.program) - 1

    def end(self, seconds: float = SECONDS) -> Outcome:
        """Run it all."""
        return self.run.start(self.program.finish(), seconds)
