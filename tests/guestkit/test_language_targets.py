"""What a guest may be built for: how a source says it, and what of the image depends on it."""

import io
import struct
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from assembling import problems
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from test_language_guest import notes

from guestkit import AssemblyError, Image, assemble
from pvemu.abi import elfnote

ROOT = Path(__file__).parents[2]
TARGETS = ("pv32", "pv64", "hvm32", "hvm64")
HVM = TARGETS[2:]
_MULTIBOOT_MAGIC = 0x1BADB002
_HAS_ADDRESSES = 1 << 16
_SEARCHED = 8192


def elf(image: Image) -> Any:
    """The image's file as pyelftools reads it."""
    return ELFFile(io.BytesIO(image.elf))


def load_by_multiboot(file: bytes) -> tuple[int, bytes, int]:
    """What a loader makes of a file whose format it does not know (Multiboot 0.6.96, 3.1.3).

    Returns the address, the memory from there on, and the entry point.
    """
    for at in range(0, min(_SEARCHED, len(file)) - 31, 4):
        magic, flags, checksum = struct.unpack_from("<3I", file, at)
        if magic == _MULTIBOOT_MAGIC and (magic + flags + checksum) % (1 << 32) == 0:
            break
    else:
        raise AssertionError("there is no Multiboot header")
    assert flags & _HAS_ADDRESSES
    header, load, load_end, bss_end, entry = struct.unpack_from("<5I", file, at + 12)
    first = at - (header - load)
    data = file[first : first + load_end - load]
    assert len(data) == load_end - load
    return load, data + bytes(bss_end - load_end), entry


def memory_of(image: Image) -> tuple[int, bytes]:
    """The same from the segments: the physical address of the first, and the memory from there on."""
    first = image.segments[0].physical
    memory = bytearray()
    for segment in image.segments:
        memory += bytes(segment.physical - first - len(memory))
        memory += segment.data + bytes(segment.memory_size - len(segment.data))
    return first, bytes(memory)


@pytest.mark.parametrize("target", TARGETS)
def test_a_guest_is_for_the_target_it_names_or_for_the_one_asked_for(target: str) -> None:
    named = assemble(f'guest "k", target={target}\nstart: nop')
    assert assemble('guest "k"\nstart: nop', target=target).elf == named.elf
    assert assemble(f'guest "k", target={target}\nstart: nop', target=target).elf == named.elf
    assert named.bits == int(target[-2:])


@pytest.mark.parametrize("bits", [32, 64])
def test_a_guest_that_names_none_is_paravirtual(bits: int) -> None:
    text = f'guest "k", bits={bits}\nstart: nop'
    assert assemble(text).elf == assemble(text, target=f"pv{bits}").elf


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_can_ask_for_the_target(target: str) -> None:
    names = ("pv", "hvm", *TARGETS)
    image = assemble('guest "k"\nstart:\n' + "\n".join(f"db target({name})" for name in names), target=target)
    start = image.symbols["start"] - image.sections[0].address
    told = dict(zip(names, image.section_bytes(".text")[start:], strict=False))
    assert {name for name, is_it in told.items() if is_it} == {target, target[:-2]}


@pytest.mark.parametrize("target", HVM)
def test_an_hvm_guest_has_the_note_of_the_pvh_entry_and_its_name(target: str) -> None:
    image = assemble(f'guest "k", target={target}\nnop\nstart: nop')
    word = int(target[-2:]) // 8
    assert notes(image) == {
        elfnote.XEN_ELFNOTE_GUEST_OS: b"k\0",
        elfnote.XEN_ELFNOTE_PHYS32_ENTRY: image.symbols["start"].to_bytes(word, "little"),
    }
    assert image.symbols["start"] == image.entry == elf(image).header["e_entry"] > 0x100000
    assert "hypercall_page" not in image.symbols


def test_its_entry_is_physical_wherever_it_is_linked() -> None:
    options = "target=hvm64, virt_base=0xFFFFFFFF80000000, paddr=0x200000, entry=begin"
    image = assemble(f'guest "k", {options}\nbegin: nop')
    physical = image.symbols["begin"] - 0xFFFFFFFF80000000
    assert 0x200000 < physical < 0x200100
    assert notes(image)[elfnote.XEN_ELFNOTE_PHYS32_ENTRY] == physical.to_bytes(8, "little")
    assert elf(image).header["e_entry"] == physical
    assert load_by_multiboot(image.elf) == (*memory_of(image), physical)


def test_notes_and_header_can_be_left_out() -> None:
    image = assemble('guest "k", target=hvm32, guest_os=none, phys32_entry=none, multiboot=none\nstart: nop')
    assert notes(image) == {}
    assert image.section_bytes(".text") == b"\x90"


_SECTION = st.tuples(
    st.sampled_from([".text", ".rodata", ".data", ".own", ".bss"]),
    st.integers(1, 9000),
    st.sampled_from([1, 16, 4096, 16384, 65536]),
)


