"""Kernels that differ in one thing from a kernel that Xen starts; real Xen has judged each of them.

The base kernel has four pages at physical 1 MiB, the hypercall page in the first, its entry at the second.
Its notes are GUEST_OS, LOADER, XEN_VERSION, PAE_MODE, FEATURES, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET and
ENTRY.
"""

from collections.abc import Callable, Mapping

from pvemu.abi.elfnote import (
    XEN_ELFNOTE_BSD_SYMTAB,
    XEN_ELFNOTE_ENTRY,
    XEN_ELFNOTE_FEATURES,
    XEN_ELFNOTE_GUEST_OS,
    XEN_ELFNOTE_GUEST_VERSION,
    XEN_ELFNOTE_HV_START_LOW,
    XEN_ELFNOTE_HYPERCALL_PAGE,
    XEN_ELFNOTE_INIT_P2M,
    XEN_ELFNOTE_LOADER,
    XEN_ELFNOTE_MOD_START_PFN,
    XEN_ELFNOTE_PADDR_OFFSET,
    XEN_ELFNOTE_PAE_MODE,
    XEN_ELFNOTE_PHYS32_ENTRY,
    XEN_ELFNOTE_SUPPORTED_FEATURES,
    XEN_ELFNOTE_VIRT_BASE,
    XEN_ELFNOTE_XEN_VERSION,
)
from tests.elf_builder import EM_X86_64, PAGE_SIZE, Elf, Load, note

Notes = dict[int, int | str]
HIGH_BASE = 0xC0000000
IMAGE_PADDR = 0x100000
IMAGE_SIZE = 4 * PAGE_SIZE
ENTRY_OFFSET = PAGE_SIZE
ROOM_FOR_CODE = 2 * PAGE_SIZE
_SYMBOL_NAMES = b"\0start\0end\0"


def base_notes(link_base: int = HIGH_BASE) -> Notes:
    """The notes of the base kernel linked at `link_base` + 1 MiB."""
    return {
        XEN_ELFNOTE_GUEST_OS: "tiny",
        XEN_ELFNOTE_LOADER: "generic",
        XEN_ELFNOTE_XEN_VERSION: "xen-3.0",
        XEN_ELFNOTE_PAE_MODE: "yes",
        XEN_ELFNOTE_FEATURES: "!writable_page_tables|pae_pgdir_above_4gb",
        XEN_ELFNOTE_HYPERCALL_PAGE: link_base + IMAGE_PADDR,
        XEN_ELFNOTE_VIRT_BASE: link_base,
        XEN_ELFNOTE_PADDR_OFFSET: 0,
        XEN_ELFNOTE_ENTRY: link_base + IMAGE_PADDR + ENTRY_OFFSET,
    }


def image(code: bytes) -> bytes:
    """The bytes of the base image, with `code` at its entry."""
    return (bytes(ENTRY_OFFSET) + code.ljust(ROOM_FOR_CODE, b"\x90")).ljust(IMAGE_SIZE, b"\0")


def packed(notes: Notes, *, size: int = 4) -> bytes:
    """The notes as a note segment holds them; numbers of `size` bytes."""
    return b"".join(note(kind, value, size=size) for kind, value in notes.items())


def kernel(
    code: bytes = b"", notes: Notes | bytes | None = None, *, link_base: int = HIGH_BASE, paddr_add: int = 0
) -> Elf:
    """The base kernel, with other notes or other addresses."""
    if notes is None:
        notes = base_notes(link_base)
    return Elf(
        entry=link_base + IMAGE_PADDR + ENTRY_OFFSET,
        loads=[Load(IMAGE_PADDR + paddr_add, image(code), vaddr=link_base + IMAGE_PADDR)],
        notes=packed(notes) if isinstance(notes, dict) else notes,
    )


Variant = Callable[[bytes], Elf]


def _with_notes(changes: Mapping[int, int | str | None], link_base: int = HIGH_BASE) -> Variant:
    """Notes replaced, added, or (None) left out."""

    def build(code: bytes) -> Elf:
        notes = base_notes(link_base) | {kind: value for kind, value in changes.items() if value is not None}
        for kind, value in changes.items():
            if value is None:
                del notes[kind]
        return kernel(code, notes, link_base=link_base)

    return build


