"""Hypercalls of auto-translated guests: frame numbers are their own, and a table is a page like others."""

import struct
from collections.abc import Iterator

import pytest
from as_translated import with_feature
from booted import Booted

from pvemu.abi.arch_x86 import vcpu_guest_context
from pvemu.abi.errno import Errno
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.memory import (
    XENMAPSPACE_grant_table,
    XENMEM_add_to_physmap,
    XENMEM_machphys_mapping,
    XENMEM_maximum_gpfn,
    xen_add_to_physmap,
)
from pvemu.abi.xen import (
    DOMID_SELF,
    MMU_MACHPHYS_UPDATE,
    MMU_PT_UPDATE_PRESERVE_AD,
    MMUEXT_CLEAR_PAGE,
    MMUEXT_COPY_PAGE,
    MMUEXT_INVLPG_ALL,
    MMUEXT_INVLPG_MULTI,
    MMUEXT_NEW_BASEPTR,
    MMUEXT_NEW_USER_BASEPTR,
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
    MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_UNPIN_TABLE,
    UVMF_INVLPG,
    start_info,
)
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.hypercall import PackedWords
from pvemu.hypervisor.log import Log
from pvemu.hypervisor.pv.guest_context import get_guest_context
from pvemu.memory.guest import GuestFault
from pvemu.memory.page_tables import ACCESSED, DIRTY, PRESENT, WRITABLE
from pvemu.memory.ram import PAGE_SIZE
from pvemu.toolstack.guest_kind import Paging

SPINS = with_feature("""
guest "spins"
section .text
start:  mov [info], esi
        inc dword [turns]
        jmp start
section .data
align 4096
info:   dd 0
turns:  dd 0
align 4096
scratch: reserve 4096, 0
page:   reserve 4096, 0x5a
other:  reserve 4096, 0
""")
BASE = 0xC0000000
EINVAL, EPERM, ENOSYS, ESRCH, EACCES = (
    -int(number) for number in (Errno.EINVAL, Errno.EPERM, Errno.ENOSYS, Errno.ESRCH, Errno.EACCES)
)
#: A frame where the guest has no memory.
HOLE = 0x80000


