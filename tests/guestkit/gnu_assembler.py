"""GNU as as a judge of encodings: operands in its Intel syntax, and the bytes it makes of each line."""

import re
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_i386, ENUM_RELOC_TYPE_x64
from elftools.elf.relocation import RelocationSection

from guestkit.x86.operands import Far, Immediate, Memory, Operand, Register, Relative

needs_gnu_as = pytest.mark.skipif(
    shutil.which("as") is None, reason="GNU as is not installed (on Debian: apt install binutils)"
)

_KEYWORDS = {
    8: "byte ptr ",
    16: "word ptr ",
    32: "dword ptr ",
    48: "fword ptr ",
    64: "qword ptr ",
    80: "tbyte ptr ",
    128: "xmmword ptr ",
    None: "",
}


def gnu_operand(operand: Operand, end: int) -> str:
    """One operand in Intel syntax; ``end`` is the address after the instruction, the code starting at 0."""
    match operand:
        case Register(name=name):
            return re.sub(r"^st(\d)$", r"st(\1)", name)
        case Immediate(value=value):
            return f"{value.number:#x}"
        case Relative(value=value):
            return f"line_0{value.number:+#x}"
        case Far(selector=selector, offset=offset):
            return f"{selector.number:#x}:{offset.number:#x}"
        case Memory():
            keyword = _KEYWORDS[(operand.size or 32) + 16 if operand.far else operand.size]
            return keyword + _gnu_address(operand, end)


def _gnu_address(memory: Memory, end: int) -> str:
    segment = "" if memory.segment is None else f"{memory.segment.name}:"
    number = memory.displacement.number
    if memory.rip_relative:
        return f"{segment}[rip{number - end:+#x}]"
    terms = [] if memory.base is None else [memory.base.name]
    if memory.index is not None:
        scale = "" if memory.index.size == 16 else f"*{memory.scale}"
        terms.append(memory.index.name + scale)
    if not terms:
        return f"{segment or 'ds:'}{number:#x}"
    return f"{segment}[{'+'.join(terms)}{number:+#x}]"


# Bytes and meaning of the relocations of the two ABIs, by name.
_RELOCATIONS = {
    "R_386_8": (1, "absolute"),
    "R_386_32": (4, "absolute"),
    "R_386_PC32": (4, "relative"),
    "R_386_PLT32": (4, "relative"),
    "R_X86_64_32": (4, "absolute"),
    "R_X86_64_32S": (4, "signed"),
    "R_X86_64_64": (8, "absolute"),
    "R_X86_64_PC32": (4, "relative"),
    "R_X86_64_PLT32": (4, "relative"),
}


def assemble(bits: int, lines: Sequence[str], directory: Path) -> list[bytes]:
    """Assemble lines of Intel syntax; the bytes of each. Address 0 is ``line_0``."""
    elf = _object(bits, lines, directory)
    code = elf.get_section_by_name(".text").data()
    places = _places(elf, len(lines))
    return [code[start:end] for start, end in pairwise(places)]


def relocations(bits: int, lines: Sequence[str], directory: Path) -> list[list[tuple[int, int, str]]]:
    """Assemble lines of Intel syntax; (offset into the line's bytes, bytes, kind) of their relocations."""
    elf = _object(bits, lines, directory)
    places = _places(elf, len(lines))
    section = next(section for section in elf.iter_sections() if isinstance(section, RelocationSection))
    numbers = ENUM_RELOC_TYPE_i386 if bits == 32 else ENUM_RELOC_TYPE_x64
    names = {number: name for name, number in numbers.items()}
    found: list[list[tuple[int, int, str]]] = [[] for _ in lines]
    for relocation in section.iter_relocations():
        line = bisect_right(places, relocation["r_offset"]) - 1
        size, kind = _RELOCATIONS[names[relocation["r_info_type"]]]
        found[line].append((relocation["r_offset"] - places[line], size, kind))
    return found


def link(bits: int, lines: Sequence[str], directory: Path) -> list[bytes]:
    """Assemble lines of Intel syntax and link them at address 0; the final bytes of each."""
    elf = _object(bits, lines, directory)
    places = _places(elf, len(lines))
    target = directory / "lines.elf"
    emulation = "elf_i386" if bits == 32 else "elf_x86_64"
    source = str(directory / "lines.o")
    subprocess.run(["ld", "-m", emulation, "-Ttext=0", "-e", "0", "-o", str(target), source], check=True)
    code = ELFFile(BytesIO(target.read_bytes())).get_section_by_name(".text").data()
    return [code[start:end] for start, end in pairwise(places)]


def _object(bits: int, lines: Sequence[str], directory: Path) -> ELFFile:
    text = [".intel_syntax noprefix", f".code{bits}"]
    for number, line in enumerate(lines):
        text += [f"line_{number}:", line]
    source, target = directory / "lines.s", directory / "lines.o"
    source.write_text("\n".join([*text, f"line_{len(lines)}:", ""]))
    command = ["as", f"--{bits}", "-o", str(target), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        messages = re.findall(r"s:(\d+): (Error.*)", result.stderr)
        refused = [f"{text[int(number) - 1]:40} {message}" for number, message in messages]
        pytest.fail("GNU as refuses:\n" + "\n".join(refused), pytrace=False)
    return ELFFile(BytesIO(target.read_bytes()))


def _places(elf: ELFFile, count: int) -> list[int]:
    """Where each line begins, and at last where the code ends."""
    symbols = {
        symbol.name: symbol["st_value"] for symbol in elf.get_section_by_name(".symtab").iter_symbols()
    }
    return [symbols[f"line_{number}"] for number in range(count + 1)]
