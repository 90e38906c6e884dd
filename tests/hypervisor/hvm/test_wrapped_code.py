"""Code in a segment whose base and offsets make more than 32 bits: linear addresses wrap to the beginning."""

from typing import Any, Final

import pytest
from company import play

from guestkit import assemble
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

_GUEST: Final = """
guest "wrapped", target=hvm32
include "start.gk"
include "print.gk"
include "traps.gk"
; As kernels that are linked for high addresses begin, before they turn on paging.
BASE equ 0x40000000
WRAPPED_CS equ 0x30
section .text
main:   call traps_open
        sgdt [place]
        mov esi, [place + 2]
        mov edi, table
        mov ecx, WRAPPED_CS / 4
        rep movsd
        lgdt [own_place]
        push WRAPPED_CS
        push there - BASE
        retf
back:   print "there and back"
        ret
align PAGE_SIZE                                 ; a page that nobody has been in before
there:  jmp KERNEL_CS:back
        align PAGE_SIZE
section .data
place:  reserve 6, 0
own_place:
        dw table_end - table - 1
        dd table
align 8
table:  reserve WRAPPED_CS, 0
        descriptor BASE, 0xfffff, 0x9a, 0xc0
table_end:
"""


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
def test_code_is_fetched_from_where_its_address_wraps_to(paging: Paging, machine_options: Any) -> None:
    config = GuestConfig(assemble(_GUEST).elf, name="wrapped", memory=8, paging=paging)
    played = play(config, machine_options=machine_options)
    assert (played.texts, played.result.outcome) == (["there and back"], Outcome.POWEROFF)
