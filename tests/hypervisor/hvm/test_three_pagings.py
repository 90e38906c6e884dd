"""One kernel's work with its tables, under direct, shadow and nested paging: the same memory at each mark.

The work is a list of things that a kernel does with address spaces, in words that leave the format of tables
open. A PV guest does it by hypercalls on its real tables, HVM guests with two, three and four levels by plain
writes. At each mark the pages that the guest can see are hashed; and what every access found is compared.
"""

from collections.abc import Callable
from typing import Final

import pytest
from page_table_guest import DIRECT, HVM, Code, Operation, Run, Variant
from page_table_kernel import (
    DATA,
    FIRST,
    KERNEL,
    KERNEL_READ_ONLY,
    PAGES,
    READ_ONLY,
    SECOND,
    SHARED,
    Image,
    Kernel,
)


def build_and_remap(kernel: Kernel) -> None:
    """Tables are built, filled, changed; pages alias each other, and lose and get rights."""
    kernel.link(0, FIRST)
    for page, frame in enumerate(DATA):
        kernel.map(FIRST, page, frame, SHARED)
    for page in range(8):
        kernel.access(Code.USER_WRITE, 0, page, 0x10 * page, 0x11111111 * page)
    kernel.mark(1)
    # Two pages of one frame, of which one can't be written.
    kernel.map(FIRST, 9, DATA[0], SHARED)
    kernel.map(FIRST, 10, DATA[0], READ_ONLY)
    kernel.access(Code.KERNEL_WRITE, 0, 9, 0x20, 0xA5A5A5A5)
    for page in (0, 10):
        kernel.access(Code.USER_READ, 0, page, 0x20)
    for code in (Code.USER_WRITE, Code.KERNEL_WRITE, Code.USER_CHANGE):
        kernel.access(code, 0, 10, 0x20, 1)
    # Pages change places.
    kernel.map(FIRST, 1, DATA[2], SHARED)
    kernel.map(FIRST, 2, DATA[1], READ_ONLY)
    kernel.access(Code.USER_CHANGE, 0, 1, 0x40, 7, flush_all=False)
    kernel.access(Code.USER_READ, 0, 2, 0x40, flush_all=False)
    kernel.access(Code.USER_WRITE, 0, 2, 0x40, 7)
    kernel.mark(2)
    kernel.unmap(FIRST, 0)
    kernel.map(FIRST, 3, DATA[3], KERNEL)
    kernel.map(FIRST, 4, DATA[4], KERNEL_READ_ONLY)
    for page in (0, 3, 4):
        for code in (Code.USER_READ, Code.KERNEL_READ, Code.USER_WRITE, Code.KERNEL_WRITE):
            kernel.access(code, 0, page, 0xFF0, 0x77)
    # An access that goes over the edge of a page, and over that of what is mapped.
    kernel.access(Code.USER_WRITE, 0, 5, 0xFFE, 0xDEADBEEF)
    kernel.access(Code.USER_READ, 0, 5, 0xFFE)
    kernel.access(Code.USER_WRITE, 0, 10, 0xFFE, 0xDEADBEEF)
    kernel.mark(3)


def copy_on_write(kernel: Kernel) -> None:
    """Two regions share frames, until one of them writes."""
    kernel.link(0, FIRST)
    kernel.link(1, SECOND)
    for page in range(3):
        kernel.map(FIRST, page, DATA[page], READ_ONLY)
        kernel.map(SECOND, page, DATA[page], READ_ONLY)
    kernel.mark(1)
    for page in range(3):
        kernel.access(Code.USER_WRITE, 1, page, 8, 0xC0FFEE)
        # The fault leads to a copy, through a page of the kernel's own.
        kernel.map(FIRST, 15, DATA[3 + page], KERNEL)
        for offset in range(0, 32, 4):
            kernel.access(Code.KERNEL_READ, 1, page, offset)
            kernel.access(Code.KERNEL_WRITE, 0, 15, offset, 0x1000 * page + offset, flush_all=False)
        kernel.map(SECOND, page, DATA[3 + page], SHARED)
        kernel.access(Code.USER_WRITE, 1, page, 8, 0xC0FFEE)
        kernel.access(Code.USER_READ, 0, page, 8)
        kernel.access(Code.USER_READ, 1, page, 8)
    kernel.mark(2)


def write_protection(kernel: Kernel) -> None:
    """Read-only pages, with CR0.WP both ways."""
    kernel.link(0, FIRST)
    kernel.map(FIRST, 0, DATA[0], READ_ONLY)
    kernel.map(FIRST, 1, DATA[1], KERNEL_READ_ONLY)
    for page in (0, 1):
        kernel.access(Code.KERNEL_WRITE, 0, page, 0x30, 1)
    kernel.mark(1)
    kernel.write_despite(FIRST, 0, DATA[0], READ_ONLY, 0x0B5E55ED)
    kernel.access(Code.USER_READ, 0, 0)
    kernel.access(Code.USER_WRITE, 0, 0, 0, 2)
    kernel.access(Code.KERNEL_WRITE, 0, 0, 4, 2)
    kernel.write_despite(FIRST, 1, DATA[1], KERNEL_READ_ONLY, 0x5EED)
    kernel.access(Code.KERNEL_READ, 0, 1)
    kernel.access(Code.USER_READ, 0, 1)
    # Rights that an upper level takes away.
    kernel.map(FIRST, 2, DATA[2], SHARED)
    kernel.access(Code.USER_WRITE, 0, 2, 0, 3)
    kernel.link(0, FIRST, READ_ONLY)
    kernel.access(Code.USER_WRITE, 0, 2, 0, 4)
    kernel.access(Code.KERNEL_WRITE, 0, 2, 0, 5)
    kernel.link(0, FIRST, KERNEL)
    kernel.access(Code.USER_READ, 0, 2)
    kernel.access(Code.KERNEL_WRITE, 0, 2, 0, 6)
    kernel.mark(2)


