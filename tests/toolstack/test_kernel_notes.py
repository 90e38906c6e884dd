"""Kernels and their notes: the verdict on each, and where they are put, are real Xen's."""

import re
from pathlib import Path

import pytest

from pvemu.abi import elfnote
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.kernel import load_kernel
from pvemu.toolstack.layout import plan_domain
from pvemu.toolstack.xen_notes import PaeMode
from tests.elf_builder import Elf, note
from tests.toolstack.kernel_variants import MODULE, VARIANTS, WITH_MODULE, base_notes, kernel, packed

GOLDEN = Path(__file__).parents[1] / "golden"
MEMORY_PAGES = (256 << 20) // 4096
NOTE_OF_OPTION = {
    "NO_PAE": elfnote.XEN_ELFNOTE_PAE_MODE,
    "NO_FEATURES": elfnote.XEN_ELFNOTE_FEATURES,
    "NO_LOADER": elfnote.XEN_ELFNOTE_LOADER,
    "NO_GUEST_OS": elfnote.XEN_ELFNOTE_GUEST_OS,
    "NO_XEN_VERSION": elfnote.XEN_ELFNOTE_XEN_VERSION,
    "NO_HCPAGE": elfnote.XEN_ELFNOTE_HYPERCALL_PAGE,
    "NO_VBASE": elfnote.XEN_ELFNOTE_VIRT_BASE,
    "NO_PADDR_OFF": elfnote.XEN_ELFNOTE_PADDR_OFFSET,
    "NO_ENTRY": elfnote.XEN_ELFNOTE_ENTRY,
    "PAEMODE": elfnote.XEN_ELFNOTE_PAE_MODE,
    "FEATURES": elfnote.XEN_ELFNOTE_FEATURES,
    "HVLOW": elfnote.XEN_ELFNOTE_HV_START_LOW,
}


def golden_rows(name: str) -> list[list[str]]:
    lines = (GOLDEN / name).read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return rows[1:]


def kernel_of_row(link_base: str, paddr_add: str, paddr_offset: str, change: str) -> Elf:
    """The kernel that the columns of notes32.tsv describe."""
    base = int(link_base, 16)
    notes = base_notes(base) | {elfnote.XEN_ELFNOTE_PADDR_OFFSET: int(paddr_offset, 16)}
    for option, value in re.findall(r"-D(\w+)(?:=(\S+))?", change):
        kind = NOTE_OF_OPTION[option]
        if option.startswith("NO_"):
            del notes[kind]
        else:
            notes[kind] = value.strip('"') if value.startswith('"') else int(value, 16)
    return kernel(b"", notes, link_base=base, paddr_add=int(paddr_add, 16))


def verdict(elf: Elf, module: bytes | None = None) -> tuple[str, str]:
    """(verdict, reason or place of start_info and stack) for domain 0, worded as in the golden files."""
    try:
        loaded = load_kernel(elf.build())
        layout = plan_domain(loaded, memory_pages=MEMORY_PAGES, privileged=True, module=module)
    except KernelRefused as refusal:
        return "refused", refusal.reason
    return "boots", f"start_info {layout.start_info.virtual:08x}, esp {layout.stack_pointer:08x}"


@pytest.mark.parametrize("row", golden_rows("notes32.tsv"), ids=lambda row: row[0])
def test_a_kernel_is_started_or_refused_as_real_xen_does(row: list[str]) -> None:
    _, link_base, paddr_add, paddr_offset, change, expected, seen = row
    assert verdict(kernel_of_row(link_base, paddr_add, paddr_offset, change)) == (expected, seen)


@pytest.mark.parametrize("row", golden_rows("notes32-more.tsv"), ids=lambda row: row[0])
def test_an_odd_kernel_is_started_or_refused_as_real_xen_does(row: list[str]) -> None:
    name, expected, seen = row
    given = verdict(VARIANTS[name](b""), MODULE if name in WITH_MODULE else None)
    if expected == "panics":
        assert given[0] == "refused", "what brings real Xen down must not be started here"
    else:
        assert given == (expected, seen)


def test_every_variant_has_been_judged_by_real_xen() -> None:
    assert [row[0] for row in golden_rows("notes32-more.tsv")] == list(VARIANTS)


def test_a_refusal_is_one_line_that_says_what_to_do() -> None:
    for name, variant in VARIANTS.items():
        try:
            plan_domain(load_kernel(variant(b"").build()), memory_pages=MEMORY_PAGES, privileged=True)
        except KernelRefused as refusal:
            assert str(refusal) == f"{refusal.reason}: {refusal.remedy}", name
            assert "\n" not in str(refusal), name


