"""The record of what a kernel's file says to Xen, whichever way it says it."""

from dataclasses import dataclass
from enum import Enum

STORED_STRING_LENGTH = 15
"""Characters that Xen keeps of LOADER, GUEST_OS, GUEST_VERSION and XEN_VERSION."""


class PaeMode(Enum):
    """What a 32-bit kernel says about PAE page tables (note PAE_MODE, public elfnote.h)."""

    UNSET = "unset"
    YES = "yes"
    EXTENDED_CR3 = "yes[extended-cr3]"
    BIMODAL = "bimodal"


class Source(Enum):
    """Where the words for Xen were found; NOWHERE means that the file has no notes of any owner either."""

    NOWHERE = "nowhere"
    NOTES = "notes"
    GUEST_SECTION = "__xen_guest"


@dataclass(slots=True)
class XenNotes:
    """The notes of a kernel; None, an empty string or zero stand for a note that is absent.

    Addresses are virtual, except phys32_entry and paddr_offset. Feature sets are masks of 1 << XENFEAT_x.
    """

    source: Source = Source.NOWHERE
    entry: int | None = None
    hypercall_page: int | None = None
    virt_base: int | None = None
    init_p2m: int | None = None
    paddr_offset: int | None = None
    hv_start_low: int | None = None
    mod_start_pfn: int | None = None
    phys32_entry: int | None = None
    guest_os: str = ""
    guest_version: str = ""
    xen_version: str = ""
    loader: str = ""
    pae_mode: PaeMode = PaeMode.UNSET
    bsd_symtab: bool = False
    features_supported: int = 0
    features_required: int = 0
    declares_supported_features: bool = False
