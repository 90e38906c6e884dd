"""Kernel files of every quality: packed ones are unpacked, damaged ones refused; nothing else is raised."""

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
from contextlib import suppress

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pvemu.abi import elfnote
from pvemu.toolstack import compressed_kernel
from pvemu.toolstack.compressed_kernel import unpack_kernel
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.kernel import Kernel, load_kernel
from pvemu.toolstack.layout import plan_domain
from pvemu.toolstack.lz4_legacy import Lz4Error, unpack_lz4_legacy
from tests.elf_builder import Elf, Load, note
from tests.toolstack.kernel_variants import HIGH_BASE, IMAGE_PADDR, VARIANTS, base_notes, kernel

VALID = kernel(b"", None).build()
WITH_SECTIONS = VARIANTS["bsd-symbols"](b"").build()
OLD_STYLE = VARIANTS["guest-section"](b"").build()


def loads_or_refuses(data: bytes) -> Kernel | None:
    """Any other exception fails the test. A kernel that loads must also plan, or be refused, as domain 0."""
    try:
        loaded = load_kernel(data)
        plan_domain(loaded, memory_pages=0x2000, privileged=True)
    except KernelRefused as refusal:
        assert "\n" not in str(refusal)
        return None
    return loaded


def bzimage(
    payload: bytes, *, version: int = 0x20F, setup_sectors: int = 2, length: int | None = None
) -> bytes:
    """A Linux boot image, by the kernel's Documentation/arch/x86/boot.rst: 0 setup sectors mean 4."""
    setup = bytearray((1 + (setup_sectors or 4)) * 512)
    setup[0x1F1] = setup_sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x208] = b"HdrS" + struct.pack("<H", version)
    struct.pack_into("<II", setup, 0x248, 64, len(payload) if length is None else length)
    return bytes(setup) + bytes(64) + payload + b"after the payload"


def lz4_literals(data: bytes) -> bytes:
    """The simplest legacy frame: one block of one sequence without a match."""
    count = len(data) - 15
    token = b"\xf0" + b"\xff" * (count // 255) + bytes([count % 255])
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(token + data)) + token + data


PACKERS = {
    "not packed": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lz4_literals,
}


@pytest.mark.parametrize("name", PACKERS)
def test_a_packed_kernel_is_the_kernel_that_was_packed(name: str) -> None:
    packed = PACKERS[name](VALID)
    assert unpack_kernel(packed) == VALID
    assert unpack_kernel(packed + b"\0\0\x12\x34") == (
        VALID if name != "not packed" else packed + b"\0\0\x12\x34"
    )


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("setup_sectors", [0, 2, 30])
def test_a_bzimage_is_the_kernel_in_it(name: str, setup_sectors: int) -> None:
    assert unpack_kernel(bzimage(PACKERS[name](VALID), setup_sectors=setup_sectors)) == VALID


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "lzma", "lz4"])
def test_a_packed_kernel_that_is_cut_short_is_refused(name: str) -> None:
    with pytest.raises(KernelRefused):
        load_kernel(PACKERS[name](VALID)[:-20])


def test_a_bzimage_of_an_old_protocol_or_with_a_payload_outside_is_refused() -> None:
    with pytest.raises(KernelRefused, match=r"older than 2\.08"):
        unpack_kernel(bzimage(VALID, version=0x207))
    with pytest.raises(KernelRefused, match="runs past the end of the file"):
        unpack_kernel(bzimage(VALID, length=1 << 30))


@pytest.mark.parametrize(("magic", "name"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x89LZO", "lzo")])
def test_a_compression_that_is_not_known_is_named(magic: bytes, name: str) -> None:
    with pytest.raises(KernelRefused, match=name):
        unpack_kernel(magic + bytes(100))


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "lzma", "lz4"])
def test_a_file_that_unpacks_to_too_much_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed_kernel, "MAX_UNPACKED_SIZE", 100_000)
    with pytest.raises(KernelRefused, match="too large"):
        unpack_kernel(PACKERS[name](bytes(200_000)))


def test_lz4_matches_copy_what_they_have_just_produced() -> None:
    """Sequences after lz4_Block_format.md: literals, distance, length less 4; the last is literals alone."""
    block = b"\x32abc" + b"\x03\x00" + b"\x1fX" + b"\x01\x00" + b"\xff\x05" + b"\x50final"
    frame = b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block
    assert unpack_lz4_legacy(frame, 1000) == b"abc" + b"abcabc" + b"X" + b"X" * (15 + 255 + 5 + 4) + b"final"
    assert unpack_lz4_legacy(frame, 100) is None


@pytest.mark.skipif(shutil.which("lz4") is None, reason="needs the program lz4 to pack with")
@given(
    st.lists(st.binary(min_size=1, max_size=40) | st.binary(min_size=1, max_size=1).map(lambda b: b * 3000))
)
@settings(max_examples=20, deadline=None)
def test_what_the_program_lz4_has_packed_is_unpacked(parts: list[bytes]) -> None:
    data = b"".join(parts * 3)
    packed = subprocess.run(
        ["lz4", "-l", "-9", "-c"], input=data, capture_output=True, check=True, timeout=60
    )
    assert unpack_lz4_legacy(packed.stdout, 1 << 24) == data


