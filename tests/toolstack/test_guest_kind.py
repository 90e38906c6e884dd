"""What a kernel becomes: by what its file says, and by what is asked for."""

import gzip

import pytest

from guestkit import assemble
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_kind import GuestKind, Paging, kind_of, paging_of, read_kernel
from pvemu.toolstack.hvm_kernel import load_hvm_kernel
from pvemu.toolstack.hvm_layout import plan_hvm_domain
from pvemu.toolstack.multiboot import MULTIBOOT
from pvemu.toolstack.start_information import PVH
from tests.elf_builder import Elf, Load, note
from tests.toolstack.hvm_kernels import (
    ADDRESSES,
    BASE,
    CODE,
    elf,
    file,
    header,
    pv_notes,
    pvh_note,
)

BUILD_ID = note(3, b"0123456789abcdef0123", owner=b"GNU\0")
FILES = {
    "PV notes": (elf(notes=pv_notes()), GuestKind.PV),
    "a PVH entry": (elf(notes=pvh_note(BASE)), GuestKind.PVH),
    "both": (elf(notes=pv_notes() + pvh_note(BASE)), GuestKind.PV),
    "a Multiboot header": (elf(code=header() + CODE), GuestKind.HVM),
    "a Multiboot header and a build ID": (elf(code=header() + CODE, notes=BUILD_ID), GuestKind.HVM),
    "a Multiboot header and a PVH entry": (elf(code=header() + CODE, notes=pvh_note(BASE)), GuestKind.HVM),
    "PV notes and a Multiboot header": (elf(code=header() + CODE, notes=pv_notes()), GuestKind.PV),
    "nothing": (elf(), GuestKind.PV),
}


@pytest.mark.parametrize(("kernel", "kind"), FILES.values(), ids=FILES.keys())
def test_the_file_decides(kernel: Elf, kind: GuestKind) -> None:
    assert kind_of(file(kernel), None) is kind
    assert kind_of(read_kernel(gzip.compress(kernel.build())), None) is kind


@pytest.mark.parametrize("kind", [GuestKind.PVH, GuestKind.HVM])
def test_a_kernel_with_both_entries_is_what_is_asked_for(kind: GuestKind) -> None:
    assert kind_of(file(FILES["both"][0]), kind) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("PV notes", GuestKind.PVH),
        ("PV notes", GuestKind.HVM),
        ("nothing", GuestKind.HVM),
        ("a Multiboot header", GuestKind.PVH),
    ],
)
def test_what_a_kernel_can_t_be_is_refused(name: str, kind: GuestKind) -> None:
    with pytest.raises(KernelRefused, match="--type"):
        kind_of(file(FILES[name][0]), kind)


@pytest.mark.parametrize("target", ["pv32", "hvm32", "hvm64"])
def test_what_guestkit_builds_is_what_it_was_built_for(target: str) -> None:
    source = f'guest "tiny", target={target}\nsection .text\nstart: hlt\n'
    kind = GuestKind.PV if target == "pv32" else GuestKind.HVM
    assert kind_of(read_kernel(assemble(source).elf), None) is kind


def test_a_pvh_entry_is_preferred_to_a_multiboot_header() -> None:
    both = load_hvm_kernel(file(FILES["a Multiboot header and a PVH entry"][0]))
    assert both.protocol is PVH
    assert load_hvm_kernel(file(FILES["a Multiboot header"][0])).protocol is MULTIBOOT


@pytest.mark.parametrize("kind", GuestKind)
def test_every_kind_has_a_paging_of_its_own(kind: GuestKind) -> None:
    default = paging_of(kind, None)
    assert default is (Paging.DIRECT if kind is GuestKind.PV else Paging.NESTED)
    assert paging_of(kind, default) is default


@pytest.mark.parametrize(
    ("kind", "paging"),
    [
        (GuestKind.PV, Paging.NESTED),
        (GuestKind.PVH, Paging.DIRECT),
        (GuestKind.HVM, Paging.DIRECT),
    ],
)
def test_a_paging_that_makes_no_sense_is_refused(kind: GuestKind, paging: Paging) -> None:
    with pytest.raises(PvemuError, match=f"{kind.value} guest can't have {paging.value} paging"):
        paging_of(kind, paging)


REFUSED = {
    "an entry outside": elf(notes=pvh_note(BASE - 1)),
    "nothing to load": Elf(0, [], notes=pvh_note(BASE)),
    "another machine": Elf(BASE, [Load(BASE, CODE)], notes=pvh_note(BASE), machine=40),
    "a piece that is not in the file": Elf(BASE, [Load(BASE, CODE, file_size=1 << 20)], notes=pvh_note(BASE)),
    "Multiboot addresses beyond the file": elf(
        code=header(3 | ADDRESSES, BASE, BASE, BASE + (1 << 20), 0, BASE) + CODE
    ),
    "Multiboot addresses before the file": elf(
        code=header(3 | ADDRESSES, BASE + (1 << 20), BASE, 0, 0, BASE) + CODE
    ),
    "Multiboot addresses the wrong way round": elf(
        code=header(3 | ADDRESSES, BASE, BASE + 8, 0, 0, BASE) + CODE
    ),
}


@pytest.mark.parametrize("kernel", REFUSED.values(), ids=REFUSED.keys())
def test_a_kernel_that_makes_no_sense_is_refused(kernel: Elf) -> None:
    with pytest.raises(KernelRefused):
        load_hvm_kernel(file(kernel))


def test_what_a_multiboot_kernel_requires_and_nobody_has_is_refused() -> None:
    with pytest.raises(KernelRefused, match="requires"):
        load_hvm_kernel(file(elf(code=header(1 << 3) + CODE)))


def test_a_multiboot_kernel_that_asks_for_a_screen_starts_without_one() -> None:
    """GRUB starts such a kernel blind, and the information does not claim a screen."""
    layout = plan_hvm_domain(
        load_hvm_kernel(file(elf(code=header(1 << 2) + CODE))), memory_pages=4096, vcpus=1, is_pc=True
    )
    told = dict(layout.furniture)[layout.information]
    assert not int.from_bytes(told[:4], "little") & (1 << 11 | 1 << 12)


@pytest.mark.parametrize(
    "code",
    [
        b"\0" + header() + CODE,
        header()[:8] + b"\0\0\0\0" + CODE,
        bytes(8192) + header() + CODE,
    ],
    ids=["not on four bytes", "wrong sum", "too far behind"],
)
def test_what_is_no_multiboot_header_is_none(code: bytes) -> None:
    assert file(elf(code=code)).multiboot is None


def test_a_header_with_addresses_decides_what_is_loaded() -> None:
    at = 0x200000
    built = elf(code=bytes(32) + header(3 | ADDRESSES, at + 32, at, at + 96, at + 4096, at + 64) + CODE)
    kernel = load_hvm_kernel(file(built))
    (segment,) = kernel.segments
    assert (segment.address, len(segment.data), segment.memory_size) == (at, 96, 4096)
    assert bytes(segment.data)[32:64] == built.loads[0].data[32:64]
    assert kernel.entry == at + 64


def test_a_virtual_entry_of_a_multiboot_kernel_is_translated() -> None:
    built = Elf(0xC0100040, [Load(BASE, header() + CODE, vaddr=0xC0100000)], note_segment=False)
    assert load_hvm_kernel(file(built)).entry == BASE + 0x40
