"""Kernels that start without paging, for tests of how they are read and laid out."""

import struct

from pvemu.abi.elfnote import XEN_ELFNOTE_PHYS32_ENTRY
from pvemu.toolstack.guest_kind import KernelFile, read_kernel
from pvemu.toolstack.hvm_kernel import HvmKernel, load_hvm_kernel
from tests.elf_builder import Elf, Load, note
from tests.toolstack.kernel_variants import base_notes, packed

BASE = 0x100000
CODE = b"\xf4" * 64
MAGIC = 0x1BADB002
ADDRESSES = 1 << 16


def pvh_note(entry: int) -> bytes:
    return note(XEN_ELFNOTE_PHYS32_ENTRY, entry)


def pv_notes() -> bytes:
    """Those of a PV kernel, without which it is none."""
    return packed(base_notes(0))


def header(flags: int = 3, *addresses: int) -> bytes:
    """A Multiboot header."""
    return struct.pack(f"<{3 + len(addresses)}I", MAGIC, flags, -(MAGIC + flags) & 0xFFFFFFFF, *addresses)


def elf(*, notes: bytes = b"", code: bytes = CODE, paddr: int = BASE, entry: int | None = None) -> Elf:
    return Elf(paddr if entry is None else entry, [Load(paddr, code)], notes=notes, note_segment=bool(notes))


def file(built: Elf) -> KernelFile:
    return read_kernel(built.build())


def pvh_kernel(*loads: Load, entry: int = BASE) -> HvmKernel:
    loaded = list(loads) or [Load(BASE, CODE)]
    return load_hvm_kernel(read_kernel(Elf(0, loaded, notes=pvh_note(entry)).build()))
