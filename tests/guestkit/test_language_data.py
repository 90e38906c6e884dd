"""Data and space: strings, units, reserve, align, times and incbin."""

from pathlib import Path

import capstone
import pytest
from assembling import code, problems
from hypothesis import given
from hypothesis import strategies as st

from guestkit import assemble


def test_units_are_little_endian_and_strings_fill_whole_units() -> None:
    assert code('db 1, "ab", 2\ndw 1, "abc"\ndd "a"\ndq -2') == (
        b"\1ab\2" + b"\1\0abc\0" + b"a\0\0\0" + b"\xfe" + b"\xff" * 7
    )


def test_strings_have_the_escapes_of_c() -> None:
    assert code(r'db "\n\r\t\0\\\"\'\x41\101\e;"') == b"\n\r\t\0\\\"'AA\x1b;"


@given(st.binary(max_size=40))
def test_any_bytes_can_be_written_with_escapes(data: bytes) -> None:
    escaped = "".join(f"\\x{byte:02x}" for byte in data)
    assert code(f'db "{escaped}", 1') == data + b"\1"


@given(st.text(st.characters(exclude_characters='"\\\n\r', exclude_categories=["Cs"]), max_size=20))
def test_text_in_a_string_is_utf8(text: str) -> None:
    assert code(f'db 1, "{text}"') == b"\1" + text.encode()


def test_asciz_ends_each_string_with_a_zero() -> None:
    assert code('asciz "a", "", "bc"') == b"a\0\0bc\0"


def test_reserve_fills_with_zeros_or_the_byte_named() -> None:
    assert code("reserve 2\nreserve 3, 0xcc") == b"\0\0\xcc\xcc\xcc"


def test_reserve_may_depend_on_where_it_stands() -> None:
    assert code("db 1\nreserve 16 - ($ - $$), 0xee\ndb 2") == b"\1" + b"\xee" * 15 + b"\2"


def test_align_pads_data_with_zeros_and_code_with_instructions() -> None:
    image = assemble("nop\nalign 16\nsection .data\ndb 1\nalign 4\ndb 2\nalign 4, 0xff")
    assert image.section_bytes(".data") == b"\1\0\0\0\2\xff\xff\xff"
    padding = image.section_bytes(".text")[1:]
    assert len(padding) == 15
    decoded = list(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32).disasm(padding, 0))
    assert sum(instruction.size for instruction in decoded) == 15
    assert {instruction.mnemonic for instruction in decoded} == {"nop"}


@pytest.mark.parametrize("mode", [capstone.CS_MODE_32, capstone.CS_MODE_64])
@pytest.mark.parametrize("size", range(1, 40))
def test_padding_of_every_length_does_nothing_in_both_modes(mode: int, size: int) -> None:
    padding = code(f"times {64 - size} hlt\nalign 64")[64 - size :]
    decoded = list(capstone.Cs(capstone.CS_ARCH_X86, mode).disasm(padding, 0))
    assert sum(instruction.size for instruction in decoded) == size
    assert {instruction.mnemonic for instruction in decoded} == {"nop"}


def test_an_alignment_makes_the_section_begin_at_a_multiple() -> None:
    image = assemble("nop\nsection .data\nalign 0x4000\nx: db 1")
    assert image.symbols["x"] % 0x4000 == 0


def test_times_repeats_instructions_and_data() -> None:
    assert code("times 3 nop\ntimes 2 db 1, 2\ntimes 0 db 5") == b"\x90\x90\x90\1\2\1\2"


def test_times_evaluates_here_anew_each_time() -> None:
    assert code("times 3 db $") == b"\0\1\2"
    assert code("times 2 jmp $") == b"\xeb\xfe\xeb\xfe"


def test_times_of_data_may_depend_on_addresses() -> None:
    assert code("db 1\ntimes 8 - ($ - $$) db 7") == b"\1" + b"\7" * 7


def test_a_size_that_moves_itself_is_refused() -> None:
    assert problems("x: reserve 5 - (y - x)\ny:") == [
        "this size depends on addresses that it moves itself, and never settles"
    ]


def test_incbin_takes_a_file_or_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"0123456789")
    source = 'incbin "blob"\nincbin "blob", 8\nincbin "blob", 2, 3'
    image = assemble(source, include_paths=[tmp_path])
    assert image.section_bytes(".text") == b"0123456789" + b"89" + b"234"


def test_incbin_of_what_is_not_there_is_explained(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"0123456789")
    with pytest.raises(Exception, match="10 bytes: this part is not in it"):
        assemble('incbin "blob", 8, 3', include_paths=[tmp_path])
    with pytest.raises(Exception, match='there is no file "nothing"'):
        assemble('incbin "nothing"', include_paths=[tmp_path])


@pytest.mark.parametrize("line", ["db 1", "nop", 'asciz "a"', "reserve 4, 1", "hypercall iret", "align 4, 1"])
def test_a_bss_holds_only_space(line: str) -> None:
    (message,) = problems(f"section .bss\n{line}")
    assert message.startswith(".bss is memory without contents")


def test_a_bss_takes_no_room_in_the_file() -> None:
    image = assemble("nop\nsection .bss\nreserve 0x100000\nalign 4096")
    assert len(image.elf) < 0x4000
    assert image.segments[-1].memory_size == 0x100000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("align 3", "an alignment is a power of two up to 2097152, not 3"),
        ("reserve -1", "a reserved size in bytes is 0 to 67108864, not -1"),
        ("times -1 nop", "a statement is repeated 0 to 65536 times, not -1"),
        ("times 2 align 4", "times repeats instructions and data, not align"),
        ("times 67108864 dw 0", "the program is larger than 64 MiB"),
        ("bits 16", "code has 32 or 64 bits, not 16"),
    ],
)
def test_an_impossible_amount_is_refused(line: str, message: str) -> None:
    assert problems(line) == [message]