@given(st.binary(max_size=200))
def test_any_lz4_block_is_unpacked_or_refused(block: bytes) -> None:
    frame = b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block
    with suppress(Lz4Error):
        unpack_lz4_legacy(frame, 1 << 20)


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x7fELF")
@example(b"\x7fELF\x01\x01\x01".ljust(52, b"\0"))
@example(b"\x7fELF\x02\x01\x01".ljust(52, b"\0"))
@example(b"\x7fELF\x02\x01\x01".ljust(64, b"\xff"))
@example(b"\x7fELF\x01\x02\x01".ljust(52, b"\xff"))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert loads_or_refuses(data) is None


@given(st.sampled_from([32, 64]), st.binary(min_size=48, max_size=200))
def test_random_bytes_behind_an_elf_identity_are_refused(bits: int, rest: bytes) -> None:
    assert loads_or_refuses(b"\x7fELF" + bytes([bits // 32, 1, 1]).ljust(12, b"\0") + rest) is None


@pytest.mark.parametrize(
    "data", [VALID, WITH_SECTIONS, OLD_STYLE], ids=["notes", "sections", "guest section"]
)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_kernel_is_loaded_or_refused(data: bytes, share: float) -> None:
    loads_or_refuses(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "data", [VALID, WITH_SECTIONS, OLD_STYLE], ids=["notes", "sections", "guest section"]
)
@given(st.data())
def test_a_kernel_with_flipped_bits_is_loaded_or_refused(data: bytes, draw: st.DataObject) -> None:
    """The image itself says nothing, so the flips go to the headers, the notes and the sections."""
    telling = [*range(200), *range(0x5000, len(data))]
    damaged = bytearray(data)
    for at in draw.draw(st.lists(st.sampled_from(telling), min_size=1, max_size=4)):
        damaged[at] ^= 1 << draw.draw(st.integers(0, 7))
    loads_or_refuses(bytes(damaged))


@given(st.sampled_from([PACKERS["gzip"](VALID), PACKERS["xz"](VALID), bzimage(VALID)]), st.data())
def test_a_packed_kernel_with_flipped_bits_is_loaded_or_refused(packed: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(packed)
    damaged[draw.draw(st.integers(0, len(packed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    loads_or_refuses(bytes(damaged))


words = st.sampled_from(["generic", "linux", "xen-3.0", "yes", "bimodal", "!dom0|x", "!", ""]) | st.text(
    max_size=20
)
numbers = st.sampled_from([0, 1, HIGH_BASE, HIGH_BASE + IMAGE_PADDR, 0xFFFFF000]) | st.integers(
    0, (1 << 32) - 1
)
any_note = st.builds(
    note,
    st.integers(0, 20),
    words | numbers | st.binary(max_size=16),
    owner=st.sampled_from([b"Xen\0", b"GNU\0", b"", b"Xen"]),
)


@given(st.lists(any_note, max_size=8), st.binary(max_size=24), st.booleans())
def test_any_notes_are_read_or_refused(notes: list[bytes], rest: bytes, after_good_ones: bool) -> None:
    good = VALID[VALID.index(b"\4\0\0\0\5\0\0\0\6\0\0\0Xen\0") :] if after_good_ones else b""
    loads_or_refuses(kernel(b"", good + b"".join(notes) + rest).build())


@given(st.text(alphabet="=,0x19abPAEyesVIRT_BSC[]!\0", max_size=80))
def test_any_guest_section_is_read_or_refused(text: str) -> None:
    elf = VARIANTS["guest-section"](b"")
    assert elf.guest_section is not None
    elf.guest_section = elf.guest_section[:-1] + b"," + text.encode()
    loads_or_refuses(elf.build())


def test_header_tables_that_overlap_themselves_are_refused() -> None:
    """65,535 headers in one place would cost time and say nothing."""
    with pytest.raises(KernelRefused, match="phdr entries of 0 bytes"):
        load_kernel(Elf(0, [Load(0, b"x")], patches={42: b"\0\0\xff\xff"}).build())


def test_a_segment_outside_the_file_is_refused() -> None:
    elf = kernel(b"")
    elf.loads[0].file_size = 1 << 20
    with pytest.raises(KernelRefused, match="Failed to load the kernel binary"):
        load_kernel(elf.build())


def test_the_symbols_of_a_bsd_kernel_follow_its_image_as_an_elf_file() -> None:
    """The judge of the table is pyelftools' reader; sizes first: a count, the header, three sections."""
    symbol = struct.pack("<IIIBBH", 1, 0xC0101000, 16, 0x12, 0, 1)
    elf = kernel(b"", base_notes() | {elfnote.XEN_ELFNOTE_BSD_SYMTAB: "yes"})
    elf.symbols, elf.symbol_names = bytes(16) + symbol, b"\0start\0"
    loaded = load_kernel(elf.build())
    table = loaded.segments[-1]
    assert table.address == 0xC0104000
    assert loaded.virt_kend >= table.end
    count = int.from_bytes(table.data[:4], "little")
    assert count == len(table.data) - 4
    read = ELFFile(io.BytesIO(bytes(table.data[4:])))
    assert (read.num_sections(), read["e_phnum"], read["e_entry"]) == (3, 0, elf.entry)
    symbols = read.get_section(1)
    assert read.get_section(symbols["sh_link"])["sh_type"] == "SHT_STRTAB"
    assert [(each.name, each["st_value"]) for each in symbols.iter_symbols()] == [
        ("", 0),
        ("start", 0xC0101000),
    ]
