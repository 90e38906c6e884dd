"""The symbol table that the loader puts behind a BSD kernel which asks for it (note BSD_SYMTAB).

In memory stands first a 32-bit count of the bytes that follow; then an ELF file of three sections: none, the
symbols, and their names.
"""

import struct
from dataclasses import dataclass

from pvemu.toolstack.elf_image import ElfImage, SectionHeader

_SECTIONS = 3
_SYMBOLS, _NAMES = 1, 2
_COUNT_SIZE = 4
_ROOM_FOR_HEADER = 64
"""Bytes that the ELF header takes, the 32-bit one of 52 bytes too."""
_ROOM_FOR_SECTION = 64
"""Bytes counted for each section header when the symbols are placed, of whichever class it is."""
_EHDR = {32: struct.Struct("<16sHHIIIIIHHHHHH"), 64: struct.Struct("<16sHHIQQQIHHHHHH")}
_SHDR = {32: struct.Struct("<10I"), 64: struct.Struct("<IIQQQQIIQQ")}
_SHDR_OFFSET, _SHDR_SIZE, _SHDR_LINK = 4, 5, 6
_EV_CURRENT = 1


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """What is loaded at physical address `paddr`, and the physical address where the image then ends."""

    paddr: int
    data: bytes
    end: int


def bsd_symbol_table(image: ElfImage, image_end: int) -> SymbolTable | None:
    """The table for an image whose segments end at `image_end` (physical); None without symbols."""
    found = _symbols_and_names(image)
    if found is None:
        return None
    symbols, names = found
    align = image.bits // 8
    start = _round_up(image_end, align)
    symbols_at = (
        _round_up(start + _COUNT_SIZE + _ROOM_FOR_HEADER + _SECTIONS * _ROOM_FOR_SECTION, align) - start
    )
    names_at = _round_up(start + symbols_at + symbols.size, align) - start
    total = names_at + names.size

    shdr = _SHDR[image.bits]
    headers = bytes(shdr.size)
    for section, at, link in ((symbols, symbols_at, _NAMES), (names, names_at, None)):
        fields = list(shdr.unpack_from(image.data, section.at))
        fields[_SHDR_OFFSET] = at - _COUNT_SIZE
        if link is not None:
            fields[_SHDR_LINK] = link
        headers += shdr.pack(*fields)

    data = bytearray(total)
    data[:_COUNT_SIZE] = (total - _COUNT_SIZE).to_bytes(_COUNT_SIZE, "little")
    data[_COUNT_SIZE : _COUNT_SIZE + _EHDR[image.bits].size] = _header(image)
    sections_at = _COUNT_SIZE + _ROOM_FOR_HEADER
    data[sections_at : sections_at + len(headers)] = headers
    data[symbols_at : symbols_at + symbols.size] = image.data[symbols.offset :][: symbols.size]
    data[names_at:] = image.data[names.offset :][: names.size]
    return SymbolTable(start, bytes(data), start + max(total, _counted(shdr.size, symbols, names, align)))


def _symbols_and_names(image: ElfImage) -> tuple[SectionHeader, SectionHeader] | None:
    sections = list(image.sections())
    for section in sections[1:]:
        if section.type == "SHT_SYMTAB":
            if not 0 < section.link < len(sections):
                return None
            names = sections[section.link]
            inside = all(part.offset + part.size <= len(image.data) for part in (section, names))
            return (section, names) if inside and names.type == "SHT_STRTAB" else None
    return None


def _header(image: ElfImage) -> bytes:
    ehdr = _EHDR[image.bits]
    identity, kind, machine, _, entry, _, _, flags, *_ = ehdr.unpack_from(image.data)
    return ehdr.pack(
        identity, kind, machine, _EV_CURRENT, entry, 0, _ROOM_FOR_HEADER, flags,
        ehdr.size, 0, 0, _SHDR[image.bits].size, _SECTIONS, 0,
    )  # fmt: skip


def _counted(shdr_size: int, symbols: SectionHeader, names: SectionHeader, align: int) -> int:
    """The size that Xen reserves, which decides where the image ends and so where all else begins."""
    size = _COUNT_SIZE + _COUNT_SIZE + _ROOM_FOR_HEADER + _SECTIONS * shdr_size
    for section in (symbols, names):
        size = _round_up(_round_up(size, align) + section.size, align)
    return size


def _round_up(value: int, align: int) -> int:
    return -(-value // align) * align
