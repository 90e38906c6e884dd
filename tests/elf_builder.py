"""A small ELF writer for kernels with exactly the headers, notes and faults that a test wants.

It is written with `struct` from the ELF specification and shares nothing with the reader under test.
"""

import struct
from dataclasses import dataclass, field

EM_386, EM_X86_64, EM_ARM = 3, 62, 40
PT_LOAD, PT_NOTE = 1, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 1, 2, 3, 7
READ_WRITE_EXECUTE = 7
EHDR = {32: "<16sHHIIIIIHHHHHH", 64: "<16sHHIQQQIHHHHHH"}
SHDR = {32: "<10I", 64: "<IIQQQQIIQQ"}
PAGE_SIZE = 4096


def note(kind: int, value: int | str | bytes, *, owner: bytes = b"Xen\0", size: int = 4) -> bytes:
    """One note; a number takes `size` bytes, a string its NUL."""
    if isinstance(value, int):
        value = value.to_bytes(size, "little")
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    header = struct.pack("<III", len(owner), len(value), kind)
    return header + _padded(owner) + _padded(value)


@dataclass
class Load:
    """A PT_LOAD segment. Sizes are those of `data` unless given: the headers may then lie."""

    paddr: int
    data: bytes
    memory_size: int | None = None
    file_size: int | None = None
    vaddr: int | None = None
    flags: int = READ_WRITE_EXECUTE


@dataclass
class Elf:
    """An ELF file to be; `build()` writes it. `patches` are bytes put over the result at file offsets."""

    entry: int
    loads: list[Load]
    notes: bytes = b""
    note_segment: bool = True
    note_segment_size: int | None = None
    note_segment_offset: int | None = None
    note_section: bool = False
    guest_section: bytes | None = None
    symbols: bytes | None = None
    symbol_names: bytes = b"\0"
    bits: int = 32
    machine: int = EM_386
    patches: dict[int, bytes] = field(default_factory=dict)

    def build(self) -> bytes:
        """The file: header, program headers, contents, section headers."""
        segments = len(self.loads) + self.note_segment
        body = _Body(struct.calcsize(EHDR[self.bits]) + segments * (32 if self.bits == 32 else 56))
        program_headers = b""
        for load in self.loads:
            at = body.add(load.data, PAGE_SIZE)
            file_size = len(load.data) if load.file_size is None else load.file_size
            memory_size = file_size if load.memory_size is None else load.memory_size
            vaddr = load.paddr if load.vaddr is None else load.vaddr
            program_headers += self._phdr(PT_LOAD, at, vaddr, load.paddr, file_size, memory_size, load.flags)
        notes_at = body.add(self.notes, 4)
        if self.note_segment:
            size = len(self.notes) if self.note_segment_size is None else self.note_segment_size
            at = notes_at if self.note_segment_offset is None else self.note_segment_offset
            program_headers += self._phdr(PT_NOTE, at, 0, 0, size, size, 4)
        sections = self._sections(body, notes_at)
        sections_at = body.add(b"".join(sections), 8) if sections else 0
        header = struct.pack(
            EHDR[self.bits],
            b"\x7fELF" + bytes([self.bits // 32, 1, 1]) + bytes(9),
            *(2, self.machine, 1, self.entry, struct.calcsize(EHDR[self.bits]), sections_at, 0),
            *(struct.calcsize(EHDR[self.bits]), 32 if self.bits == 32 else 56, segments),
            *(struct.calcsize(SHDR[self.bits]), len(sections), len(sections) - 1 if sections else 0),
        )
        result = bytearray(header + program_headers + body.data)
        for at, replacement in self.patches.items():
            result[at : at + len(replacement)] = replacement
        return bytes(result)

    def _phdr(
        self, kind: int, offset: int, vaddr: int, paddr: int, size: int, memory: int, flags: int
    ) -> bytes:
        if self.bits == 32:
            return struct.pack("<8I", kind, offset, vaddr, paddr, size, memory, flags, PAGE_SIZE)
        return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, paddr, size, memory, PAGE_SIZE)

    def _sections(self, body: "_Body", notes_at: int) -> list[bytes]:
        """The section headers: none, or the null section, the wanted ones, and their names."""
        wanted: list[tuple[bytes, int, int, int]] = []
        if self.note_section:
            wanted.append((b".note.Xen", SHT_NOTE, notes_at, len(self.notes)))
        if self.guest_section is not None:
            text = self.guest_section
            wanted.append((b"__xen_guest", SHT_PROGBITS, body.add(text, 4), len(text)))
        if self.symbols is not None:
            wanted.append((b".symtab", SHT_SYMTAB, body.add(self.symbols, 4), len(self.symbols)))
            wanted.append((b".strtab", SHT_STRTAB, body.add(self.symbol_names, 1), len(self.symbol_names)))
        if not wanted:
            return []
        names = b"\0" + b"".join(name + b"\0" for name, *_ in wanted) + b".shstrtab\0"
        wanted.append((b".shstrtab", SHT_STRTAB, body.add(names, 1), len(names)))
        headers = [bytes(struct.calcsize(SHDR[self.bits]))]
        for index, (name, kind, at, size) in enumerate(wanted, 1):
            link, entry_size = (index + 1, 16 if self.bits == 32 else 24) if kind == SHT_SYMTAB else (0, 0)
            headers.append(
                struct.pack(
                    SHDR[self.bits], names.index(name + b"\0"), kind, 0, 0, at, size, link, 0, 1, entry_size
                )
            )
        return headers


class _Body:
    """What follows the headers; knows the file offset of everything that is added."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.data = bytearray()

    def add(self, data: bytes, align: int) -> int:
        self.data += bytes(-(self.start + len(self.data)) % align)
        at = self.start + len(self.data)
        self.data += data
        return at


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