def _changed(change: Callable[[Elf], None]) -> Variant:
    """The base kernel after `change` has been made to it."""

    def build(code: bytes) -> Elf:
        elf = kernel(code)
        change(elf)
        return elf

    return build


def _guest_section(text: str, paddr_add: int = 0) -> Variant:
    """No notes at all; a section __xen_guest instead."""

    def build(code: bytes) -> Elf:
        elf = kernel(code, b"", paddr_add=paddr_add)
        elf.note_segment = False
        elf.guest_section = text.encode() + b"\0"
        return elf

    return build


def _set(**fields: object) -> Variant:
    def change(elf: Elf) -> None:
        for name, value in fields.items():
            setattr(elf, name, value)

    return _changed(change)


def _raw_notes(make: Callable[[Notes], bytes]) -> Variant:
    return lambda code: kernel(code, make(base_notes()))


def _foreign(kind: int, owner: bytes) -> Variant:
    """One of the notes under another owner's name."""

    def make(notes: Notes) -> bytes:
        return b"".join(
            note(each, value, owner=owner if each == kind else b"Xen\0") for each, value in notes.items()
        )

    return _raw_notes(make)


def _last_note_cut(missing: int) -> Variant:
    """A note segment whose size is `missing` bytes too small."""

    def change(elf: Elf) -> None:
        elf.note_segment_size = len(elf.notes) - missing

    return _changed(change)


def _loads(*extra: Load) -> Variant:
    return _changed(lambda elf: elf.loads.extend(extra))


def _load(**fields: object) -> Variant:
    def change(elf: Elf) -> None:
        for name, value in fields.items():
            setattr(elf.loads[0], name, value)

    return _changed(change)


def _symbols(elf: Elf) -> None:
    elf.notes += note(XEN_ELFNOTE_BSD_SYMTAB, "yes")
    elf.symbols = bytes(16) + bytes(16 * 0x300)
    elf.symbol_names = _SYMBOL_NAMES


_OLD = "GUEST_OS=tiny,XEN_VER=xen-3.0,LOADER=generic,PAE=yes[extended-cr3]"
_FAR = HIGH_BASE + (64 << 20)

