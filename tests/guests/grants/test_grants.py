"""What a domain may do with grants to itself: the probes of this folder print what they print on real Xen."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.abi.hypercalls import BY_NAME
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.machine import Outcome

PROBES: Final = Path(__file__).resolve().parent
GOLDEN: Final = PROBES.parents[1] / "golden/guests/grants"
NAMES: Final = sorted(path.stem for path in GOLDEN.glob("*.txt"))


def counters(machine: Machine) -> int:
    """How often grant_table_op was entered, continuations counted."""
    return machine.hypervisor.counters[BY_NAME["grant_table_op"].number]


@pytest.mark.parametrize("privileged", [False, True], ids=["domU", "dom0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_probe_of_grants_prints_what_it_prints_on_real_xen(
    name: str, privileged: bool, make_machine: Callable[..., Machine]
) -> None:
    machine = make_machine(assemble_file(PROBES / f"{name}.gk").elf, memory=16, privileged=privileged)
    result = machine.run(seconds=10)
    expected = (GOLDEN / f"{name}.txt").read_text().splitlines()
    assert machine.console_bytes.decode().splitlines() == expected
    assert result.outcome is Outcome.POWEROFF
    Auditor(machine.hypervisor).audit()


@pytest.mark.parametrize("microseconds", [3, 7, 40])
def test_lists_that_are_stopped_again_and_again_end_as_they_do_in_one_go(
    microseconds: int, make_machine: Callable[..., Machine]
) -> None:
    elf = assemble_file(PROBES / "replacing.gk").elf
    machine, whole = (make_machine(elf, memory=16) for _ in range(2))
    assert whole.run(seconds=10).outcome is Outcome.POWEROFF
    while (run := machine.run(microseconds / 1e6)).outcome is Outcome.DEADLINE:
        continue
    assert run.outcome is Outcome.POWEROFF
    Auditor(machine.hypervisor).audit()
    expected = (GOLDEN / "replacing.txt").read_text().splitlines()
    assert machine.console_bytes.decode().splitlines() == expected
    assert counters(machine) > counters(whole)
