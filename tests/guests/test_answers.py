"""Guests that ask hypercalls get the answers of real Xen: as domain 0, as a domU, and with two vCPUs.

Recorded by record.py. In by_kind are those that domain 0 is answered otherwise; those of two_vcpus are
answered alike.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.hypervisor.core import End
from pvemu.toolstack.machine import Outcome

PROBES = Path(__file__).resolve().parent
GOLDEN = PROBES.parent / "golden/guests"
sys.path.insert(0, str(PROBES.parent / "hypervisor"))
from booted import Booted  # noqa: E402  it is the machine of the tests in that folder


@pytest.mark.parametrize("kind", ["dom0", "domu"])
@pytest.mark.parametrize("name", sorted(path.stem for path in (PROBES / "by_kind").glob("*.gk")))
def test_domain_0_and_a_domu_are_answered_as_by_real_xen(
    name: str, kind: str, make_machine: Callable[..., Machine]
) -> None:
    elf = assemble_file(PROBES / f"by_kind/{name}.gk", include_paths=[PROBES]).elf
    machine = make_machine(elf, memory=16, privileged=kind == "dom0")
    assert machine.run(seconds=10).outcome is Outcome.POWEROFF
    expected = (GOLDEN / f"by_kind/{name}-{kind}.txt").read_text().splitlines()
    assert machine.console_bytes.decode().splitlines() == expected


@pytest.mark.parametrize("name", sorted(path.stem for path in (PROBES / "two_vcpus").glob("*.gk")))
def test_two_vcpus_are_answered_as_by_real_xen(name: str) -> None:
    elf = assemble_file(PROBES / f"two_vcpus/{name}.gk", include_paths=[PROBES]).elf
    with Booted() as machine:
        machine.boot(0, elf, vcpus=2, memory=16)
        assert machine.run(10_000) is End.ALL_DOWN
        expected = (GOLDEN / f"two_vcpus/{name}.txt").read_text().splitlines()
        assert machine.console.decode().splitlines() == expected
