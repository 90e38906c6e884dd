"""The guest library does what its files say: alone as on real Xen (recorded by record.py), and for others."""

from pathlib import Path
from typing import Any

import pytest
from company import plan, play

from pvemu.toolstack.machine import Outcome

GUESTS = Path(__file__).resolve().parent
GOLDEN = GUESTS.parents[1] / "golden/guests/lib"
DRIVER = GUESTS.parents[2] / "examples/driver-domain/driver.gk"
DISK = GUESTS.parents[2] / "examples/disk.gk"
VCPUS = {"own_vcpus": 2}
SERVED_BY_DRIVER = "vdev=xvda,backend=driver"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty disk of 1 MiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.mark.parametrize("privileged", [False, True], ids=["domU", "dom0"])
@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.txt")))
def test_a_file_of_the_library_does_what_it_does_on_real_xen(
    name: str, privileged: bool, machine_options: Any
) -> None:
    guest = plan(GUESTS / f"{name}.gk", vcpus=VCPUS.get(name, 1))
    played = play(guest, machine_options=machine_options, privileged=privileged)
    assert played.texts[0].splitlines() == (GOLDEN / f"{name}.txt").read_text().splitlines()
    assert played.result.outcome is Outcome.POWEROFF


def test_xenstore_is_asked_for_what_is_at_the_edges(machine_options: Any) -> None:
    played = play(plan(GUESTS / "xenstore_edges.gk"), machine_options=machine_options)
    assert played.texts[0] == (GUESTS / "xenstore_edges.txt").read_text()


def test_a_kernel_that_is_told_of_no_xenstore_says_so(machine_options: Any) -> None:
    played = play(plan(GUESTS / "xenstore_edges.gk"), machine_options=machine_options, privileged=True)
    assert played.texts[0] == "Panic: Nobody has told this domain where xenstore is.\n"
    assert played.result.outcome is Outcome.CRASH


def test_a_back_end_in_the_dsl_refuses_what_domain_0_refuses(
    image: Path, tmp_path: Path, machine_options: Any
) -> None:
    hostile = GUESTS / "hostile_front.gk"
    same = tmp_path / "same.img"
    same.write_bytes(image.read_bytes())
    by_domain_0 = play(plan(hostile, disks=[f"{same},xvda"]), machine_options=machine_options)
    assert by_domain_0.texts[0].splitlines()[-1] == "and nothing is wrong: 0"
    driver = plan(DRIVER, disks=[f"{image},xvda"], driver_domain=True)
    by_driver = play(driver, plan(hostile, disks=[SERVED_BY_DRIVER]), machine_options=machine_options)
    assert by_driver.texts[1] == by_domain_0.texts[0]
    assert by_driver.texts[0].splitlines()[-1] == "Nobody is left to serve."


def test_a_driver_domain_can_serve_its_own_memory(machine_options: Any) -> None:
    driver = plan(GUESTS / "ram_driver.gk", driver_domain=True, name="driver")
    played = play(driver, plan(DISK, disks=[SERVED_BY_DRIVER]), machine_options=machine_options)
    assert played.texts[0] == "served\n"
    assert "Read again: 0 of them are wrong.\n" in played.texts[1]


def test_a_driver_domain_serves_several_guests_at_once(machine_options: Any) -> None:
    driver = plan(GUESTS / "ram_driver.gk", driver_domain=True, name="driver")
    guests = [
        plan(
            GUESTS / "sector_writer.gk", disks=[SERVED_BY_DRIVER], command_line=str(number), name=f"w{number}"
        )
        for number in range(4)
    ]
    played = play(driver, *guests, machine_options=machine_options)
    assert played.texts == ["served\n", *(f"sector {number}: as written\n" for number in range(4))]


def test_a_read_only_disk_of_a_driver_domain_can_be_read_only(image: Path, machine_options: Any) -> None:
    driver = plan(DRIVER, disks=[f"{image},xvda"], driver_domain=True)
    guest = plan(GUESTS / "sector_writer.gk", disks=[f"{SERVED_BY_DRIVER},access=r"], command_line="0")
    played = play(driver, guest, machine_options=machine_options)
    assert played.texts[1] == "sector 0: read-only, status -1\n"
    assert image.read_bytes() == bytes(1 << 20)


def test_a_guest_that_dies_without_a_word_leaves_the_driver_domain_free(
    image: Path, machine_options: Any
) -> None:
    driver = plan(DRIVER, disks=[f"{image},xvda"], driver_domain=True)
    guest = plan(GUESTS / "sector_writer.gk", disks=[SERVED_BY_DRIVER], command_line="die")
    played = play(driver, guest, machine_options=machine_options)
    assert played.result.outcome is Outcome.CRASH
    assert played.texts[0].splitlines()[-1] == "Nobody is left to serve."


def test_without_a_disk_there_is_an_error(machine_options: Any) -> None:
    played = play(plan(DISK), machine_options=machine_options)
    assert played.texts[0] == "There is no disk: error -2\n"


def test_a_disk_can_be_let_go_and_taken_again(image: Path, machine_options: Any) -> None:
    played = play(plan(GUESTS / "again.gk", disks=[f"{image},xvda"]), machine_options=machine_options)
    assert played.texts[0] == "opened 5 times, and every reference is free again\n"
