"""A PV kernel as the domain builder sees it: what to put where, and where to begin."""

from dataclasses import dataclass
from typing import NamedTuple

from pvemu.abi.arch_x86 import HYPERVISOR_VIRT_START_PAE
from pvemu.toolstack.bsd_symtab import SymbolTable, bsd_symbol_table
from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_kind import KernelFile, read_kernel
from pvemu.toolstack.image_segments import WORD_MASK, Segment, image_segments, loaded_range
from pvemu.toolstack.xen_notes import PaeMode, Source, XenNotes

_L2_COVERS = 2 << 20
_MACHINES = {32: "EM_386", 64: "EM_X86_64"}
_PV_REMEDY = "build it as a Xen PV kernel, with the notes XEN_VERSION and LOADER (Linux: CONFIG_XEN_PV)"
_PVH_REMEDY = (
    "it has a PVH entry but no PV entry (Linux without CONFIG_XEN_PV),"
    " use it in a domain of type pvh (--type pvh)"
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that passed every check which does not depend on the domain it is for.

    `bits` is 32 (a PAE kernel) or 64; `virt_kstart` to `virt_kend` is the image. Addresses are virtual,
    except phys32_entry and paddr_offset; feature sets are masks of 1 << XENFEAT_x (public features.h).
    """

    bits: int
    machine: str
    entry: int
    virt_base: int
    paddr_offset: int
    virt_kstart: int
    virt_kend: int
    hypercall_page: int | None
    hv_start_low: int | None
    init_p2m: int | None
    phys32_entry: int | None
    pae_mode: PaeMode
    features_supported: int
    features_required: int
    declares_supported_features: bool
    module_by_pfn: bool
    guest_os: str
    guest_version: str
    loader: str
    xen_version: str
    segments: tuple[Segment, ...]


class _Addresses(NamedTuple):
    """The image in virtual addresses; `offset` is what a physical address of the file must be moved by."""

    virt_base: int
    paddr_offset: int
    offset: int
    start: int
    end: int
    entry: int


def load_kernel(data: bytes) -> Kernel:
    """Reads a kernel file: ELF, perhaps packed with gzip or as a bzImage.

    Raises KernelRefused if it is damaged or no PV kernel, with Xen's own reason where Xen has one.
    """
    return load_pv_kernel(read_kernel(data))


def load_pv_kernel(file: KernelFile) -> Kernel:
    """The PV kernel in a file. Raises KernelRefused, as load_kernel does."""
    image, notes = file.image, file.notes
    _check_words(image, notes)
    symbols = bsd_symbol_table(image, loaded_range(image)[1]) if notes.bsd_symtab else None
    addresses = _addresses(image, notes, symbols)
    _check_mode(image, notes)
    segments = image_segments(image, offset=addresses.offset, size=addresses.end - addresses.start)
    if symbols is not None:
        segments.append(
            Segment(symbols.paddr + addresses.offset & WORD_MASK, symbols.data, len(symbols.data))
        )
    return Kernel(
        bits=image.bits,
        machine=str(image.machine),
        entry=addresses.entry,
        virt_base=addresses.virt_base,
        paddr_offset=addresses.paddr_offset,
        virt_kstart=addresses.start,
        virt_kend=addresses.end,
        hypercall_page=notes.hypercall_page,
        hv_start_low=notes.hv_start_low,
        init_p2m=notes.init_p2m,
        phys32_entry=notes.phys32_entry,
        pae_mode=notes.pae_mode,
        features_supported=notes.features_supported,
        features_required=notes.features_required,
        declares_supported_features=notes.declares_supported_features,
        module_by_pfn=bool(notes.mod_start_pfn),
        guest_os=notes.guest_os,
        guest_version=notes.guest_version,
        loader=notes.loader,
        xen_version=notes.xen_version,
        segments=tuple(segments),
    )


def _check_words(image: ElfImage, notes: XenNotes) -> None:
    """The kernel must name the interface it was built for, or it is no PV kernel at all."""
    remedy = _remedy(notes, _PV_REMEDY)
    if notes.source is Source.NOWHERE and image.machine in _MACHINES.values():
        raise KernelRefused("ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found", remedy)
    if not notes.loader.startswith("generic") and not notes.guest_os.startswith("linux"):
        raise KernelRefused(
            "ERROR: Will only load images built for the generic loader or Linux images"
            f" (Not '{_one_line(notes.loader)}' and '{_one_line(notes.guest_os)}') or with PHYS32_ENTRY set",
            remedy,
        )
    if not notes.xen_version.startswith("xen-3.0"):
        raise KernelRefused(
            f"ERROR: Xen will only load images built for Xen v3.0 (Not '{_one_line(notes.xen_version)}')",
            "set the note XEN_VERSION to xen-3.0",
        )


def _addresses(image: ElfImage, notes: XenNotes, symbols: SymbolTable | None) -> _Addresses:
    """Where the image lies, by the arithmetic of Xen's loader: 64 bits wide, whatever the kernel is."""
    if notes.paddr_offset is not None and notes.virt_base is None:
        raise KernelRefused(
            "ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset", _remedy(notes, "add the note VIRT_BASE")
        )
    virt_base = notes.virt_base or 0
    # Kernels of the time of __xen_guest had virtual addresses in their physical address fields.
    default_offset = virt_base if notes.source is Source.GUEST_SECTION else 0
    paddr_offset = default_offset if notes.paddr_offset is None else notes.paddr_offset
    offset = virt_base - paddr_offset
    lowest, highest = loaded_range(image)
    start = lowest + offset & WORD_MASK
    end = (highest if symbols is None else symbols.end) + offset & WORD_MASK
    entry = image.entry if notes.entry is None else notes.entry
    if not virt_base <= start <= entry <= end:
        raise KernelRefused(
            "ERROR: ELF start or entries are out of bounds",
            _remedy(
                notes,
                f"VIRT_BASE {virt_base:#x}, image {start:#x} to {end:#x} and entry {entry:#x} do not fit,"
                " check VIRT_BASE, PADDR_OFFSET and the link addresses",
            ),
        )
    if notes.init_p2m is not None and start <= notes.init_p2m < end:
        raise KernelRefused("ERROR: P->M table base is out of bounds", "move INIT_P2M out of the image")
    return _Addresses(virt_base, paddr_offset, offset, start, end, entry)


def _check_mode(image: ElfImage, notes: XenNotes) -> None:
    """Xen runs 32-bit PV kernels with PAE page tables and 64-bit ones, and nothing else."""
    is_pae = image.bits == 64 or notes.pae_mode is not PaeMode.UNSET
    if image.machine != _MACHINES[image.bits] or not is_pae:
        raise KernelRefused(
            "Mismatch between Xen and DOM0 kernel",
            _remedy(
                notes,
                "it must be an x86-64 ELF file, or an i386 one with the note PAE_MODE set to yes or bimodal",
            ),
        )
    low = notes.hv_start_low
    if (
        image.bits == 32
        and low is not None
        and -(-low // _L2_COVERS) * _L2_COVERS > HYPERVISOR_VIRT_START_PAE
    ):
        raise KernelRefused(
            "Dom0 expects too high a hypervisor start address",
            f"set the note HV_START_LOW to {HYPERVISOR_VIRT_START_PAE:#x} or less",
        )


def _remedy(notes: XenNotes, remedy: str) -> str:
    """What to do about a kernel; one built for PVH alone needs another kind of domain."""
    return _PVH_REMEDY if notes.phys32_entry is not None and notes.entry is None else remedy


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
