"""The library's drivers run unchanged as HVM guests, and print what they print as PV guests."""

from pathlib import Path
from typing import Any

import pytest
from company import plan, play

from guestkit import assemble_file
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.machine import Outcome

GUESTS = Path(__file__).resolve().parent
GOLDEN = GUESTS.parents[1] / "golden/guests/lib"
EXAMPLES = GUESTS.parents[2] / "examples"
EXPECTED = EXAMPLES / "expected"
DRIVER = EXAMPLES / "driver-domain/driver.gk"
SERVED_BY_DRIVER = "vdev=xvda,backend=driver"
#: What these guests do has nothing to do with page tables, or with mapping one's own grants.
ALIKE = ("own_ports", "own_ring", "own_vcpus", "texts")
TARGETS = ("pv32", "hvm32")


def hvm_plan(source: Path, **options: Any) -> GuestConfig:
    """A guest of DSL source, made for HVM."""
    return plan(source, image=assemble_file(source, target="hvm32").elf, **options)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty disk of 1 MiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", ALIKE)
def test_a_file_of_the_library_does_what_its_pv_form_does(
    name: str, paging: Paging, machine_options: Any
) -> None:
    played = play(hvm_plan(GUESTS / f"{name}.gk", vcpus=2, paging=paging), machine_options=machine_options)
    assert played.texts[0].splitlines() == (GOLDEN / f"{name}.txt").read_text().splitlines()
    assert played.result.outcome is Outcome.POWEROFF


def test_xenstore_answers_an_hvm_guest_at_the_edges_too(machine_options: Any) -> None:
    played = play(hvm_plan(GUESTS / "xenstore_edges.gk"), machine_options=machine_options)
    assert played.texts[0] == (GUESTS / "xenstore_edges.txt").read_text()


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", ["ticks", "smp", "disk", "xenbus"])
def test_an_example_prints_the_same_as_an_hvm_guest(
    name: str, paging: Paging, image: Path, machine_options: Any
) -> None:
    guest = hvm_plan(EXAMPLES / f"{name}.gk", vcpus=2, paging=paging, disks=[f"{image},xvda,w"])
    played = play(guest, machine_options=machine_options)
    assert played.texts[0] == (EXPECTED / f"{name}.txt").read_text()


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", ["ticks", "xenbus"])
def test_a_guest_without_a_pc_has_the_console_of_a_pv_guest(
    name: str, paging: Paging, machine_options: Any
) -> None:
    source = EXAMPLES / f"{name}.gk"
    image = assemble_file(source, target="hvm32", defines={"XEN_CONSOLE": 1}).elf
    guest = plan(source, image=image, kind=GuestKind.PVH, paging=paging)
    played = play(guest, machine_options=machine_options)
    assert played.texts[0] == (EXPECTED / f"{name}.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


@pytest.mark.parametrize("front", TARGETS)
@pytest.mark.parametrize("back", TARGETS)
def test_a_driver_domain_serves_guests_of_either_kind(
    front: str, back: str, image: Path, machine_options: Any
) -> None:
    driver = plan(
        DRIVER,
        image=assemble_file(DRIVER, target=back).elf,
        disks=[f"{image},xvda"],
        driver_domain=True,
        name="driver",
    )
    disk = EXAMPLES / "disk.gk"
    served = plan(disk, image=assemble_file(disk, target=front).elf, disks=[SERVED_BY_DRIVER])
    played = play(driver, served, machine_options=machine_options)
    assert played.texts[1] == (EXPECTED / "disk.txt").read_text()
    assert played.texts[0].splitlines()[-1] == "Nobody is left to serve."


@pytest.mark.parametrize("asking", TARGETS)
def test_guests_of_either_kind_meet_on_a_network(asking: str, machine_options: Any) -> None:
    ask, answer = EXAMPLES / "net/ask.gk", EXAMPLES / "net/answer.gk"
    played = play(
        plan(ask, image=assemble_file(ask, target=asking).elf, network=True),
        hvm_plan(answer, network=True),
        machine_options=machine_options,
    )
    assert played.texts[0].splitlines()[-1].startswith("Echo 4 has returned from ")
    assert played.texts[1].splitlines()[-1] == "I have returned 4 echoes."
