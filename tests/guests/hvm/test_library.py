"""The guest library for HVM does what it does on a PC, with 32 and with 64 bits, however memory is paged."""

from pathlib import Path
from typing import Any

import pytest
from company import play

from guestkit import assemble_file
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

GUESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("target", ["hvm32", "hvm64"])
def test_traps_clock_pages_and_programs_are_those_of_a_pc(
    target: str, paging: Paging, machine_options: Any
) -> None:
    image = assemble_file(GUESTS / "library.gk", target=target).elf
    played = play(GuestConfig(image, memory=16, paging=paging), machine_options=machine_options)
    assert played.texts[0] == (GUESTS / f"library-{target}.txt").read_text()
    # The guest ends with a panic, which is a triple fault: a PC starts anew.
    assert played.result.outcome is Outcome.REBOOT


def test_a_guest_of_ten_lines_prints_and_powers_off(machine_options: Any) -> None:
    image = assemble_file(GUESTS.parent / "hvm_hello.gk").elf
    played = play(GuestConfig(image), machine_options=machine_options)
    assert played.texts == ["Hello from ring 0.\n"]
    assert played.result.outcome is Outcome.POWEROFF
