"""The finished program: its bytes, segments and symbols, and the ELF file made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from guestkit.assembly import Assembly
from guestkit.elf import ElfSection, ElfSegment, ElfSymbol, segment_data, write_elf
from guestkit.errors import Mistake
from guestkit.listing import ListedLine, format_listing
from guestkit.notes import build_notes, file_entry
from guestkit.program import Section
from guestkit.symbols import ConstantSymbol, GivenSymbol, LabelSymbol


@dataclass(frozen=True)
class Segment:
    """A piece of memory that a loader fills: ``address`` is virtual, ``physical`` as the ELF file has it.

    ``data`` is what the file holds; the rest up to ``memory_size`` bytes is zeros. ``flags`` are of "rwx".
    """

    address: int
    physical: int
    data: bytes
    memory_size: int
    flags: str


@dataclass(frozen=True)
class Image:
    """An assembled program; sizes and addresses are in bytes."""

    bits: int
    entry: int
    segments: tuple[Segment, ...]
    sections: tuple[ElfSection, ...]
    symbols: Mapping[str, int]
    notes: bytes
    elf: bytes = field(repr=False)
    warnings: tuple[str, ...] = ()
    listed: tuple[ListedLine, ...] = field(default=(), repr=False)

    @property
    def size(self) -> int:
        """Bytes of memory from the first segment's beginning to the last one's end."""
        if not self.segments:
            return 0
        return self.segments[-1].address + self.segments[-1].memory_size - self.segments[0].address

    def section_bytes(self, name: str) -> bytes:
        """Return the contents of a section; LookupError when the program has none of that name."""
        for section in self.sections:
            if section.name == name:
                return section.data if section.data is not None else bytes(section.size)
        raise LookupError(
            f"there is no section {name}; there are {[section.name for section in self.sections]}"
        )

    def listing(self) -> str:
        """Return the source with the address and the bytes of each line beside it."""
        return format_listing(self.listed, self.bits)


def build_image(assembly: Assembly, placed: Sequence[Section]) -> Image:
    """Return the program with everything in its place; AssemblyError when a value does not fit there."""
    contents = {section: _contents(assembly, section) for section in placed}
    notes = build_notes(assembly)
    entry = 0
    try:
        entry = file_entry(assembly)
    except Mistake as mistake:
        assembly.report(mistake, assembly.guest.place.line if assembly.guest else assembly.line)
    assembly.fail_if_wrong()
    sections = [
        ElfSection(
            section.name,
            section.address,
            section.size,
            contents[section] if section.has_bytes else None,
            section.flags,
            section.alignment,
        )
        for section in placed
    ]
    present = [section for section in placed if section.size]
    loaded = [section for section in sections if section.size]
    segments = _segments(loaded, assembly.guest.physical_offset if assembly.guest else 0)
    bits = assembly.guest.bits if assembly.guest else assembly.bits
    symbols = _symbols(assembly, present)
    elf = write_elf(bits, entry, loaded, segments, notes, symbols)
    return Image(
        bits,
        entry,
        tuple(
            Segment(
                segment.address,
                segment.physical,
                segment_data(segment, loaded),
                segment.memory_size,
                segment.flags,
            )
            for segment in segments
        ),
        tuple(sections),
        {symbol.name: symbol.value for symbol in symbols},
        notes,
        elf,
        tuple(str(warning) for warning in assembly.warnings),
        tuple(_listed(assembly, contents)),
    )


def _contents(assembly: Assembly, section: Section) -> bytes:
    parts = []
    for fragment in section.fragments if section.has_bytes else ():
        try:
            data = fragment.emit(assembly.evaluator)
            assert len(data) == fragment.size, "a fragment has another size than it was laid out with"
            parts.append(data)
        except Mistake as mistake:
            assembly.report(mistake, fragment.place.line)
    return b"".join(parts)


def _segments(sections: Sequence[ElfSection], physical_offset: int) -> list[ElfSegment]:
    """Return one segment for each run of sections with the same access."""
    runs: list[list[int]] = []
    for index, section in enumerate(sections):
        if runs and sections[runs[-1][-1]].flags == section.flags:
            runs[-1].append(index)
        else:
            runs.append([index])
    segments = []
    for run in runs:
        first = sections[run[0]].address
        ends = [sections[index].address + sections[index].size - first for index in run]
        filled = [end for end, index in zip(ends, run, strict=True) if sections[index].data is not None]
        physical = first - physical_offset
        segments.append(
            ElfSegment(first, physical, max(filled, default=0), ends[-1], sections[run[0]].flags, tuple(run))
        )
    return segments


def _symbols(assembly: Assembly, sections: Sequence[Section]) -> list[ElfSymbol]:
    """Return what a debugger should know: all labels and constants but those of single macro expansions."""
    symbols = []
    indices = {section: index for index, section in enumerate(sections)}
    for name, symbol in assembly.symbols.items():
        if "@" in name:
            continue
        match symbol:
            case LabelSymbol(place=place):
                symbols.append(ElfSymbol(name, place.here, indices.get(place.section), "." in name))
            case ConstantSymbol(expression=expression, place=place):
                symbols.append(
                    ElfSymbol(name, assembly.evaluator.number(expression, place), None, is_local=True)
                )
            case GivenSymbol(number=number):
                symbols.append(ElfSymbol(name, number, None, is_local=True))
            case _:
                pass
    return symbols


def _listed(assembly: Assembly, contents: Mapping[Section, bytes]) -> list[ListedLine]:
    lines = []
    for line, fragments in assembly.listed[1:]:
        filled = [fragment for fragment in fragments if fragment.size]
        section = filled[0].place.section if filled else None
        if section is None:
            lines.append(ListedLine(line, None, b"", 0))
            continue
        start = filled[0].offset
        size = filled[-1].offset + filled[-1].size - start
        data = contents[section][start : start + size] if section.has_bytes else b""
        lines.append(ListedLine(line, section.address + start, data, size))
    return lines
