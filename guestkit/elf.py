"""Writes an ELF file: loadable segments, the notes, and the section headers and symbols that tools like."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

PAGE = 4096

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
    """One section header before its place in the file is known."""

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


class _Writer:
    """The file as it grows; what is appended knows its offset."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.words = _WORDS[bits]
        self.data = bytearray()

    def append(self, data: bytes, alignment: int = 1, remainder: int = 0) -> int:
        """Append at the next offset that is ``remainder`` modulo ``alignment``, and return it."""
        self.data += bytes((remainder - len(self.data)) % alignment)
        at = len(self.data)
        self.data += data
        return at

    def program_header(
        self,
        kind: int,
        flags: int,
        offset: int,
        address: int,
        physical: int,
        sizes: tuple[int, int],
        alignment: int,
    ) -> bytes:
        """Return a program header; the 64-bit one has its flags elsewhere."""
        if self.bits == 64:
            return self.words.program.pack(kind, flags, offset, address, physical, *sizes, alignment)
        return self.words.program.pack(kind, offset, address, physical, *sizes, flags, alignment)

    def symbol(self, name: int, value: int, info: int, section: int) -> bytes:
        """Return a symbol, whose fields too have another order in 64 bits."""
        if self.bits == 64:
            return self.words.symbol.pack(name, info, 0, section, value, 0)
        return self.words.symbol.pack(name, value, 0, info, 0, section)


def write_elf(
    bits: int,
    entry: int,
    sections: Sequence[ElfSection],
    segments: Sequence[ElfSegment],
    notes: bytes,
    symbols: Sequence[ElfSymbol],
) -> bytes:
    """Return an ELF executable for x86 of ``bits`` bits; addresses are taken modulo that width."""
    writer = _Writer(bits)
    mask = (1 << bits) - 1
    headers = [_Header("", 0, 0, 0, 0, 0, alignment=0)]
    count = len(segments) + bool(notes)
    writer.append(bytes(writer.words.header.size + count * writer.words.program.size))
    program = b""
    offsets = [0] * len(sections)
    for segment in segments:
        data = bytearray()
        for index in segment.sections:
            data += bytes(sections[index].address - segment.address - len(data))
            data += sections[index].data or b""
        del data[segment.file_size :]
        at = writer.append(bytes(data), PAGE, segment.address % PAGE)
        for index in segment.sections:
            offsets[index] = at + sections[index].address - segment.address
        flags = sum(_PF[letter] for letter in segment.flags)
        sizes = (segment.file_size, segment.memory_size)
        program += writer.program_header(
            _PT_LOAD, flags, at, segment.address & mask, segment.physical & mask, sizes, PAGE
        )
    for section, offset in zip(sections, offsets, strict=True):
        kind = _SHT_NOBITS if section.data is None else _SHT_PROGBITS
        flags = sum(_SHF[letter] for letter in section.flags) | _SHF["r"]
        headers.append(
            _Header(
                section.name,
                kind,
                flags,
                section.address & mask,
                offset,
                section.size,
                alignment=section.alignment,
            )
        )
    if notes:
        at = writer.append(notes, 4)
        program += writer.program_header(_PT_NOTE, _PF["r"], at, 0, 0, (len(notes), len(notes)), 4)
        headers.append(_Header(".note.Xen", _SHT_NOTE, 0, 0, at, len(notes), alignment=4))
    _append_symbols(writer, headers, symbols, mask)
    section_table = _append_headers(writer, headers)
    header = writer.words.header.pack(
        b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1]),
        _ET_EXEC,
        _EM_386 if bits == 32 else _EM_X86_64,
        1,
        entry & mask,
        writer.words.header.size if count else 0,
        section_table,
        0,
        writer.words.header.size,
        writer.words.program.size,
        count,
        writer.words.section.size,
        len(headers),
        len(headers) - 1,
    )
    writer.data[: len(header)] = header
    writer.data[len(header) : len(header) + len(program)] = program
    return bytes(writer.data)


def _append_symbols(writer: _Writer, headers: list[_Header], symbols: Sequence[ElfSymbol], mask: int) -> None:
    """Append .symtab and .strtab; local symbols come first, as the standard wants it."""
    names = _Names()
    ordered = sorted(symbols, key=lambda symbol: not symbol.is_local)
    table = bytearray(writer.words.symbol.size)
    for symbol in ordered:
        binding = _STB_LOCAL if symbol.is_local else _STB_GLOBAL
        section = _SHN_ABS if symbol.section is None else symbol.section + 1
        info = binding << 4 | _STT_NOTYPE
        table += writer.symbol(names.add(symbol.name), symbol.value & mask, info, section)
    first_global = 1 + sum(symbol.is_local for symbol in ordered)
    at = writer.append(bytes(table), 8)
    entry_size = writer.words.symbol.size
    headers.append(
        _Header(".symtab", _SHT_SYMTAB, 0, 0, at, len(table), len(headers) + 1, first_global, 8, entry_size)
    )
    at = writer.append(bytes(names.data))
    headers.append(_Header(".strtab", _SHT_STRTAB, 0, 0, at, len(names.data)))


def _append_headers(writer: _Writer, headers: list[_Header]) -> int:
    """Append .shstrtab and the table of section headers, and return where that begins."""
    names = _Names()
    headers.append(_Header(".shstrtab", _SHT_STRTAB, 0, 0, 0, 0))
    places = [names.add(header.name) if header.name else 0 for header in headers]
    headers[-1].offset = writer.append(bytes(names.data))
    headers[-1].size = len(names.data)
    table = b"".join(
        writer.words.section.pack(
            place,
            header.kind,
            header.flags,
            header.address,
            header.offset,
            header.size,
            header.link,
            header.info,
            header.alignment,
            header.entry_size,
        )
        for place, header in zip(places, headers, strict=True)
    )
    return writer.append(table, 8)
