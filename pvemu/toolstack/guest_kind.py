"""The kinds of guests (PV, PVH, HVM): how a kernel's file decides between them, and how each is paged."""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from pvemu.abi.errors import PvemuError
from pvemu.toolstack.compressed_kernel import unpack_kernel
from pvemu.toolstack.elf_image import ElfImage
from pvemu.toolstack.elf_notes import read_xen_notes
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.multiboot import MultibootHeader, find_multiboot_header
from pvemu.toolstack.xen_notes import XenNotes


class GuestKind(Enum):
    """What a guest is (xl.cfg: type)."""

    PV = "pv"
    """It knows Xen, runs in ring 1, and its page tables are the real ones, checked by the hypervisor."""
    PVH = "pvh"
    """It has rings 0 to 3 and page tables of its own, and finds Xen's devices instead of a PC's."""
    HVM = "hvm"
    """As PVH, in a small PC: serial port, timers, interrupt controllers."""


class Paging(Enum):
    """How a guest's memory is kept apart from that of others (xl.cfg: hap)."""

    DIRECT = "direct"
    """The guest's tables are used as they are, after each entry was looked at."""
    SHADOW = "shadow"
    """The processor walks tables that the hypervisor keeps in step with the guest's."""
    NESTED = "nested"
    """The processor walks the guest's tables, and for every address in them the hypervisor's."""


#: The first one is what a guest gets that asks for none.
_PAGING: Final[Mapping[GuestKind, tuple[Paging, ...]]] = {
    GuestKind.PV: (Paging.DIRECT, Paging.SHADOW),
    GuestKind.PVH: (Paging.NESTED, Paging.SHADOW),
    GuestKind.HVM: (Paging.NESTED, Paging.SHADOW),
}


class KernelFile(NamedTuple):
    """A kernel's file as it was read: the ELF image, what it says to Xen, and its Multiboot header."""

    image: ElfImage
    notes: XenNotes
    multiboot: MultibootHeader | None

    @property
    def is_pv(self) -> bool:
        """Whether it says how to start it as a PV guest; one that only has a PVH entry does not."""
        if self.notes.phys32_entry is not None:
            return self.notes.entry is not None
        return bool(self.notes.xen_version) or self.multiboot is None


def read_kernel(data: bytes) -> KernelFile:
    """Read a kernel's file: ELF, perhaps packed.

    Raises:
        KernelRefused: it is damaged, or requires a feature that Xen does not know.
    """
    image = ElfImage(unpack_kernel(data))
    notes = read_xen_notes(image)
    return KernelFile(image, notes, find_multiboot_header(image))


def kind_of(kernel: KernelFile, asked: GuestKind | None) -> GuestKind:
    """The kind of guest that a kernel becomes.

    A kernel that can be several is PV if nobody asks for something else; one that a bare PC's loader could
    start as well is HVM rather than PVH.

    Raises:
        KernelRefused: the kernel can't be what was asked for.
    """
    has_pvh_entry = kernel.notes.phys32_entry is not None
    if asked is None:
        if kernel.is_pv:
            return GuestKind.PV
        return GuestKind.PVH if kernel.multiboot is None else GuestKind.HVM
    if asked is GuestKind.PVH and not has_pvh_entry:
        raise KernelRefused(
            "the kernel has no PVH entry",
            "build it with the note PHYS32_ENTRY (Linux: CONFIG_PVH), or start it as another --type",
        )
    if asked is GuestKind.HVM and not has_pvh_entry and kernel.multiboot is None:
        raise KernelRefused(
            "the kernel has neither a PVH entry nor a Multiboot header",
            "there is no firmware here: build it with one of them, or start it as --type pv",
        )
    return asked


def paging_of(kind: GuestKind, asked: Paging | None) -> Paging:
    """How a guest of this kind is paged. Raises PvemuError: it can't be as was asked for."""
    possible = _PAGING[kind]
    if asked is None:
        return possible[0]
    if asked not in possible:
        names = " or ".join(paging.value for paging in possible)
        raise PvemuError(
            f"a {kind.value} guest can't have {asked.value} paging: "
            f"give --paging {names} (xl.cfg: hap), or leave it out"
        )
    return asked
