"""The examples print what they print on real Xen, in both kinds of domain, or on a PC."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from company import plan, play

from pvemu import Machine
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPECTED = EXAMPLES / "expected"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.gk"))
#: Those that want more of a machine than Xen itself; test_served_examples.py runs them.
SERVED = {"disk", "pvhvm", "xenbus"}
#: Those that are HVM guests.
HVM = {"unmodified", "unmodified64"}
#: Those that are a domain 0.
DOM0 = {"logdirty"}
VCPUS = {"smp": 2}


@pytest.mark.parametrize("privileged", [False, True], ids=["domU", "dom0"])
@pytest.mark.parametrize("name", sorted({*NAMES} - SERVED - HVM - DOM0))
def test_an_example_prints_what_it_prints_on_real_xen(
    name: str, privileged: bool, machine_options: Any
) -> None:
    guest = plan(EXAMPLES / f"{name}.gk", memory=16, vcpus=VCPUS.get(name, 1))
    played = play(guest, machine_options=machine_options, privileged=privileged)
    assert played.texts[0] == (EXPECTED / f"{name}.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


@pytest.mark.parametrize("name", sorted(DOM0))
def test_a_domain_0_prints_what_it_prints_on_real_xen(name: str, machine_options: Any) -> None:
    played = play(plan(EXAMPLES / f"{name}.gk", memory=16), machine_options=machine_options, privileged=True)
    assert played.texts[0] == (EXPECTED / f"{name}.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


@pytest.mark.parametrize("name", sorted(DOM0))
def test_an_example_for_domain_0_says_so_to_others(name: str, machine_options: Any) -> None:
    played = play(plan(EXAMPLES / f"{name}.gk"), machine_options=machine_options)
    assert played.texts[0] == "Only domain 0 may make domains.\n"
    assert played.result.outcome is Outcome.POWEROFF


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", sorted(HVM))
def test_an_unmodified_kernel_prints_what_it_prints_on_a_pc(
    name: str, paging: Paging, machine_options: Any
) -> None:
    played = play(plan(EXAMPLES / f"{name}.gk", paging=paging), machine_options=machine_options)
    assert played.texts[0] == (EXPECTED / f"{name}.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


def test_two_vcpus_are_asked_for_when_there_is_one(make_machine: Callable[..., Machine]) -> None:
    source = (EXAMPLES / "smp.gk").read_text()
    machine = make_machine(source, memory=16)
    assert machine.run(seconds=10).outcome is Outcome.POWEROFF
    assert machine.console_bytes.decode().endswith("Two are needed to show something.\n")


def test_every_example_has_its_expected_output() -> None:
    assert sorted(path.stem for path in EXPECTED.glob("*.txt")) == NAMES
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"expected"}
    assert {path.name for path in EXPECTED.iterdir() if path.is_dir()} == folders
    assert NAMES


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.gk")), ids=lambda path: str(path.stem))
def test_every_example_tells_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith(f"; {path.name} - ")
