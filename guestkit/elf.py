"""Writes an ELF file: loadable segments, the notes, and the section headers and symbols that tools like."""

import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import NamedTuple

from guestkit.program import PAGE

_ET_EXEC, _EM_386, _EM_X86_64 = 2, 3, 62
_PT_LOAD, _PT_NOTE = 1, 4
_PF = {"r": 4, "w": 2, "x": 1}
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_NOTE, _SHT_NOBITS = 1, 2, 3, 7, 8
_SHF = {"w": 1, "r": 2, "x": 4}  # SHF_ALLOC stands for readable: it is in memory at all
_SHN_ABS = 0xFFF1
_STB_LOCAL, _STB_GLOBAL = 0, 1
_STT_NOTYPE = 0


class ElfSection(NamedTuple):
    """A section in memory: ``data`` is None for one that is not in the file."""

    name: str
    address: int
    size: int
    data: bytes | None
    flags: str
    alignment: int


class ElfSymbol(NamedTuple):
    """A symbol; ``section`` is an index into the sections in memory, None for a plain number."""

    name: str
    value: int
    section: int | None
    is_local: bool


@dataclass(frozen=True)
class ElfSegment:
    """Neighbouring sections (by index) with the same access, to be loaded at ``physical``."""

    address: int
    physical: int
    file_size: int
    memory_size: int
    flags: str
    sections: tuple[int, ...]


class _Words(NamedTuple):
    """The layouts that differ between ELF32 and ELF64 (System V ABI, chapters 4 and 5)."""

    header: struct.Struct
    program: struct.Struct
    section: struct.Struct
    symbol: struct.Struct


_WORDS = {
    32: _Words(
        struct.Struct("<16sHHIIIIIHHHHHH"),
        struct.Struct("<IIIIIIII"),
        struct.Struct("<IIIIIIIIII"),
        struct.Struct("<IIIBBH"),
    ),
    64: _Words(
        struct.Struct("<16sHHIQQQIHHHHHH"),
        struct.Struct("<IIQQQQQQ"),
        struct.Struct("<IIQQQQIIQQ"),
        struct.Struct("<IBBHQQ"),
    ),
}


@dataclass
class _Names:
    """A string table, which begins with an empty name."""

    data: bytearray = field(default_factory=lambda: bytearray(1))

    def add(self, name: str) -> int:
        """Append a name and return where it begins."""
        at = len(self.data)
        self.data += name.encode() + b"\0"
        return at


