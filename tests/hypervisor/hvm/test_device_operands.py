"""Instructions on the memory of devices: what a PC does, and what becomes of those that are unknown here."""

import pytest
from processor_guests import FOLDER, lines_of

from pvemu.cpu import exits
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

PAGINGS = pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])


@PAGINGS
def test_an_operand_in_a_device_is_as_good_as_one_in_memory(
    paging: Paging, machine_options: dict[str, str]
) -> None:
    recorded = (FOLDER / "recorded" / "device_operands.txt").read_text().splitlines()
    assert lines_of("device_operands", paging, machine_options) == (recorded, Outcome.POWEROFF)


@PAGINGS
def test_an_instruction_that_is_not_known_is_an_invalid_opcode_and_the_guest_goes_on(
    paging: Paging, machine_options: dict[str, str]
) -> None:
    lines, outcome = lines_of("unknown_operands", paging, machine_options)
    *unknown, known = lines
    assert outcome is Outcome.POWEROFF
    assert known == "known -1"
    assert {line.rpartition(" ")[2] for line in unknown} == {str(exits.UD)}
    assert len(unknown) == 4
