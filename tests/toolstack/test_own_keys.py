"""Xenstore: a new guest may write what libxl has made its own, and nothing else of its home."""

from typing import Any

import pytest
from company import play

from guestkit import assemble
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind

GUEST = """
guest "own_keys"{target}
include "start.gk"
include "print.gk"
include "traps.gk"
include "events.gk"
include "xenstore.gk"
section .text
main:   call traps_open
        call events_open
        call xenstore_open
        mov esi, paths
.next:  mov eax, esi
        mov edx, value
        call xenstore_write
        call print_signed
        print " "
.skip:  lodsb
        test al, al
        jnz .skip
        cmp esi, paths_end
        jb .next
        ret
section .data
value:  db "1", 0
paths:  {paths}
paths_end:
"""
#: libxl: initiate_domain_create, as it is in Xen 4.17.
ITS_OWN = (
    *("control/shutdown", "control/feature-poweroff", "control/feature-reboot", "control/feature-suspend"),
    *("control/sysrq", "data/any", "drivers/any", "feature/any", "attr/any", "error/any"),
    "device/suspend/event-channel",
)
ONLY_OF_A_PC = ("control/feature-s3", "control/feature-s4")
NOBODYS_BUSINESS = ("name", "control/other", "memory/target", "device/vbd", "hvmloader/any")
EACCES = -13


def answers(kind: GuestKind, paths: tuple[str, ...], machine_options: Any) -> list[int]:
    """What the guest is answered to each of its writes."""
    source = GUEST.format(
        target="" if kind is GuestKind.PV else ", target=hvm32",
        paths="\n        ".join(f'db "{path}", 0' for path in paths),
    )
    config = GuestConfig(assemble(source, defines={"XEN_CONSOLE": 1}).elf, name="guest", memory=8, kind=kind)
    return [int(word) for word in play(config, machine_options=machine_options).texts[0].split()]


@pytest.mark.parametrize("kind", list(GuestKind))
def test_a_guest_may_write_its_own_keys_and_no_others(kind: GuestKind, machine_options: Any) -> None:
    assert answers(kind, ITS_OWN, machine_options) == [0] * len(ITS_OWN)
    assert answers(kind, NOBODYS_BUSINESS, machine_options) == [EACCES] * len(NOBODYS_BUSINESS)
    of_a_pc = [0 if kind is GuestKind.HVM else EACCES] * len(ONLY_OF_A_PC)
    assert answers(kind, ONLY_OF_A_PC, machine_options) == of_a_pc
