"""What a kernel's ELF file says to Xen: the notes of owner "Xen", or else the older section __xen_guest.

Notes are looked for in the PT_NOTE segments; only if those hold none of Xen's, in the SHT_NOTE sections; only
if those hold none, __xen_guest is read. Reads are bounded by the file, not by the segment: the last note of
real kernels (GRUB's) runs past its segment.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from pvemu.abi import elfnote
from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_section import read_guest_section
from pvemu.toolstack.xen_features import UnknownRequiredFeature, parse_features
from pvemu.toolstack.xen_notes import STORED_STRING_LENGTH, PaeMode, Source, XenNotes

MAX_NOTES = 65536
"""Notes of any owner that are looked at in one file, as in Xen."""
_NOTE_HEADER_SIZE = 12
_NUMBER_SIZES = (1, 2, 4, 8)
_FEATURE_WORD_SIZE = 4


def read_xen_notes(image: ElfImage) -> XenNotes:
    """Finds and reads what the file says to Xen. Raises KernelRefused if it requires an unknown feature."""
    notes = XenNotes()
    segments = [header for header in image.program_headers if header.type == "PT_NOTE" and header.offset != 0]
    if _read_notes(
        image, [range(header.offset, header.offset + header.file_size) for header in segments], notes
    ):
        return notes
    sections = list(image.sections())
    note_sections = [section for section in sections[1:] if section.type == "SHT_NOTE"]
    if _read_notes(image, [range(part.offset, part.offset + part.size) for part in note_sections], notes):
        return notes
    if segments or note_sections:
        notes.source = Source.NOTES
    for section in sections[1:]:
        if section.name == b"__xen_guest":
            return read_guest_section(image, section.offset)
    return notes


class _Note(NamedTuple):
    """A note of owner "Xen": its type, and the file offset and size of its description."""

    type: int
    offset: int
    size: int


def _read_notes(image: ElfImage, places: list[range], notes: XenNotes) -> bool:
    """Reads all of Xen's notes in these ranges of the file; whether there were any."""
    found = False
    for note in islice(_all_notes(image, places), MAX_NOTES):
        if note is not None:
            notes.source, found = Source.NOTES, True
            _read_note(image, note, notes)
    return found


def _all_notes(image: ElfImage, places: Iterable[range]) -> Iterator[_Note | None]:
    """The notes in these ranges of the file, None for one of another owner than Xen."""
    for place in places:
        at = place.start
        while at < min(place.stop, len(image.data)):
            name_size, size, kind = (image.number(at + field, 4) for field in (0, 4, 8))
            offset = at + _NOTE_HEADER_SIZE + _padded(name_size)
            yield _Note(kind, offset, size) if image.string(at + _NOTE_HEADER_SIZE) == b"Xen" else None
            at = offset + _padded(size)


def _padded(size: int) -> int:
    return size + 3 & 0xFFFFFFFC


_NUMBERS: Mapping[int, str] = {
    elfnote.XEN_ELFNOTE_ENTRY: "entry",
    elfnote.XEN_ELFNOTE_HYPERCALL_PAGE: "hypercall_page",
    elfnote.XEN_ELFNOTE_VIRT_BASE: "virt_base",
    elfnote.XEN_ELFNOTE_INIT_P2M: "init_p2m",
    elfnote.XEN_ELFNOTE_PADDR_OFFSET: "paddr_offset",
    elfnote.XEN_ELFNOTE_HV_START_LOW: "hv_start_low",
    elfnote.XEN_ELFNOTE_MOD_START_PFN: "mod_start_pfn",
    elfnote.XEN_ELFNOTE_PHYS32_ENTRY: "phys32_entry",
}
_STRINGS: Mapping[int, str] = {
    elfnote.XEN_ELFNOTE_XEN_VERSION: "xen_version",
    elfnote.XEN_ELFNOTE_GUEST_OS: "guest_os",
    elfnote.XEN_ELFNOTE_GUEST_VERSION: "guest_version",
    elfnote.XEN_ELFNOTE_LOADER: "loader",
}


def _read_note(image: ElfImage, note: _Note, notes: XenNotes) -> None:
    number = image.number(note.offset, note.size) if note.size in _NUMBER_SIZES else 0
    if note.type in _NUMBERS:
        setattr(notes, _NUMBERS[note.type], number)
    elif note.type == elfnote.XEN_ELFNOTE_SUPPORTED_FEATURES:
        notes.declares_supported_features = True
        if note.size and note.size % _FEATURE_WORD_SIZE == 0:
            notes.features_supported |= image.number(note.offset, _FEATURE_WORD_SIZE)
    elif (raw := image.string(note.offset)) is not None:
        text = raw.decode("latin-1")
        if note.type in _STRINGS:
            setattr(notes, _STRINGS[note.type], text[:STORED_STRING_LENGTH])
        elif note.type in _TEXTS:
            _TEXTS[note.type](notes, text)


def _pae_mode(notes: XenNotes, text: str) -> None:
    # Exactly "yes" is understood; a kernel that can do both may say so in any words around "bimodal".
    if text == "yes":
        notes.pae_mode = PaeMode.EXTENDED_CR3
    if "bimodal" in text:
        notes.pae_mode = PaeMode.BIMODAL


def _bsd_symtab(notes: XenNotes, text: str) -> None:
    notes.bsd_symtab = notes.bsd_symtab or text == "yes"


def _features(notes: XenNotes, text: str) -> None:
    try:
        supported, required = parse_features(text)
    except UnknownRequiredFeature as unknown:
        raise KernelRefused(
            "Could not construct domain 0",
            f"it requires the feature {unknown.args[0]!r}, which Xen does not know; make it optional",
        ) from None
    notes.features_supported |= supported
    notes.features_required |= required


_TEXTS: Mapping[int, Callable[[XenNotes, str], None]] = {
    elfnote.XEN_ELFNOTE_PAE_MODE: _pae_mode,
    elfnote.XEN_ELFNOTE_BSD_SYMTAB: _bsd_symtab,
    elfnote.XEN_ELFNOTE_FEATURES: _features,
}