def marks_in_tables(kernel: Kernel) -> None:
    """A table maps itself, and so shows which of its entries were used and written through."""
    kernel.link(0, FIRST)
    kernel.map(FIRST, 8, FIRST, KERNEL_READ_ONLY)
    kernel.hide(0, 8)
    for page in range(4):
        kernel.map(FIRST, page, DATA[page], SHARED)
    kernel.access(Code.USER_READ, 0, 1)
    kernel.access(Code.USER_WRITE, 0, 2, 0, 1)
    kernel.access(Code.KERNEL_READ, 0, 3)
    for page in (*range(4), 8):
        kernel.read_flags(0, 8, page)
    kernel.access(Code.KERNEL_WRITE, 0, 3, 0, 2)
    kernel.map(FIRST, 2, DATA[2], SHARED)
    for page in range(4):
        kernel.read_flags(0, 8, page)
    kernel.access(Code.USER_READ, 0, 2)
    kernel.read_flags(0, 8, 2)
    kernel.mark(1)


def tables_come_and_go(kernel: Kernel) -> None:
    """A table serves two regions, is freed, is data for a while, and is a table again."""
    kernel.link(0, FIRST)
    kernel.link(1, SECOND)
    for page in range(4):
        kernel.map(FIRST, page, DATA[page], SHARED)
        kernel.map(SECOND, page, DATA[7 - page], SHARED)
    kernel.access(Code.USER_READ, 1, 3)
    kernel.mark(1)
    kernel.link(1, FIRST, READ_ONLY)
    kernel.access(Code.USER_WRITE, 0, 3, 0, 0xABCD)
    kernel.access(Code.USER_READ, 1, 3)
    kernel.access(Code.USER_WRITE, 1, 3, 0, 0xABCD)
    kernel.mark(2)
    kernel.unlink(1)
    for page in range(4):
        kernel.unmap(SECOND, page)
    kernel.unlink(1, free=SECOND)
    kernel.map(FIRST, 9, SECOND, SHARED)
    for offset in range(0, 64, 4):
        kernel.access(Code.USER_WRITE, 0, 9, offset, 0x01010101 * offset)
    kernel.access(Code.USER_READ, 0, 9, 60)
    kernel.access(Code.USER_READ, 1, 3)
    kernel.mark(3)
    for offset in range(0, 64, 4):
        kernel.access(Code.USER_WRITE, 0, 9, offset, 0, flush_all=False)
    kernel.unmap(FIRST, 9)
    kernel.program.add(Operation(Code.FLUSH_ALL))
    kernel.link(1, SECOND)
    kernel.map(SECOND, 511, DATA[2], SHARED)
    kernel.access(Code.USER_READ, 1, 511, 0xFFC)
    kernel.access(Code.USER_READ, 1, 510, 0xFFC)
    kernel.access(Code.USER_CHANGE, 1, 511, 0xFFC, 3)
    kernel.mark(4)


def large_pages(kernel: Kernel) -> None:
    """Memory is mapped as a whole, then by pages, then as a whole again."""
    kernel.link_large(0, FIRST, SHARED)
    for page in PAGES:
        kernel.access(Code.USER_WRITE, 0, page, 4 * (page % 100), 0x5A000000 + page)
    kernel.mark(1)
    kernel.link_large(0, FIRST, READ_ONLY)
    kernel.access(Code.USER_READ, 0, 300, 4 * (300 % 100))
    kernel.access(Code.USER_WRITE, 0, 511, 0, 1)
    kernel.access(Code.KERNEL_WRITE, 0, 511, 0, 1)
    kernel.split_large(0, SECOND, SHARED)
    kernel.map(SECOND, 7, DATA[0], READ_ONLY)
    kernel.access(Code.USER_WRITE, 0, 511, 0xFFC, 0x600D)
    kernel.access(Code.USER_WRITE, 0, 7, 0, 1)
    kernel.mark(3)
    kernel.link_large(0, FIRST, SHARED)
    kernel.access(Code.USER_READ, 0, 511, 0xFFC)
    kernel.access(Code.USER_READ, 0, 7)
    kernel.link_large(1, FIRST, KERNEL_READ_ONLY)
    kernel.access(Code.KERNEL_READ, 1, 511, 0xFFC)
    kernel.access(Code.USER_READ, 1, 511, 0xFFC)
    kernel.mark(4)


WORK: Final[tuple[Callable[[Kernel], None], ...]] = (
    build_and_remap,
    copy_on_write,
    write_protection,
    marks_in_tables,
    tables_come_and_go,
    large_pages,
)


def show(variant: Variant, work: Callable[[Kernel], None], machine_options: dict[str, object]) -> Image:
    """Let a guest do some work."""
    with Run(variant, **machine_options) as run:
        kernel = Kernel(run)
        work(kernel)
        return kernel.finish()


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
def test_direct_shadow_and_nested_paging_make_the_same_memory(
    work: Callable[[Kernel], None], machine_options: dict[str, object]
) -> None:
    direct = show(DIRECT, work, machine_options)
    assert len(set(direct.marks.values())) == len(direct.marks) > 0
    for variant in HVM:
        assert show(variant, work, machine_options) == direct, variant.name