class Guest:
    """A guest that spins, whose hypercalls are made for it."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine
        self.domain: Domain = machine.boot(1, SPINS, paging=Paging.SHADOW, vcpus=2)
        machine.run(1)
        machine.hypervisor.switch_to(self.domain.vcpus[0])
        self.symbols = machine.symbols[1]
        self.scratch = self.symbols["scratch"]

    def pfn(self, name: str) -> int:
        return self.symbols[name] - BASE >> 12

    def call(self, name: str, *words: int) -> int:
        arguments = PackedWords([word & 0xFFFFFFFF for word in words])
        return self.machine.hypervisor.call(self.domain.vcpus[0], BY_NAME[name].number, arguments)

    def mmu_update(self, pointer: int, value: int, foreign: int = DOMID_SELF) -> int:
        self.domain.memory.copy_to_guest(self.scratch, struct.pack("<QQ", pointer, value))
        return self.call("mmu_update", self.scratch, 1, 0, foreign)

    def mmuext_op(self, command: int, first: int, second: int = 0) -> int:
        self.domain.memory.copy_to_guest(self.scratch, struct.pack("<3I", command, first, second))
        return self.call("mmuext_op", self.scratch, 1, 0, DOMID_SELF)

    def add_to_physmap(self, space: int, index: int, gfn: int) -> int:
        raw = xen_add_to_physmap.pack(4, domid=DOMID_SELF, size=0, space=space, idx=index, gpfn=gfn)
        self.domain.memory.copy_to_guest(self.scratch, raw)
        return self.call("memory_op", XENMEM_add_to_physmap, self.scratch)

    def start_info(self) -> object:
        address = self.domain.memory.read_u32(self.symbols["info"])
        return start_info.unpack(4, self.domain.memory.copy_from_guest(address, start_info.size(4)))

    def check(self) -> None:
        Auditor(self.machine.hypervisor).audit()
        self.domain.translation.shadow.check()


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Booted() as machine:
        yield (made := Guest(machine))
        made.check()


def test_start_info_names_frames_of_the_guests_own(guest: Guest) -> None:
    info = guest.start_info()
    memory, pages = guest.domain.memory, info.nr_pages  # type: ignore[attr-defined]
    assert pages == 8 * 256
    shared = info.shared_info  # type: ignore[attr-defined]
    assert guest.domain.p2m.get(shared >> 12) == guest.domain.shared_info_frame
    for frame in (info.store_mfn, info.console.domU.mfn):  # type: ignore[attr-defined]
        assert 0 < frame < pages
    numbers = struct.unpack(f"<{pages}I", memory.copy_from_guest(info.mfn_list, 4 * pages))  # type: ignore[attr-defined]
    assert numbers == tuple(range(pages))
    assert guest.domain.vcpus[0].cr3 == info.pt_base - BASE >> 12  # type: ignore[attr-defined]
    table = guest.domain.grant_table.frames
    assert [guest.domain.p2m.get(pages + index) for index in range(len(table))] == table


def test_an_update_of_an_entry_is_a_store_at_a_frame_of_the_guest(guest: Guest) -> None:
    place, memory = guest.pfn("page") << 12 | 8, guest.domain.memory
    assert guest.mmu_update(place, 0x123456789) == 0
    assert memory.read_word(guest.symbols["page"] + 8, 8) == 0x123456789
    memory.write_word(guest.symbols["page"] + 8, 8, ACCESSED | DIRTY | WRITABLE)
    assert guest.mmu_update(place | MMU_PT_UPDATE_PRESERVE_AD, PRESENT) == 0
    assert memory.read_word(guest.symbols["page"] + 8, 8) == PRESENT | ACCESSED | DIRTY


@pytest.mark.parametrize(
    ("pointer", "foreign", "result"),
    [
        (HOLE << 12, DOMID_SELF, EINVAL),
        (HOLE << 12 | MMU_PT_UPDATE_PRESERVE_AD, DOMID_SELF, EINVAL),
        (1 << 52, DOMID_SELF, EINVAL),
        (MMU_MACHPHYS_UPDATE, DOMID_SELF, EINVAL),
        (5, DOMID_SELF, ENOSYS),
        (0, 1, ESRCH),
        (0, 77, ESRCH),
        (0, 0, EPERM),
        (0, 2 << 16 | DOMID_SELF, 0),
        (0, 1 << 16 | DOMID_SELF, EPERM),
    ],
)
def test_an_update_that_is_not_the_guests_to_make_fails(
    guest: Guest, pointer: int, foreign: int, result: int
) -> None:
    assert guest.mmu_update(pointer, 0, foreign) == result


@pytest.mark.parametrize(
    "command", [MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE]
)
@pytest.mark.parametrize("frame", [0, HOLE])
def test_pinning_is_allowed_and_does_nothing(guest: Guest, command: int, frame: int) -> None:
    assert guest.mmuext_op(command, frame) == 0
    assert not any(guest.machine.hypervisor.frames.pinned)


def test_the_base_pointer_is_any_memory_of_the_guests_own(guest: Guest) -> None:
    vcpu = guest.domain.vcpus[0]
    before = vcpu.cr3
    assert guest.mmuext_op(MMUEXT_NEW_BASEPTR, HOLE) == EINVAL
    assert guest.mmuext_op(MMUEXT_NEW_USER_BASEPTR, before) == EINVAL
    assert vcpu.cr3 == before
    assert guest.mmuext_op(MMUEXT_NEW_BASEPTR, guest.pfn("other")) == 0
    assert vcpu.cr3 == guest.pfn("other")
    with pytest.raises(GuestFault):
        guest.domain.memory.read_u32(guest.scratch)


def test_a_guest_that_leaves_its_own_tables_is_crashed_with_a_reason(guest: Guest) -> None:
    lines: list[str] = []
    guest.machine.hypervisor.log = Log(lines.append)
    assert guest.mmuext_op(MMUEXT_NEW_BASEPTR, guest.pfn("page")) == 0
    guest.machine.run(1)
    assert guest.domain.has_shut_down
    assert lines[0].startswith("(XEN) d1v0: Unhandled: vec 14, #PF")


@pytest.mark.parametrize("command", [MMUEXT_TLB_FLUSH_MULTI, MMUEXT_INVLPG_MULTI])
def test_a_map_of_vcpus_must_be_readable(guest: Guest, command: int) -> None:
    assert guest.mmuext_op(command, 0, guest.scratch) == 0
    assert guest.mmuext_op(command, 0, 0x10) == EINVAL
    assert guest.mmuext_op(MMUEXT_INVLPG_ALL, 0) == 0


def test_whole_frames_are_cleared_and_copied_by_own_numbers(guest: Guest) -> None:
    memory = guest.domain.memory
    assert guest.mmuext_op(MMUEXT_COPY_PAGE, guest.pfn("other"), guest.pfn("page")) == 0
    assert memory.copy_from_guest(guest.symbols["other"], PAGE_SIZE) == b"\x5a" * PAGE_SIZE
    assert guest.mmuext_op(MMUEXT_CLEAR_PAGE, guest.pfn("other")) == 0
    assert memory.copy_from_guest(guest.symbols["other"], PAGE_SIZE) == bytes(PAGE_SIZE)
    assert guest.mmuext_op(MMUEXT_COPY_PAGE, HOLE, guest.pfn("page")) == EINVAL
    assert guest.mmuext_op(MMUEXT_COPY_PAGE, guest.pfn("page"), HOLE) == EINVAL
    assert guest.mmuext_op(MMUEXT_CLEAR_PAGE, HOLE) == EINVAL


def test_clearing_a_table_in_use_takes_its_mappings_away(guest: Guest) -> None:
    memory, translation = guest.domain.memory, guest.domain.translation
    vcpu = guest.domain.vcpus[0]
    place = translation.memory.guest_l1e(vcpu, guest.symbols["page"])
    assert place is not None
    guest.machine.run(1)
    assert translation.shadow.is_table(place >> 12)
    guest.machine.hypervisor.switch_to(vcpu)
    assert guest.mmuext_op(MMUEXT_CLEAR_PAGE, place >> 12) == 0
    guest.check()
    with pytest.raises(GuestFault):
        memory.read_u32(guest.symbols["page"])


def test_an_entry_is_found_by_the_address_that_it_maps(guest: Guest) -> None:
    entry = guest.pfn("page") << 12 | PRESENT | WRITABLE
    assert guest.call("update_va_mapping", guest.symbols["other"], entry, 0, UVMF_INVLPG) == 0
    assert guest.domain.memory.read_u32(guest.symbols["other"]) == 0x5A5A5A5A
    assert guest.call("update_va_mapping", 0x10000000, entry, 0, 0) == EINVAL
    other_domain = "update_va_mapping_otherdomain"
    assert guest.call(other_domain, guest.symbols["other"], 0, 0, 0, DOMID_SELF) == 0
    assert guest.call(other_domain, guest.symbols["other"], entry, 0, 0, 0) == EPERM
    with pytest.raises(GuestFault):
        guest.domain.memory.read_u32(guest.symbols["other"])


def test_a_hypercall_that_writes_into_a_table_changes_what_it_maps(guest: Guest) -> None:
    """Whatever it writes there: here, how many updates were done becomes an entry."""
    memory, translation = guest.domain.memory, guest.domain.translation
    place = translation.memory.guest_l1e(guest.domain.vcpus[0], guest.symbols["other"])
    assert place is not None
    table = BASE + place
    assert guest.call("mmu_update", guest.scratch, 0, table, DOMID_SELF) == 0
    guest.check()
    with pytest.raises(GuestFault):
        memory.read_u32(guest.symbols["other"])


def test_descriptors_are_written_by_own_frame_numbers(guest: Guest) -> None:
    place, value = guest.pfn("page") << 12 | 8, 0x00CF93000000FFFF
    words = place, 0, value & 0xFFFFFFFF, value >> 32
    assert guest.call("update_descriptor", *words) == 0
    assert guest.domain.memory.read_word(guest.symbols["page"] + 8, 8) == value | 1 << 45
    assert guest.call("update_descriptor", place + 4, *words[1:]) == EINVAL
    assert guest.call("update_descriptor", HOLE << 12, *words[1:]) == EINVAL
    assert guest.call("update_descriptor", place, 0, 0xFFFF, 0x00AF9B00) == EINVAL


def test_a_vcpus_registers_show_own_frame_numbers(guest: Guest) -> None:
    memory, vcpu = guest.domain.memory, guest.domain.vcpus[0]
    memory.write_u32(guest.scratch, guest.pfn("other"))
    assert guest.call("set_gdt", guest.scratch, 512) == 0
    context = vcpu_guest_context.unpack(4, get_guest_context(vcpu))
    assert context.gdt_frames[0] == guest.pfn("other")
    assert context.ctrlreg[3] == vcpu.cr3 << 12
    memory.write_u32(guest.scratch, HOLE)
    assert guest.call("set_gdt", guest.scratch, 512) == EINVAL


def test_memory_calls_are_those_of_a_translated_guest(guest: Guest) -> None:
    memory = guest.domain.memory
    table = guest.domain.grant_table.frames[0]
    assert guest.add_to_physmap(XENMAPSPACE_grant_table, 0, HOLE) == 0
    assert guest.domain.p2m.get(HOLE) == table
    assert guest.domain.p2m.get(8 * 256) is None, "a frame of its own is at one place only"
    memory.write_u32(guest.scratch, DOMID_SELF)
    assert guest.call("memory_op", XENMEM_maximum_gpfn, guest.scratch) == HOLE
    assert guest.call("memory_op", XENMEM_machphys_mapping, guest.scratch) == ENOSYS


def test_a_second_vcpu_is_given_a_root_by_its_own_number(guest: Guest) -> None:
    vcpu, memory = guest.domain.vcpus[1], guest.domain.memory
    context = {"user_regs": {"cs": 0xE019, "ss": 0xE021, "eip": guest.symbols["start"], "eflags": 2}}
    for root, result in ((HOLE, EINVAL), (guest.domain.vcpus[0].cr3, 0)):
        raw = vcpu_guest_context.pack(4, **context, ctrlreg=[0, 0, 0, root << 12, 0, 0, 0, 0])
        at = guest.symbols["page"]
        memory.copy_to_guest(at, raw[: 2 * PAGE_SIZE])
        assert guest.call("vcpu_op", 0, 1, at) == result
    assert vcpu.cr3 == guest.domain.vcpus[0].cr3
    assert guest.call("vcpu_op", 1, 1, 0) == 0
    turns = memory.read_u32(guest.symbols["turns"])
    guest.machine.run(40)
    assert guest.machine.word(guest.domain, "turns") > turns
