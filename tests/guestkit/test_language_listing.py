"""The listing: every line with the address and the bytes it became."""

from guestkit import assemble


def test_each_line_has_its_address_and_bytes() -> None:
    source = """\
guest "k", hypercall_page=none
macro two
    nop
    nop
endmacro
start:
    mov eax, 5      ; five
    two
    db 1, 2, 3, 4, 5, 6, 7, 8, 9
section .bss
space: reserve 16
"""
    assert (
        assemble(source, filename="k.asm").listing()
        == """\
; k.asm
    1                                   guest "k", hypercall_page=none
    6                                   start:
    7 c0100000 b8 05 00 00 00               mov eax, 5      ; five
    3 c0100005 90                       >    nop
    4 c0100006 90                       >    nop
    9 c0100007 01 02 03 04 05 06 07 08      db 1, 2, 3, 4, 5, 6, 7, 8, 9
               09
   10                                   section .bss
   11 c0101000 (16 bytes)               space: reserve 16
"""
    )


def test_long_data_is_cut_and_addresses_are_as_wide_as_the_code() -> None:
    rows = assemble("bits 64\ntimes 100 db 7").listing().splitlines()
    assert rows[2].startswith("    2 0000000000000000 07 07")
    assert rows[5].strip() == "... (100 bytes)"
    assert len(rows) == 6
