"""What Xen's security advisories describe, tried in ring 1: it is answered as real Xen answers it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.machine import Outcome

ATTACKS = Path(__file__).resolve().parent
GOLDEN = ATTACKS.parents[1] / "golden/guests/xsa"
STACKS = [line.split("\t") for line in (GOLDEN / "xsa-183.tsv").read_text().splitlines()[1:]]


@pytest.mark.parametrize("privileged", [False, True], ids=["domU", "dom0"])
@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.txt")))
def test_an_attack_is_answered_as_on_real_xen(
    name: str, privileged: bool, make_machine: Callable[..., Machine]
) -> None:
    machine = make_machine(assemble_file(ATTACKS / f"{name}.gk").elf, memory=16, privileged=privileged)
    result = machine.run(seconds=10)
    assert machine.console_bytes.decode().splitlines() == (GOLDEN / f"{name}.txt").read_text().splitlines()
    assert result.outcome is Outcome.POWEROFF
    Auditor(machine.hypervisor).audit()


@pytest.mark.parametrize(("case", "name"), [row[:2] for row in STACKS], ids=[row[1] for row in STACKS])
def test_an_exception_frame_is_written_only_where_the_guest_can_write(
    case: str, name: str, make_machine: Callable[..., Machine]
) -> None:
    elf = assemble_file(ATTACKS / "xsa-183.gk", defines={"CASE": int(case)}).elf
    machine = make_machine(elf, memory=16)
    hypervisor = machine.hypervisor
    map_of_frames = slice(hypervisor.m2p.first << 12, hypervisor.m2p.first + hypervisor.m2p.pages * 512 << 12)
    before = bytes(hypervisor.ram.u8[map_of_frames])
    assert machine.run(seconds=10).outcome is Outcome.CRASH
    assert machine.console_bytes.decode() == name
    assert bytes(hypervisor.ram.u8[map_of_frames]) == before
    Auditor(hypervisor).audit()
