"""The guest directive and what it makes, as pyelftools reads it: notes, segments, symbols, trap tables."""

import io
import struct
from typing import Any

import pytest
from assembling import problems
from elftools.elf.elffile import ELFFile

from guestkit import Image, assemble
from pvemu.abi import elfnote
from pvemu.abi.arch_x86 import trap_info
from pvemu.abi.vocabulary import constants


def elf(image: Image) -> Any:
    """The image's file as pyelftools reads it."""
    return ELFFile(io.BytesIO(image.elf))


def notes(image: Image) -> dict[int, bytes]:
    """What each Xen note holds."""
    found = {}
    for segment in elf(image).iter_segments("PT_NOTE"):
        data, at = segment.data(), 0
        while at < len(data):
            name_size, size, number = struct.unpack_from("<III", data, at)
            assert (name_size, data[at + 12 : at + 16]) == (4, b"Xen\0")
            found[number] = data[at + 16 : at + 16 + size]
            at += 16 + (size + 3 & ~3)
    return found


def test_a_guest_has_the_notes_that_xen_asks_for() -> None:
    image = assemble('guest "my kernel"\nnop\nstart: nop')
    assert notes(image) == {
        elfnote.XEN_ELFNOTE_GUEST_OS: b"my kernel\0",
        elfnote.XEN_ELFNOTE_XEN_VERSION: b"xen-3.0\0",
        elfnote.XEN_ELFNOTE_LOADER: b"generic\0",
        elfnote.XEN_ELFNOTE_PAE_MODE: b"yes\0",
        elfnote.XEN_ELFNOTE_VIRT_BASE: (0xC0000000).to_bytes(4, "little"),
        elfnote.XEN_ELFNOTE_ENTRY: (0xC0100001).to_bytes(4, "little"),
        elfnote.XEN_ELFNOTE_HYPERCALL_PAGE: image.symbols["hypercall_page"].to_bytes(4, "little"),
    }


def test_a_64_bit_guest_has_wide_notes_and_none_about_pae() -> None:
    image = assemble('guest "k", bits=64\nstart: nop')
    found = notes(image)
    assert elfnote.XEN_ELFNOTE_PAE_MODE not in found
    assert found[elfnote.XEN_ELFNOTE_VIRT_BASE] == (0xFFFFFFFF80000000).to_bytes(8, "little")
    assert elf(image).header["e_machine"] == "EM_X86_64"
    assert elf(image).header["e_entry"] == 0xFFFFFFFF80100000


def test_any_note_can_be_left_out_or_given() -> None:
    image = assemble(
        'guest "k", pae=none, guest_os=none, loader="none such", features="!x|y", hv_start_low=0xF5800000,'
        " entry=begin, paddr_offset=0, virt_base=0x1000, paddr=0x2000, suspend_cancel=1\n"
        'note 18, begin\nnote 0x1000, 1, "text"\nbegin: nop'
    )

    def word(number: int) -> bytes:
        return number.to_bytes(4, "little")

    assert notes(image) == {
        elfnote.XEN_ELFNOTE_XEN_VERSION: b"xen-3.0\0",
        elfnote.XEN_ELFNOTE_LOADER: b"none such\0",
        elfnote.XEN_ELFNOTE_FEATURES: b"!x|y\0",
        elfnote.XEN_ELFNOTE_VIRT_BASE: word(0x1000),
        elfnote.XEN_ELFNOTE_PADDR_OFFSET: word(0),
        elfnote.XEN_ELFNOTE_ENTRY: word(0x3000),
        elfnote.XEN_ELFNOTE_HYPERCALL_PAGE: word(image.symbols["hypercall_page"]),
        elfnote.XEN_ELFNOTE_HV_START_LOW: word(0xF5800000),
        elfnote.XEN_ELFNOTE_SUSPEND_CANCEL: word(1),
        elfnote.XEN_ELFNOTE_PHYS32_ENTRY: word(0x3000),
        0x1000: word(1) + b"text\0",
    }


_SECTIONS = """
guest "k", paddr_offset=0x40000000
section .bss
space: reserve 0x3000
section .data
datum: dd 1
section .more
extra: dd 2
section .text
start: nop
section .rodata
fixed: dd 3
section .text.late
late: nop
"""


def test_sections_come_in_the_order_of_their_kinds_on_pages_of_their_own() -> None:
    image = assemble(_SECTIONS)
    names = [section.name for section in image.sections]
    assert names == [".text", ".text.late", ".rodata", ".data", ".more", ".bss"]
    symbols = image.symbols
    assert symbols["start"] == 0xC0100000
    assert symbols["fixed"] % 4096 == symbols["datum"] % 4096 == 0
    assert symbols["_end"] == symbols["space"] + 0x3000


def test_segments_hold_what_the_sections_say() -> None:
    image = assemble(_SECTIONS)
    loads = list(elf(image).iter_segments("PT_LOAD"))
    assert [load["p_flags"] for load in loads] == [5, 4, 6]
    for load, segment in zip(loads, image.segments, strict=True):
        assert load["p_vaddr"] == segment.address
        assert load["p_paddr"] == segment.physical == segment.address - 0xC0000000 + 0x40000000
        assert load["p_filesz"] == len(segment.data)
        assert load["p_memsz"] == segment.memory_size
        assert load["p_offset"] % 4096 == load["p_vaddr"] % 4096
        assert load.data() == segment.data
    assert image.segments[2].data[:4] == b"\1\0\0\0"
    assert image.segments[2].memory_size > len(image.segments[2].data)


