"""Reading a guest from a file: a kernel as it is, or source text that guestkit makes one of."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from guestkit import AssemblyError, assemble
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.compressed_kernel import MAX_UNPACKED_SIZE
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_kind import GuestKind, kind_of, read_kernel

_ELF_MAGIC: Final = b"\x7fELF"
#: A line that every source has, itself or in a file that it includes.
_IN_SOURCE: Final = re.compile(r"^\s*(guest|include)\b", re.MULTILINE)
_WITHOUT_PV_ENTRY: Final = (GuestKind.PVH, GuestKind.HVM)
_TARGET_WITHOUT_PV_ENTRY: Final = "hvm32"
#: For a guest without a serial port: guestkit's library then writes to Xen's console.
_DEFINED_FOR_PVH: Final = {"XEN_CONSOLE": 1}
_KINDS: Final = "give an ELF kernel, a compressed one, or guestkit source"


class GuestFile(NamedTuple):
    """A guest that was read: the kernel's bytes, and what guestkit had to say about its source."""

    image: bytes
    warnings: tuple[str, ...] = ()


def read_guest(path: Path, kind: GuestKind | None = None) -> GuestFile:
    """The guest in a file: what it holds decides what it is, not its name.

    Files that a source includes are looked for beside it. Source that does not say what it is for is
    assembled for the kind of guest that is asked for.

    Raises:
        PvemuError: the file can't be read, or is empty or too large.
        AssemblyError: it is source text with mistakes.
    """
    return guest_from(path, read_file(path), kind)


def guest_from(path: Path, data: bytes, kind: GuestKind | None = None) -> GuestFile:
    """The guest in a file that was read.

    Raises:
        AssemblyError: it is source text with mistakes. PvemuError: it is another sort of text.
    """
    text = as_source(data)
    if text is None:
        return GuestFile(data)
    defines = _DEFINED_FOR_PVH if kind is GuestKind.PVH else None
    try:
        assembled = assemble(text, filename=str(path), defines=defines)
    except AssemblyError as error:
        if len(error.problems) > 1 and _IN_SOURCE.search(text) is None:
            raise PvemuError(f"{path} is text, but no guestkit source: {_KINDS}") from error
        raise
    if kind in _WITHOUT_PV_ENTRY and not _can_be(assembled.elf, kind):
        assembled = assemble(text, filename=str(path), defines=defines, target=_TARGET_WITHOUT_PV_ENTRY)
    return GuestFile(assembled.elf, assembled.warnings)


def _can_be(image: bytes, kind: GuestKind | None) -> bool:
    try:
        kind_of(read_kernel(image), kind)
    except KernelRefused:
        return False
    return True


def read_file(path: Path) -> bytes:
    """The bytes of a guest's file. Raises PvemuError: it can't be read, or is empty or too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_UNPACKED_SIZE + 1)
    except OSError as error:
        raise PvemuError(f"{path} can't be read ({error.strerror}): {_KINDS}") from error
    if not data:
        raise PvemuError(f"{path} is empty: {_KINDS}")
    if len(data) > MAX_UNPACKED_SIZE:
        raise PvemuError(f"{path} is larger than {MAX_UNPACKED_SIZE >> 20} MiB: {_KINDS}")
    return data


def as_source(data: bytes) -> str | None:
    """The text, if it can be source: UTF-8 without NUL, and not the beginning of an ELF file."""
    if data.startswith(_ELF_MAGIC) or b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