VARIANTS: Mapping[str, Variant] = {
    "base": kernel,
    "linked-at-0": _with_notes({}, link_base=0),
    "linked-off-the-granule": _with_notes({}, link_base=0xC0123000),
    "with-module": kernel,
    "with-module-by-pfn": _with_notes({XEN_ELFNOTE_MOD_START_PFN: 1}),
    "sht-note-only": _set(note_segment=False, note_section=True),
    "pt-note-at-offset-0-then-sht-note": _set(note_segment_offset=0, note_section=True),
    "no-notes": _set(note_segment=False),
    "only-foreign-notes": _raw_notes(lambda notes: note(1, "GNU speaks", owner=b"GNU\0")),
    "foreign-owner-of-loader": _foreign(XEN_ELFNOTE_LOADER, b"GNU\0"),
    "foreign-owner-of-entry": _foreign(XEN_ELFNOTE_ENTRY, b"NetBSD\0"),
    "owner-in-lower-case": _foreign(XEN_ELFNOTE_XEN_VERSION, b"xen\0"),
    "owner-without-nul": _raw_notes(
        lambda notes: b"".join(note(kind, value, owner=b"Xen") for kind, value in notes.items())
    ),
    "numbers-of-8-bytes": _raw_notes(lambda notes: packed(notes, size=8)),
    "entry-of-6-bytes-counts-as-0": _raw_notes(
        lambda notes: packed(notes) + note(XEN_ELFNOTE_ENTRY, notes[XEN_ELFNOTE_ENTRY], size=6)
    ),
    "last-note-8-bytes-past-segment": _last_note_cut(8),
    "last-note-cut-in-header": _last_note_cut(12),
    "second-loader-wins": _raw_notes(lambda notes: packed(notes) + note(XEN_ELFNOTE_LOADER, "special")),
    "pae-no-after-yes": _raw_notes(lambda notes: packed(notes) + note(XEN_ELFNOTE_PAE_MODE, "no")),
    "pae-bimodal-in-words": _with_notes({XEN_ELFNOTE_PAE_MODE: "bimodal,please"}),
    "pae-yes-and-more": _with_notes({XEN_ELFNOTE_PAE_MODE: "yes,please"}),
    "loader-generic-and-more": _with_notes({XEN_ELFNOTE_LOADER: "generic-2"}),
    "loader-in-capitals": _with_notes({XEN_ELFNOTE_LOADER: "Generic"}),
    "loader-longer-than-kept": _with_notes({XEN_ELFNOTE_LOADER: "a-loader-of-another-kind"}),
    "linux-without-loader": _with_notes({XEN_ELFNOTE_LOADER: None, XEN_ELFNOTE_GUEST_OS: "linux"}),
    "version-and-more": _with_notes({XEN_ELFNOTE_XEN_VERSION: "xen-3.0-x86_32p"}),
    "version-4.0": _with_notes({XEN_ELFNOTE_XEN_VERSION: "xen-4.0"}),
    "guest-version": _with_notes({XEN_ELFNOTE_GUEST_VERSION: "2.6"}),
    "unknown-note-type": _with_notes({77: "nobody knows"}),
    "supported-features-without-dom0": _with_notes({XEN_ELFNOTE_SUPPORTED_FEATURES: 1}),
    "supported-features-with-dom0": _with_notes({XEN_ELFNOTE_SUPPORTED_FEATURES: 1 << 11 | 1}),
    "feature-name-of-70-letters": _with_notes({XEN_ELFNOTE_FEATURES: "x" * 62 + "|!" + "dom0" + "x" * 66}),
    "features-with-empty-names": _with_notes({XEN_ELFNOTE_FEATURES: "||writable_page_tables||"}),
    "feature-required-without-name": _with_notes({XEN_ELFNOTE_FEATURES: "!"}),
    "init-p2m-in-image": _with_notes({XEN_ELFNOTE_INIT_P2M: HIGH_BASE + IMAGE_PADDR + PAGE_SIZE}),
    "init-p2m-elsewhere": _with_notes({XEN_ELFNOTE_INIT_P2M: 0xD0000000}),
    "module-by-pfn": _with_notes({XEN_ELFNOTE_MOD_START_PFN: 1}),
    "phys32-entry-too": _with_notes({XEN_ELFNOTE_PHYS32_ENTRY: IMAGE_PADDR}),
    "phys32-entry-only": lambda code: kernel(code, {XEN_ELFNOTE_PHYS32_ENTRY: IMAGE_PADDR + ENTRY_OFFSET}),
    "hv-start-low-odd-but-low": _with_notes({XEN_ELFNOTE_HV_START_LOW: 0xC8001000}),
    "hv-start-low-8-bytes-wide": _raw_notes(
        lambda notes: packed(notes) + note(XEN_ELFNOTE_HV_START_LOW, 0xFFFF800000000000, size=8)
    ),
    "hypercall-page-in-stack": _with_notes({XEN_ELFNOTE_HYPERCALL_PAGE: HIGH_BASE + 0x14C000}),
    "hypercall-page-below-base": _with_notes({XEN_ELFNOTE_HYPERCALL_PAGE: HIGH_BASE - PAGE_SIZE}),
    "hypercall-page-past-mapping": _with_notes({XEN_ELFNOTE_HYPERCALL_PAGE: HIGH_BASE + (4 << 20)}),
    "hypercall-page-in-page-tables": _with_notes({XEN_ELFNOTE_HYPERCALL_PAGE: HIGH_BASE + 0x146000}),
    "hypercall-page-off-a-page": _with_notes({XEN_ELFNOTE_HYPERCALL_PAGE: HIGH_BASE + IMAGE_PADDR + 0x3800}),
    "hypercall-page-leaving-mapping": _with_notes({XEN_ELFNOTE_HYPERCALL_PAGE: HIGH_BASE + 0x3FF800}),
    "base-off-a-page": _with_notes({XEN_ELFNOTE_VIRT_BASE: HIGH_BASE + 0x800}),
    "linked-below-xen-by-4-mib": _with_notes({}, link_base=0xF5400000),
    "linked-below-xen-by-less": _with_notes({}, link_base=0xF5500000),
    "loads-three-times-over": _loads(
        *[Load(IMAGE_PADDR + PAGE_SIZE * 2, b"again", memory_size=2 * PAGE_SIZE)] * 5
    ),
    "entry-below-image": _with_notes({XEN_ELFNOTE_ENTRY: HIGH_BASE + IMAGE_PADDR - 1}),
    "entry-past-image": _with_notes({XEN_ELFNOTE_ENTRY: HIGH_BASE + IMAGE_PADDR + IMAGE_SIZE + 1}),
    "base-above-image": _with_notes({XEN_ELFNOTE_VIRT_BASE: HIGH_BASE + (2 << 20)}),
    "base-near-4g-by-8-bytes": _raw_notes(
        lambda notes: packed(notes) + note(XEN_ELFNOTE_VIRT_BASE, 1 << 40, size=8)
    ),
    "crosses-a-gigabyte": _with_notes({}, link_base=0x3FF00000),
    "ends-at-a-gigabyte": _with_notes({}, link_base=0x3FC00000),
    "two-loads": _loads(Load(IMAGE_PADDR + 2 * IMAGE_SIZE, b"second" * 100, memory_size=5000)),
    "two-loads-overlapping": _loads(
        Load(IMAGE_PADDR + IMAGE_SIZE - PAGE_SIZE, b"over" * 100, memory_size=PAGE_SIZE)
    ),
    "second-load-without-permissions": _loads(Load(64 << 20, b"unseen", flags=0)),
    "second-load-below": _loads(Load(0x1000, b"below", memory_size=PAGE_SIZE)),
    "memory-smaller-than-file": _load(memory_size=IMAGE_SIZE - 1),
    "image-of-250-mib": _load(memory_size=250 << 20),
    "image-of-300-mib": _load(memory_size=300 << 20),
    "image-of-200-mib": _load(memory_size=200 << 20),
    "end-not-on-a-page": _load(memory_size=IMAGE_SIZE + 1),
    "spare-space-just-enough": _load(memory_size=0x400000 - 0x80000 - 0x100000 - 9 * PAGE_SIZE - 0x40000),
    "spare-space-just-missing": _load(
        memory_size=0x400000 - 0x80000 - 0x100000 - 9 * PAGE_SIZE - 0x40000 + 1
    ),
    "machine-x86-64-in-32-bit-file": _set(machine=EM_X86_64),
    "program-headers-past-end": _set(patches={28: b"\xff\xff\xff\x00"}),
    "section-headers-past-end": _set(patches={32: b"\xff\xff\xff\x00", 48: b"\x01\x00"}),
    "bsd-symbols": _changed(_symbols),
    "bsd-symbols-without-table": _with_notes({XEN_ELFNOTE_BSD_SYMTAB: "yes"}),
    "guest-section": _guest_section(f"{_OLD},VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0x0"),
    "guest-section-virtual-paddr": _guest_section(f"{_OLD},VIRT_BASE=0xC0000000", paddr_add=HIGH_BASE),
    "guest-section-physical-paddr": _guest_section(f"{_OLD},VIRT_BASE=0xC0000000"),
    "guest-section-hypercall-page": _guest_section(
        f"{_OLD},VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0,HYPERCALL_PAGE=0x100"
    ),
    "guest-section-hypercall-page-outside": _guest_section(
        f"{_OLD},VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0,HYPERCALL_PAGE=0x400"
    ),
    "guest-section-octal-and-decimal": _guest_section(
        f"{_OLD},VIRT_BASE=3221225472,ELF_PADDR_OFFSET=00,VIRT_ENTRY=030004010000"
    ),
    "guest-section-pae-no": _guest_section(
        "GUEST_OS=tiny,XEN_VER=xen-3.0,LOADER=generic,PAE=no,VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0"
    ),
    "guest-section-pae-yes": _guest_section(
        "GUEST_OS=tiny,XEN_VER=xen-3.0,LOADER=generic,PAE=yes,VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0"
    ),
    "guest-section-unknown-required-feature": _guest_section(
        f"{_OLD},VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0,FEATURES=!no_such_feature"
    ),
    "guest-section-without-loader": _guest_section("XEN_VER=xen-3.0,PAE=yes,VIRT_BASE=0xC0000000"),
}


MODULE = b"module" * 1000
WITH_MODULE = frozenset({"with-module", "with-module-by-pfn"})
"""Variants that are given MODULE to boot with."""
LAYOUTS = (
    "base",
    "linked-at-0",
    "linked-off-the-granule",
    "crosses-a-gigabyte",
    "ends-at-a-gigabyte",
    "two-loads",
    "image-of-200-mib",
    "bsd-symbols",
    "with-module",
    "with-module-by-pfn",
)
"""Variants whose page tables were recorded in full."""
