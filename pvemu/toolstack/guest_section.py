"""The section __xen_guest, in which kernels spoke to Xen before there were notes: KEY=value,KEY=value."""

import re
from collections.abc import Mapping

from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.xen_features import UnknownRequiredFeature, parse_features
from pvemu.toolstack.xen_notes import STORED_STRING_LENGTH, PaeMode, Source, XenNotes

MAX_LENGTH = 1 << 16
"""Bytes of the section that are read."""
_LONGEST_VALUE = 127
_PAGE_SHIFT = 12
_WORD_MASK = (1 << 64) - 1
_NUMBER = re.compile(r"0[xX]([0-9a-fA-F]+)|0([0-7]*)|([1-9][0-9]*)")
_BASES = (16, 8, 10)

_STRINGS: Mapping[str, str] = {
    "LOADER": "loader",
    "GUEST_OS": "guest_os",
    "GUEST_VER": "guest_version",
    "XEN_VER": "xen_version",
}
_NUMBERS: Mapping[str, str] = {
    "VIRT_BASE": "virt_base",
    "VIRT_ENTRY": "entry",
    "ELF_PADDR_OFFSET": "paddr_offset",
    "HYPERCALL_PAGE": "hypercall_page",
}


def read_guest_section(image: ElfImage, offset: int) -> XenNotes:
    """Reads the string at this file offset. Its HYPERCALL_PAGE is a page number, counted from VIRT_BASE."""
    notes = XenNotes(source=Source.GUEST_SECTION)
    raw = image.data[offset : offset + MAX_LENGTH].partition(b"\0")[0]
    for pair in raw.decode("latin-1").split(","):
        key, _, value = pair.partition("=")
        value = value[:_LONGEST_VALUE]
        if key in _STRINGS:
            setattr(notes, _STRINGS[key], value[:STORED_STRING_LENGTH])
        elif key in _NUMBERS:
            setattr(notes, _NUMBERS[key], _number(value))
        elif key == "PAE":
            notes.pae_mode = _pae_mode(value, notes.pae_mode)
        elif key == "BSD_SYMTAB":
            notes.bsd_symtab = True
        elif key == "FEATURES":
            try:
                notes.features_supported, notes.features_required = parse_features(value)
            except UnknownRequiredFeature:
                # Xen reads no further here, but does not refuse the kernel as it does for a note.
                break
    if notes.hypercall_page is not None:
        page = notes.hypercall_page << _PAGE_SHIFT
        notes.hypercall_page = page + (notes.virt_base or 0) & _WORD_MASK
    return notes


def _number(text: str) -> int:
    """C's reading of the number that `text` begins with (0x for 16, 0 for 8), 0 if it begins with none."""
    match = _NUMBER.match(text)
    if match is None:
        return 0
    digits = match[match.lastindex or 0]
    return int(digits or "0", _BASES[(match.lastindex or 1) - 1]) & _WORD_MASK


def _pae_mode(value: str, before: PaeMode) -> PaeMode:
    if value == PaeMode.EXTENDED_CR3.value:
        return PaeMode.EXTENDED_CR3
    return PaeMode.YES if value.startswith("yes") else before