@dataclass
class _Header:
    """One section header; ``size`` and ``offset`` are in bytes."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int = 0
    info: int = 0
    alignment: int = 1
    entry_size: int = 0


class _ElfFile:
    """The file as it grows: room for the headers at the beginning, then whatever is added, in that order."""

    def __init__(self, bits: int, program_headers: int) -> None:
        self._bits = bits
        self._mask = (1 << bits) - 1
        self._words = _WORDS[bits]
        self._programs: list[bytes] = []
        self._headers = [_Header("", 0, 0, 0, 0, 0, alignment=0)]
        self._first: tuple[int, int] | None = None
        """Offset and address of the first segment."""
        self._data = bytearray(self._words.header.size + program_headers * self._words.program.size)

    def add_segment(self, segment: ElfSegment, data: bytes) -> int:
        """Append a segment to be loaded, and return its offset.

        That is its address modulo pages. What the file holds lies in it as it does in memory: loaders that go
        by the Multiboot header rely on it.
        """
        if self._first is not None and data:
            first_offset, first_address = self._first
            self._data += bytes(first_offset + segment.address - first_address - len(self._data))
        at = self._append(data, PAGE, segment.address % PAGE)
        self._first = self._first or (at, segment.address)
        flags = sum(_PF[letter] for letter in segment.flags)
        self._add_program(_PT_LOAD, flags, at, segment.address, segment.physical, segment.memory_size, PAGE)
        return at

    def add_section(self, section: ElfSection, offset: int) -> None:
        """Describe a section that lies in a segment."""
        kind = _SHT_NOBITS if section.data is None else _SHT_PROGBITS
        flags = sum(_SHF[letter] for letter in {*section.flags, "r"})
        address = section.address & self._mask
        self._headers.append(
            _Header(section.name, kind, flags, address, offset, section.size, alignment=section.alignment)
        )

    def add_notes(self, notes: bytes) -> None:
        """Append the notes, which are not loaded: the loader reads them in the file."""
        at = self._append(notes, 4)
        self._add_program(_PT_NOTE, _PF["r"], at, 0, 0, len(notes), 4)
        self._headers.append(_Header(".note.Xen", _SHT_NOTE, 0, 0, at, len(notes), alignment=4))

    def add_symbols(self, symbols: Sequence[ElfSymbol]) -> None:
        """Append .symtab and .strtab; local symbols come first, as the standard wants it."""
        names = _Names()
        ordered = sorted(symbols, key=lambda symbol: not symbol.is_local)
        table = bytearray(self._words.symbol.size)
        for symbol in ordered:
            table += self._symbol(names.add(symbol.name), symbol)
        first_global = 1 + sum(symbol.is_local for symbol in ordered)
        at, size = self._append(table, 8), self._words.symbol.size
        next_index = len(self._headers) + 1
        self._headers.append(
            _Header(".symtab", _SHT_SYMTAB, 0, 0, at, len(table), next_index, first_global, 8, size)
        )
        self._headers.append(_Header(".strtab", _SHT_STRTAB, 0, 0, self._append(names.data), len(names.data)))

    def finish(self, entry: int) -> bytes:
        """Append the section headers, write the headers at the beginning, and return the whole file."""
        section_table = self._append_section_headers()
        words = self._words
        header = words.header.pack(
            b"\x7fELF" + bytes([1 if self._bits == 32 else 2, 1, 1]),
            _ET_EXEC,
            _EM_386 if self._bits == 32 else _EM_X86_64,
            1,
            entry & self._mask,
            words.header.size if self._programs else 0,
            section_table,
            0,
            words.header.size,
            words.program.size,
            len(self._programs),
            words.section.size,
            len(self._headers),
            len(self._headers) - 1,
        )
        beginning = header + b"".join(self._programs)
        self._data[: len(beginning)] = beginning
        return bytes(self._data)

    def _append(self, data: bytes | bytearray, alignment: int = 1, remainder: int = 0) -> int:
        """Append at the next offset that is ``remainder`` modulo ``alignment``, and return it."""
        self._data += bytes((remainder - len(self._data)) % alignment)
        at = len(self._data)
        self._data += data
        return at

    def _add_program(
        self,
        kind: int,
        flags: int,
        offset: int,
        address: int,
        physical: int,
        memory_size: int,
        alignment: int,
    ) -> None:
        """Add a program header for what was appended last; the 64-bit one has its flags elsewhere."""
        places = (offset, address & self._mask, physical & self._mask)
        sizes = (len(self._data) - offset, memory_size)
        if self._bits == 64:
            program = self._words.program.pack(kind, flags, *places, *sizes, alignment)
        else:
            program = self._words.program.pack(kind, *places, *sizes, flags, alignment)
        self._programs.append(program)

    def _symbol(self, name: int, symbol: ElfSymbol) -> bytes:
        """Return a symbol's entry, whose fields too have another order in 64 bits."""
        info = (_STB_LOCAL if symbol.is_local else _STB_GLOBAL) << 4 | _STT_NOTYPE
        section = _SHN_ABS if symbol.section is None else symbol.section + 1
        value = symbol.value & self._mask
        if self._bits == 64:
            return self._words.symbol.pack(name, info, 0, section, value, 0)
        return self._words.symbol.pack(name, value, 0, info, 0, section)

    def _append_section_headers(self) -> int:
        """Append .shstrtab and the table of section headers, and return where that begins."""
        names = _Names()
        self._headers.append(_Header(".shstrtab", _SHT_STRTAB, 0, 0, 0, 0))
        places = [names.add(header.name) if header.name else 0 for header in self._headers]
        self._headers[-1].offset = self._append(names.data)
        self._headers[-1].size = len(names.data)
        table = b"".join(
            self._words.section.pack(place, *astuple(header)[1:])
            for place, header in zip(places, self._headers, strict=True)
        )
        return self._append(table, 8)


def write_elf(
    bits: int,
    entry: int,
    sections: Sequence[ElfSection],
    segments: Sequence[ElfSegment],
    notes: bytes,
    symbols: Sequence[ElfSymbol],
) -> bytes:
    """Return an ELF executable for x86 of ``bits`` bits; addresses are taken modulo that width."""
    file = _ElfFile(bits, len(segments) + bool(notes))
    offsets = [0] * len(sections)
    for segment in segments:
        at = file.add_segment(segment, segment_data(segment, sections))
        for index in segment.sections:
            offsets[index] = at + sections[index].address - segment.address
    for section, offset in zip(sections, offsets, strict=True):
        file.add_section(section, offset)
    if notes:
        file.add_notes(notes)
    file.add_symbols(symbols)
    return file.finish(entry)


def segment_data(segment: ElfSegment, sections: Sequence[ElfSection]) -> bytes:
    """Return what the file holds of a segment: its sections with the gaps between them."""
    data = bytearray()
    for index in segment.sections:
        data += bytes(sections[index].address - segment.address - len(data))
        data += sections[index].data or b""
    return bytes(data[: segment.file_size])