@given(st.sampled_from(HVM), st.lists(_SECTION, max_size=6))
def test_a_loader_that_does_not_know_the_file_loads_the_same(
    target: str, sections: list[tuple[str, int, int]]
) -> None:
    fills = (
        f"section {name}\nalign {step}\nreserve {size}" + ("" if name == ".bss" else f", {number + 1}")
        for number, (name, size, step) in enumerate(sections)
    )
    image = assemble("\n".join(chain([f'guest "k", target={target}', "start: nop"], fills)))
    assert load_by_multiboot(image.elf) == (*memory_of(image), image.entry)


@pytest.mark.parametrize("target", HVM)
def test_a_hypercall_page_is_made_for_those_who_make_hypercalls(target: str) -> None:
    image = assemble(f'guest "k", target={target}\nstart: hypercall sched_op, SCHEDOP_yield, 0')
    page = image.symbols["hypercall_page"] - image.sections[0].address
    assert image.section_bytes(".text")[page:] == b"\xcc" * 4096
    assert elfnote.XEN_ELFNOTE_HYPERCALL_PAGE not in notes(image)


@pytest.mark.parametrize("target", ["pv32", *HVM])
def test_the_library_has_the_same_calls_for_several_targets(target: str) -> None:
    text = (
        'guest "k"\ninclude "start.gk"\ninclude "print.gk"\ninclude "traps.gk"\ninclude "pages.gk"\n'
        'include "program.gk"\nsection .text\nmain: print "Hello"\ncall traps_open\njmp run_program'
    )
    image = assemble(text, target=target)
    assert {"console_write", "shutdown", "map_page", "open_to_programs", "end_program"} <= {*image.symbols}
    assert ("multiboot_address" in image.symbols) == (target in HVM)


def test_a_file_beside_the_source_comes_before_the_librarys(tmp_path: Path) -> None:
    (tmp_path / "start.gk").write_text("start: db 0x5a\n")
    source = tmp_path / "kernel.gk"
    image = assemble('guest "k", target=hvm32\ninclude "start.gk"', filename=str(source))
    assert image.section_bytes(".text").endswith(b"\x5a")


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ('guest "k", target=arm', None, "the option target is one of pv32, pv64, hvm32, hvm64"),
        ('guest "k", target="hvm32"', None, "the option target is one of pv32, pv64, hvm32, hvm64"),
        ('guest "k", target=hvm32, bits=64', None, "hvm32 has 32 bits, not 64"),
        ('guest "k", bits=64', "hvm32", "hvm32 has 32 bits, not 64"),
        ('guest "k", target=hvm32', "hvm64", "this guest is for hvm32 alone, not for hvm64"),
        ('guest "k", multiboot=none', None, "pv32 has no Multiboot header"),
        ('guest "k", target=hvm32, multiboot=1', None, "the option multiboot is none or left out"),
        ('nop\nguest "k", target=hvm32', None, "the guest line stands before the code of an HVM guest"),
        ('guest "k", target=hvm64, paddr=0x100000000', None, "an HVM guest lies in the first 4 GiB"),
        ('if target(hvm)\nendif\nguest "k"', None, "the target is not known above the guest line"),
        ('guest "k"\nif target(x86)\nendif', None, "target takes one of pv, hvm, pv32, pv64, hvm32, hvm64"),
        (
            'guest "k", target=hvm32, hypercall_page=none\nhypercall sched_op, SCHEDOP_yield, 0',
            None,
            "an HVM guest makes hypercalls through its page only",
        ),
    ],
)
def test_a_wrong_target_is_explained(text: str, target: str | None, message: str) -> None:
    with pytest.raises(AssemblyError) as raised:
        assemble(f"{text}\nstart: nop", target=target)
    assert raised.value.problems[0].message.startswith(message)


def test_a_target_that_does_not_exist_is_no_target() -> None:
    with pytest.raises(LookupError, match="there is no target 'arm'; there are pv32, pv64, hvm32, hvm64"):
        assemble("nop", target="arm")


def test_the_target_is_known_above_the_guest_line_when_it_was_asked_for() -> None:
    text = 'if target(hvm64)\nNUMBER equ 64\nendif\nguest "k"\nstart: nop'
    assert assemble(text, target="hvm64").symbols["NUMBER"] == 64
    assert problems(text)


def test_the_command_builds_for_a_target(tmp_path: Path) -> None:
    source, output = tmp_path / "kernel.gk", tmp_path / "kernel.elf"
    source.write_text('guest "k"\nstart: nop\n')
    command = [sys.executable, "-m", "guestkit", "build", source, "-o", output, "--target"]
    subprocess.run([*command, "hvm64"], cwd=ROOT, check=True)
    assert output.read_bytes() == assemble(source.read_text(), target="hvm64").elf
    refused = subprocess.run([*command, "arm"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "hvm64" in refused.stdout + refused.stderr