def test_a_note_with_line_breaks_gives_a_refusal_of_one_line() -> None:
    notes = base_notes() | {elfnote.XEN_ELFNOTE_LOADER: "two\nlines\x1b"}
    with pytest.raises(KernelRefused, match=r"\(Not 'two\?lines\?' and 'tiny'\)") as refusal:
        load_kernel(kernel(b"", notes).build())
    assert "\n" not in str(refusal.value)


def test_what_the_notes_say_is_in_the_kernel() -> None:
    notes = base_notes() | {
        elfnote.XEN_ELFNOTE_GUEST_VERSION: "1.2",
        elfnote.XEN_ELFNOTE_HV_START_LOW: 0xF0000000,
        elfnote.XEN_ELFNOTE_MOD_START_PFN: 1,
        elfnote.XEN_ELFNOTE_SUPPORTED_FEATURES: 0x800,
    }
    loaded = load_kernel(kernel(b"", notes).build())
    assert (loaded.bits, loaded.machine, loaded.pae_mode) == (32, "EM_386", PaeMode.EXTENDED_CR3)
    assert (loaded.entry, loaded.virt_base, loaded.paddr_offset) == (0xC0101000, 0xC0000000, 0)
    assert (loaded.virt_kstart, loaded.virt_kend) == (0xC0100000, 0xC0104000)
    assert (loaded.hypercall_page, loaded.hv_start_low) == (0xC0100000, 0xF0000000)
    assert (loaded.features_required, loaded.features_supported) == (1 << 0, 1 << 0 | 1 << 4 | 1 << 11)
    assert loaded.declares_supported_features and loaded.module_by_pfn
    assert (loaded.guest_os, loaded.guest_version) == ("tiny", "1.2")
    assert (loaded.loader, loaded.xen_version) == ("generic", "xen-3.0")


@pytest.mark.parametrize(("entry", "remedy"), [(None, "use a 32-bit"), (0x101000, "--type pvh")])
def test_a_64_bit_kernel_is_read_but_not_planned_for_yet(entry: int | None, remedy: str) -> None:
    """One that can be a PVH guest as well, as Linux can, is sent there."""
    notes = base_notes(0) | ({} if entry is None else {elfnote.XEN_ELFNOTE_PHYS32_ENTRY: entry})
    elf = kernel(b"", packed(notes, size=8), link_base=0)
    elf.bits, elf.machine = 64, 62
    loaded = load_kernel(elf.build())
    assert (loaded.bits, loaded.machine, loaded.entry) == (64, "EM_X86_64", 0x101000)
    with pytest.raises(KernelRefused, match=f"64-bit PV guests are not supported yet.*{remedy}"):
        plan_domain(loaded, memory_pages=MEMORY_PAGES, privileged=True)


def test_a_kernel_with_only_a_pvh_entry_is_sent_to_pvh() -> None:
    """As Linux built without CONFIG_XEN_PV: it names itself and VIRT_BASE, but no entry for a PV guest."""
    notes = base_notes() | {
        elfnote.XEN_ELFNOTE_GUEST_OS: "linux",
        elfnote.XEN_ELFNOTE_PHYS32_ENTRY: 0x101000,
    }
    del notes[elfnote.XEN_ELFNOTE_ENTRY], notes[elfnote.XEN_ELFNOTE_PAE_MODE]
    elf = kernel(b"", notes)
    elf.entry = 0x101000
    with pytest.raises(KernelRefused, match=r"without CONFIG_XEN_PV.*pvh"):
        load_kernel(elf.build())


def test_domain_0_only_kernels_are_refused_as_unprivileged_domains() -> None:
    loaded = load_kernel(kernel(b"", base_notes() | {elfnote.XEN_ELFNOTE_FEATURES: "!dom0"}).build())
    plan_domain(loaded, memory_pages=MEMORY_PAGES, privileged=True)
    with pytest.raises(KernelRefused, match="does not support unprivileged"):
        plan_domain(loaded, memory_pages=MEMORY_PAGES, privileged=False)


def test_kernels_that_do_not_speak_of_domain_0_start_as_unprivileged_domains() -> None:
    supported = {elfnote.XEN_ELFNOTE_SUPPORTED_FEATURES: 1}
    loaded = load_kernel(kernel(b"", base_notes() | supported).build())
    plan_domain(loaded, memory_pages=MEMORY_PAGES, privileged=False)
    with pytest.raises(KernelRefused, match="does not support Dom0 operation"):
        plan_domain(loaded, memory_pages=MEMORY_PAGES, privileged=True)


def test_notes_past_the_limit_of_65536_are_not_read() -> None:
    filler = note(1, b"", owner=b"GNU\0")
    with pytest.raises(KernelRefused, match="Will only load images"):
        load_kernel(kernel(b"", filler * 65536 + packed(base_notes())).build())
    load_kernel(kernel(b"", filler * 60000 + packed(base_notes())).build())
