"""What the guest directive says: the kind of guest, where it is linked, and which notes tell Xen so."""

from dataclasses import dataclass, field
from enum import Enum, auto

from guestkit.program import Place
from guestkit.syntax import Expression, Name, Text
from guestkit.target import Target
from pvemu.abi import elfnote

# A 64-bit PV kernel lies in the upper 2 GiB, where 32-bit displacements reach it. HVM begins without paging.
DEFAULT_VIRT_BASE = {
    Target.PV32: 0xC0000000,
    Target.PV64: 0xFFFFFFFF80000000,
    Target.HVM32: 0,
    Target.HVM64: 0,
}
DEFAULT_PADDR = 0x100000


class NoteKind(Enum):
    """What a note holds: a string, or a number as wide as the guest's words."""

    STRING = auto()
    NUMBER = auto()


@dataclass(frozen=True)
class NoteKey:
    """An option of the guest directive that becomes a note."""

    number: int
    kind: NoteKind


# In the order in which the notes are written.
NOTE_KEYS: dict[str, NoteKey] = {
    "guest_os": NoteKey(elfnote.XEN_ELFNOTE_GUEST_OS, NoteKind.STRING),
    "guest_version": NoteKey(elfnote.XEN_ELFNOTE_GUEST_VERSION, NoteKind.STRING),
    "xen_version": NoteKey(elfnote.XEN_ELFNOTE_XEN_VERSION, NoteKind.STRING),
    "loader": NoteKey(elfnote.XEN_ELFNOTE_LOADER, NoteKind.STRING),
    "pae": NoteKey(elfnote.XEN_ELFNOTE_PAE_MODE, NoteKind.STRING),
    "features": NoteKey(elfnote.XEN_ELFNOTE_FEATURES, NoteKind.STRING),
    "bsd_symtab": NoteKey(elfnote.XEN_ELFNOTE_BSD_SYMTAB, NoteKind.STRING),
    "virt_base": NoteKey(elfnote.XEN_ELFNOTE_VIRT_BASE, NoteKind.NUMBER),
    "paddr_offset": NoteKey(elfnote.XEN_ELFNOTE_PADDR_OFFSET, NoteKind.NUMBER),
    "entry": NoteKey(elfnote.XEN_ELFNOTE_ENTRY, NoteKind.NUMBER),
    "hypercall_page": NoteKey(elfnote.XEN_ELFNOTE_HYPERCALL_PAGE, NoteKind.NUMBER),
    "hv_start_low": NoteKey(elfnote.XEN_ELFNOTE_HV_START_LOW, NoteKind.NUMBER),
    "suspend_cancel": NoteKey(elfnote.XEN_ELFNOTE_SUSPEND_CANCEL, NoteKind.NUMBER),
    "init_p2m": NoteKey(elfnote.XEN_ELFNOTE_INIT_P2M, NoteKind.NUMBER),
    "mod_start_pfn": NoteKey(elfnote.XEN_ELFNOTE_MOD_START_PFN, NoteKind.NUMBER),
    "supported_features": NoteKey(elfnote.XEN_ELFNOTE_SUPPORTED_FEATURES, NoteKind.NUMBER),
    "phys32_entry": NoteKey(elfnote.XEN_ELFNOTE_PHYS32_ENTRY, NoteKind.NUMBER),
}
PLAIN_KEYS = ("target", "bits", "paddr", "multiboot")
"""Options that are no notes: they say how the kernel is linked."""
UNTOLD_KEYS = frozenset({"virt_base", "entry", "hypercall_page"})
"""Options of which no note tells when the guest is HVM: it begins without paging, and finds Xen by itself."""


@dataclass
class GuestInfo:
    """The guest directive with its options checked; ``virt_base`` to ``paddr_offset`` are in bytes."""

    target: Target
    virt_base: int
    paddr: int
    paddr_offset: int
    place: Place
    column: int
    notes: dict[str, Expression] = field(default_factory=dict)
    """What each note holds; one that is left out is missing."""
    wants_hypercall_page: bool = True
    """Whether there is a hypercall page; without one the kernel uses the bare trap or syscall instruction."""
    wants_entry: bool = True
    wants_phys32_entry: bool = False
    """Whether the note of the PVH entry is wanted when no option says what is in it."""

    @property
    def bits(self) -> int:
        """Bits of the guest's words."""
        return self.target.bits

    @property
    def physical_offset(self) -> int:
        """What p_paddr has less than the virtual address."""
        return self.virt_base - self.paddr_offset


def is_none(value: Expression | None) -> bool:
    """Whether an option says ``none``: leave this out."""
    return isinstance(value, Name) and value.name == "none"


_DEFAULT_TEXTS = {
    Target.PV32: {"xen_version": b"xen-3.0", "loader": b"generic", "pae": b"yes"},
    Target.PV64: {"xen_version": b"xen-3.0", "loader": b"generic"},
    Target.HVM32: {},
    Target.HVM64: {},
}


def default_notes(name: Text, target: Target) -> dict[str, Expression]:
    """Return what the notes hold that a guest has without asking for them.

    A 32-bit PV guest must say that it can do PAE (Xen refuses it otherwise), a 64-bit one needs no such note.
    """
    texts: dict[str, bytes] = _DEFAULT_TEXTS[target]
    notes: dict[str, Expression] = {"guest_os": name}
    notes |= {key: Text(data, name.column) for key, data in texts.items()}
    return notes
