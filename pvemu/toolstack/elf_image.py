"""Reading an ELF file of any quality: every read is bounded by the file, every fault is a KernelRefused.

The structures are pyelftools'; the walk over them is ours, so that a damaged file meets our checks first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.structs import ELFStructs

from pvemu.toolstack.errors import KernelRefused

MAX_STRING_LENGTH = 4096
"""Bytes; Xen's loader gives up on longer strings too."""
_SMALLEST_ELF = 52
_ELF_MAGIC = b"\x7fELF"
_CLASS_AT, _DATA_AT = 4, 5
_CLASS_BITS = {1: 32, 2: 64}
_LITTLE_ENDIAN = 1
_PERMISSIONS = 7
_DAMAGED = "the file is cut short or damaged, copy or build it again"


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    """One program header; `type` is its name (PT_LOAD) or, if it has none, its number."""

    type: str | int
    offset: int
    paddr: int
    file_size: int
    memory_size: int
    flags: int
    vaddr: int

    @property
    def loadable(self) -> bool:
        """Whether Xen loads it: a PT_LOAD that may be read, written or executed."""
        return self.type == "PT_LOAD" and self.flags & _PERMISSIONS != 0


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """The section header at file offset `at`; `type` is its name (SHT_NOTE) or, lacking one, its number."""

    at: int
    name: bytes
    type: str | int
    offset: int
    size: int
    link: int


class ElfImage:
    """An ELF file whose header tables are known to lie within it."""

    def __init__(self, data: bytes) -> None:
        """Reads the headers. Raises KernelRefused for a file that is not ELF, or big-endian, or damaged."""
        if len(data) < _SMALLEST_ELF or not data.startswith(_ELF_MAGIC):
            raise KernelRefused(
                "ELF: not an ELF binary", "give a kernel in ELF format (vmlinux, a .elf file)"
            )
        if data[_CLASS_AT] not in _CLASS_BITS or data[_DATA_AT] != _LITTLE_ENDIAN:
            raise KernelRefused(
                "Mismatch between Xen and DOM0 kernel", "give a little-endian ELF file, 32-bit PAE or x86-64"
            )
        self.data = data
        self._stream = BytesIO(data)
        self.bits = _CLASS_BITS[data[_CLASS_AT]]
        self._structs: Any = ELFStructs(little_endian=True, elfclass=self.bits)
        self._structs.create_basic_structs()
        self._structs.create_advanced_structs()
        self._header = self._parse(self._structs.Elf_Ehdr, 0, "header")
        self.machine: str | int = self._header.e_machine
        self.entry: int = self._header.e_entry
        self._check_table("phdr", self._structs.Elf_Phdr)
        self._check_table("shdr", self._structs.Elf_Shdr)
        self.program_headers = tuple(self._program_headers())

    def number(self, offset: int, size: int) -> int:
        """The little-endian number of `size` bytes at file offset `offset`; 0 if it is not in the file."""
        if offset + size > len(self.data):
            return 0
        return int.from_bytes(self.data[offset : offset + size], "little")

    def string(self, offset: int) -> bytes | None:
        """The NUL-terminated string at `offset`; None if it has no end in the file or is too long."""
        end = self.data.find(b"\0", offset, offset + MAX_STRING_LENGTH + 1)
        return None if end < 0 else self.data[offset:end]

    def sections(self) -> Iterator[SectionHeader]:
        """The section headers, in order."""
        header = self._header
        names = None
        if header.e_shstrndx < header.e_shnum:
            names = self._section(header.e_shstrndx).sh_offset
        for index in range(header.e_shnum):
            at = header.e_shoff + header.e_shentsize * index
            entry = self._section(index)
            name = b"" if names is None else self.string(names + entry.sh_name) or b""
            yield SectionHeader(at, name, entry.sh_type, entry.sh_offset, entry.sh_size, entry.sh_link)

    def _program_headers(self) -> Iterator[ProgramHeader]:
        for index in range(self._header.e_phnum):
            at = self._header.e_phoff + self._header.e_phentsize * index
            entry = self._parse(self._structs.Elf_Phdr, at, "program header")
            yield ProgramHeader(
                entry.p_type,
                entry.p_offset,
                entry.p_paddr,
                entry.p_filesz,
                entry.p_memsz,
                entry.p_flags,
                entry.p_vaddr,
            )

    def _section(self, index: int) -> Any:
        at = self._header.e_shoff + self._header.e_shentsize * index
        return self._parse(self._structs.Elf_Shdr, at, "section header")

    def _check_table(self, name: str, structure: Any) -> None:
        """Refuses a header table that leaves the file, or whose entries are too small to hold a header."""
        start, entry_size, count = (self._header[f"e_{name[:2]}{part}"] for part in ("off", "entsize", "num"))
        end = start + entry_size * count
        if end > len(self.data):
            raise KernelRefused(f"ELF: {name} overflow (off {end:x} > size {len(self.data):x})", _DAMAGED)
        if count and entry_size < structure.sizeof():
            raise KernelRefused(f"ELF: {name} entries of {entry_size} bytes", _DAMAGED)

    def _parse(self, structure: Any, offset: int, what: str) -> Any:
        # Construct's streams fail with other exceptions than ELFError only beyond what a file can hold.
        if offset + structure.sizeof() > len(self.data):
            raise _cut_short(what)
        try:
            return struct_parse(structure, self._stream, stream_pos=offset)
        except ELFError:
            raise _cut_short(what) from None


def _cut_short(what: str) -> KernelRefused:
    return KernelRefused(f"ELF: {what} runs past the end of the file", _DAMAGED)