@pytest.mark.parametrize("bits", [32, 64])
def test_symbols_are_in_the_file_with_their_sections(bits: int) -> None:
    image = assemble(
        f'guest "k", bits={bits}\nnumber equ 7\nstart: nop\n.local: nop\nsection .data\ndatum: db 1'
    )
    file = elf(image)
    table = file.get_section_by_name(".symtab")
    found = {symbol.name: symbol for symbol in table.iter_symbols() if symbol.name}
    assert {name: symbol["st_value"] for name, symbol in found.items()} == image.symbols
    assert file.get_section(found["start"]["st_shndx"]).name == ".text"
    assert file.get_section(found["datum"]["st_shndx"]).name == ".data"
    assert found["number"]["st_shndx"] == "SHN_ABS"
    assert found["start"]["st_info"]["bind"] == "STB_GLOBAL"
    assert found["start.local"]["st_info"]["bind"] == "STB_LOCAL"
    locals_first = [symbol["st_info"]["bind"] == "STB_LOCAL" for symbol in table.iter_symbols()]
    assert locals_first == sorted(locals_first, reverse=True)
    assert table["sh_info"] == locals_first.count(True)


def test_a_hypercall_page_is_made_when_there_is_none() -> None:
    image = assemble('guest "k"\nstart: nop')
    page = image.symbols["hypercall_page"] - image.symbols["start"]
    assert page % 4096 == 0
    assert image.section_bytes(".text")[page:] == b"\xcc" * 4096


def test_a_program_may_have_its_own_hypercall_page() -> None:
    own = assemble('guest "k"\nstart: nop\nsection .bss, align=4096\nhypercall_page: reserve 4096')
    assert own.section_bytes(".text") == b"\x90"
    assert notes(own)[elfnote.XEN_ELFNOTE_HYPERCALL_PAGE] == own.symbols["hypercall_page"].to_bytes(
        4, "little"
    )
    other = assemble('guest "k", hypercall_page=gate\nstart: nop\nalign 4096\ngate: reserve 4096')
    assert notes(other)[elfnote.XEN_ELFNOTE_HYPERCALL_PAGE] == other.symbols["gate"].to_bytes(4, "little")
    without = assemble('guest "k", hypercall_page=none\nstart: hypercall sched_op, 0, 0')
    assert elfnote.XEN_ELFNOTE_HYPERCALL_PAGE not in notes(without)
    assert without.section_bytes(".text").endswith(b"\xcd\x82")


@pytest.mark.parametrize("bits", [32, 64])
def test_a_trap_table_is_an_array_of_trap_info_with_a_terminator(bits: int) -> None:
    word = bits // 8
    image = assemble(
        f"""
        guest "k", bits={bits}
        start: nop
        breakpoint: nop
        fault: nop
        section .rodata
        db 1
        trap_table traps
            trap 3, breakpoint, dpl=3
            trap 14, fault, mask
            rept 2, i
                trap 32 + i, fault, dpl=i, mask
            endrept
        end
        """
    )
    data = image.section_bytes(".rodata")[word:]
    expected = [(3, 3, "breakpoint"), (14, 4, "fault"), (32, 4, "fault"), (33, 5, "fault")]
    code_selector = constants(word)["FLAT_KERNEL_CS"]
    assert data == b"".join(
        trap_info.pack(word, vector=vector, flags=flags, cs=code_selector, address=image.symbols[handler])
        for vector, flags, handler in expected
    ) + bytes(trap_info.size(word))
    assert image.symbols["traps"] == image.sections[1].address + word


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('guest "k"', "a guest begins at the label start; define it, or name another with entry=LABEL"),
        ('guest "k", frob=1\nstart:', "a guest has no option frob; it has target, bits, paddr, multiboot,"),
        ('guest "k", bits=16\nstart:', "a guest has 32 or 64 bits, not 16"),
        ('guest "k", bits=32, bits=64\nstart:', "the option bits is given twice"),
        ('guest "k", pae=1\nstart:', "the option pae is a string or none"),
        ('guest "k", virt_base="x"\nstart:', "the option virt_base is a number or none"),
        ('guest "k", paddr=1\nstart:', "paddr is a multiple of 4096"),
        ('guest "k"\nguest "l"\nstart:', "the guest is already described at <text>:1"),
        ('guest "k", entry=frob\nstart:', "frob is not defined"),
        ('guest "k", virt_base=0xfffff000\nstart:', "the image would end at 0x100"),
        ("trap 3, x", "trap stands between trap_table NAME and end"),
        ("trap_table t\ntrap 256, t\nend", "a vector is 0 to 255, not 256"),
        ("trap_table t\ntrap 3, t\ntrap 3, t\nend", "vector 3 is in this table already"),
        ("trap_table t\ntrap 3, t, dpl=4\nend", "dpl is 0 to 3, not 4"),
        ("trap_table t\ntrap 3, t, frob\nend", "a trap has the options dpl=N and mask"),
        (
            "trap_table t\nnop\nend",
            "only traps stand between trap_table and end; the table of line 1 is still open",
        ),
        ("trap_table t", "what begins here has no end"),
        ("end", "this end has no trap_table above it"),
        ("note 1 << 32, 1", "the number of a note has 32 bits, 0x100000000 does not"),
        ('section .x, flags="q"', 'flags are letters of "rwx": readable, writable, executable'),
        ("section .x, frob=1", 'a section has the options align=N and flags="rwx", not frob'),
        ('section .text, flags="r"', '.text has the flags "rx" from its first line; they can\'t change'),
    ],
)
def test_a_wrong_guest_is_explained(source: str, message: str) -> None:
    (said,) = problems(source)
    assert said.startswith(message)
