"""Whole L1 tables: however they are gone through, each entry counts once, and a refused table not at all."""

import struct
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guestkit import assemble
from pvemu.abi import xen
from pvemu.abi.errno import Errno
from pvemu.abi.memory import XENMEM_decrease_reservation
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.core import OVERHEAD, Hypervisor
from pvemu.hypervisor.domctl import Domctl
from pvemu.memory.frames import NO_OWNER, PGT_L1, PGT_WRITABLE
from pvemu.memory.page_tables import ACCESSED, DIRTY, NO_EXECUTE, PRESENT, USER, WRITABLE
from pvemu.testing.puppet import make_hypercall
from pvemu.toolstack.domain_builder import build_domain

PAGES = 1024
ENTRIES = 512
VIRT_BASE = 0xC0000000
SOURCE = f"""
guest "small_domain", virt_base={VIRT_BASE:#x}
section .text
start:  jmp start
section .data
align 4
request: reserve 24, 0
"""
PLAIN = PRESENT | WRITABLE
#: Bits that say nothing about which frame is mapped, and how.
HARMLESS = (0, ACCESSED, ACCESSED | DIRTY, USER, NO_EXECUTE, 0x200)


class SmallDomain:
    """A domain of 4 MiB with one frame that nothing maps, to be a table."""

    def __init__(self) -> None:
        image = assemble(SOURCE)
        self.hypervisor = Hypervisor(OVERHEAD + 10)
        build_domain(Domctl(self.hypervisor), 0, image.elf, pages=PAGES, privileged=True)
        self.domain = build_domain(
            Domctl(self.hypervisor, 0), 1, image.elf, pages=PAGES, privileged=False
        ).domain
        self.request = image.symbols["request"]
        self.hypervisor.switch_to(self.domain.vcpus[0])
        frames, m2p = self.hypervisor.frames, self.hypervisor.m2p
        own = [mfn for mfn, owner in enumerate(frames.owner) if owner == self.domain.domid]
        self.table = next(mfn for mfn in own if m2p.get(mfn) == PAGES - 1)
        assert self.call("update_va_mapping", VIRT_BASE + (PAGES - 1) * 4096, 0, 0, 0) == 0
        self.writable = [mfn for mfn in own if frames.type[mfn] == PGT_WRITABLE and frames.count[mfn] > 1]
        self.foreign = next(
            mfn for mfn, owner in enumerate(frames.owner) if owner == 0 and frames.type[mfn] == PGT_WRITABLE
        )
        self.tables = [mfn for mfn in own if frames.type[mfn] == PGT_L1 and frames.type_count[mfn]]

    def call(self, name: str, *words: int) -> int | None:
        """A hypercall of the domain."""
        return make_hypercall(self.domain, name, *words)

    def operate(self, command: int) -> int | None:
        """mmuext_op on the table."""
        for index, word in enumerate((command, self.table, 0)):
            self.domain.memory.write_u32(self.request + 4 * index, word)
        return self.call("mmuext_op", self.request, 1, 0, xen.DOMID_SELF)

    def fill(self, entries: list[int]) -> None:
        """Write the table while it is none."""
        at = self.table << 9
        self.hypervisor.ram.u64[at : at + ENTRIES] = memoryview(struct.pack("<512Q", *entries)).cast("Q")

    def counts(self) -> tuple[list[int], list[int]]:
        """General and typed references of all frames but the table's."""
        frames = self.hypervisor.frames
        columns = list(frames.count), list(frames.type_count)
        for column in columns:
            column[self.table] = 0
        return columns


@pytest.fixture(scope="module")
def machine() -> Iterator[SmallDomain]:
    machine = SmallDomain()
    yield machine
    machine.hypervisor.cpu.close()


@given(data=st.data())
def test_each_entry_of_a_table_counts_once_and_a_refused_table_not_at_all(
    machine: SmallDomain, data: st.DataObject
) -> None:
    mfns = machine.writable
    first = data.draw(st.integers(0, len(mfns) - ENTRIES))
    row = mfns[first : first + ENTRIES]
    frames = data.draw(
        st.sampled_from([row, row[::-1]])
        | st.permutations(row)
        | st.lists(st.tuples(st.sampled_from(range(ENTRIES)), st.sampled_from(row)), min_size=1).map(
            lambda twice: list((dict(enumerate(row)) | dict(twice)).values())
        )
        | st.randoms(use_true_random=False).map(lambda chance: chance.sample(mfns, ENTRIES))
    )
    flags = data.draw(st.sampled_from(HARMLESS))
    entries = [mfn << 12 | PLAIN | flags for mfn in frames]
    index = data.draw(st.integers(0, ENTRIES - 1))
    odd = {
        "none": entries[index],
        "absent": 0,
        "read-only": row[0] << 12 | PRESENT,
        "marked": entries[index] | DIRTY,
        "a table, read-only": machine.tables[0] << 12 | PRESENT,
        "a table": machine.tables[0] << 12 | PLAIN,
        "another's": machine.foreign << 12 | PLAIN,
        "the hypervisor's": machine.hypervisor.zero_frame << 12 | PLAIN,
        "no memory": 0xFFFFF << 12 | PLAIN,
        "cached otherwise": row[0] << 12 | PLAIN | 1 << 4,
    }
    kind = data.draw(st.just("none") | st.sampled_from(sorted(odd)))
    entries[index] = odd[kind]
    refused = kind in {"a table", "another's", "the hypervisor's", "no memory", "cached otherwise"}
    machine.fill(entries)
    before = machine.counts()
    present = Counter(entry >> 12 & 0xFFFFFFFFFF for entry in entries if entry & PRESENT)
    written = Counter(entry >> 12 & 0xFFFFFFFFFF for entry in entries if entry & PRESENT and entry & WRITABLE)

    result = machine.operate(xen.MMUEXT_PIN_L1_TABLE)

    assert result in ((-Errno.EINVAL, -Errno.EBUSY, -Errno.EPERM) if refused else (0,))
    if not refused:
        for column, was, more in zip(machine.counts(), before, (present, written), strict=True):
            assert column == [number + more[mfn] for mfn, number in enumerate(was)]
        assert machine.operate(xen.MMUEXT_UNPIN_TABLE) == 0
    assert machine.counts() == before


@pytest.mark.parametrize("uses", [1, 2, ENTRIES])
def test_a_frame_that_only_a_table_still_uses_is_free_after_it(machine: SmallDomain, uses: int) -> None:
    frames = machine.hypervisor.frames
    given_up = machine.writable.pop()
    pfn = machine.hypervisor.m2p.get(given_up)
    row = machine.writable[:ENTRIES]
    machine.fill([mfn << 12 | PLAIN for mfn in [given_up] * uses + row[uses:]])
    assert machine.operate(xen.MMUEXT_PIN_L1_TABLE) == 0
    assert machine.call("update_va_mapping", VIRT_BASE + pfn * 4096, 0, 0, 0) == 0
    # xen_memory_reservation of one extent: its list, count, order, address bits and domain; then the list.
    for index, word in enumerate((machine.request + 20, 1, 0, 0, xen.DOMID_SELF, given_up)):
        machine.domain.memory.write_u32(machine.request + 4 * index, word)
    assert machine.call("memory_op", XENMEM_decrease_reservation, machine.request) == 1
    assert frames.owner[given_up] == machine.domain.domid

    assert machine.operate(xen.MMUEXT_UNPIN_TABLE) == 0

    assert frames.owner[given_up] == NO_OWNER
    Auditor(machine.hypervisor).audit()
