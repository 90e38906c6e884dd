"""Auto-translated PV guests do what others do, and can't tell where they are not told."""

from pathlib import Path
from typing import Any

import pytest
from as_translated import shadowed, with_feature
from company import plan, play

from guestkit import assemble
from pvemu import Machine, PvemuError
from pvemu.abi import features
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"
#: What they print does not depend on whose frames are in their page tables.
SAME = ("cow", "hello", "paravirtualized", "sensitive", "smp", "ticks", "xenbus")
#: A feature that an auto-translated guest has, and others have not, and the other way round.
OWN = {
    features.XENFEAT_auto_translated_physmap,
    features.XENFEAT_writable_page_tables,
    features.XENFEAT_writable_descriptor_tables,
    features.XENFEAT_pae_pgdir_above_4gb,
    features.XENFEAT_not_direct_mapped,
}
NOT_ITS = {features.XENFEAT_direct_mapped, features.XENFEAT_gnttab_map_avail_bits}


def submap(text: str) -> set[int]:
    mask = int(text.split()[-1], 16)
    return {number for number in range(32) if mask >> number & 1}


def test_a_guest_is_told_by_its_features_whose_frames_it_has_to_name(machine_options: Any) -> None:
    hello = HERE / "hello.gk"
    direct, own = (play(guest, machine_options=machine_options) for guest in (plan(hello), shadowed(hello)))
    assert own.texts[0].splitlines()[0] == direct.texts[0].splitlines()[0] == "Hello from ring 1!"
    assert submap(own.texts[0]) - submap(direct.texts[0]) == OWN
    assert submap(direct.texts[0]) - submap(own.texts[0]) == NOT_ITS


@pytest.mark.parametrize("paging", [Paging.DIRECT, Paging.SHADOW])
@pytest.mark.parametrize("name", ["own_tables", "own_descriptors"])
def test_tables_in_use_change_by_stores_as_they_do_by_hypercalls_on_real_xen(
    name: str, paging: Paging, machine_options: Any
) -> None:
    source = HERE / f"{name}.gk"
    guest = plan(source) if paging is Paging.DIRECT else shadowed(source)
    played = play(guest, machine_options=machine_options)
    assert played.texts[0] == (HERE / "expected" / f"{name}.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


@pytest.mark.parametrize("name", SAME)
def test_an_example_prints_the_same(name: str, machine_options: Any) -> None:
    played = play(shadowed(EXAMPLES / f"{name}.gk", vcpus=2), machine_options=machine_options)
    assert played.texts[0] == (EXAMPLES / "expected" / f"{name}.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


def test_a_disk_is_used_through_grants_by_own_frame_numbers(tmp_path: Path, machine_options: Any) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    guest = shadowed(EXAMPLES / "disk.gk", disks=(f"{image},xvda,w",))
    played = play(guest, machine_options=machine_options)
    assert played.texts[0] == (EXAMPLES / "expected" / "disk.txt").read_text()
    assert image.read_bytes()[:4] == b"\x01\0\0\0"


def test_a_driver_domain_serves_an_auto_translated_guest(tmp_path: Path, machine_options: Any) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    driver = plan(EXAMPLES / "driver-domain/driver.gk", disks=[f"{image},xvda,w"], driver_domain=True)
    guest = shadowed(EXAMPLES / "disk.gk", disks=("vdev=xvda,access=rw,backend=driver",))
    played = play(driver, guest, machine_options=machine_options)
    assert played.texts[1] == (EXAMPLES / "expected" / "disk.txt").read_text()


def test_what_is_wrong_in_a_table_is_a_page_fault_or_nothing(machine_options: Any) -> None:
    """By the processor's manual: a guest that no real Xen of today can run has no other judge."""
    played = play(shadowed(HERE / "faults.gk"), machine_options=machine_options)
    assert played.texts[0] == (HERE / "expected" / "faults.txt").read_text()
    assert played.result.outcome is Outcome.POWEROFF


def test_page_tables_that_are_no_business_of_xens_are_pinned_and_written_alike(machine_options: Any) -> None:
    played = play(shadowed(EXAMPLES / "pagetables.gk"), machine_options=machine_options)
    lines, direct = (
        text.splitlines()
        for text in (played.texts[0], (EXAMPLES / "expected" / "pagetables.txt").read_text())
    )
    different = [(own, other) for own, other in zip(lines, direct, strict=True) if own != other]
    assert different
    assert all(own.endswith(" done") and " error -" in other for own, other in different)


def test_a_kernel_that_requires_it_is_refused_by_direct_paging_as_by_real_tools(machine_options: Any) -> None:
    image = assemble('guest "needs it", features="!auto_translated_physmap"\nstart: hlt\n').elf
    with pytest.raises(KernelRefused) as refused:
        Machine([GuestConfig(image, memory=8)], **machine_options)
    assert refused.value.reason == "PV Autotranslate guests no longer supported"
    assert "--paging shadow" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "privileged", "reason"),
    [
        ('guest "plain"\nstart: hlt\n', False, "auto_translated_physmap"),
        (with_feature('guest "zero"\nstart: hlt\n'), True, "domain 0 can't be auto-translated"),
    ],
)
def test_who_can_not_be_auto_translated_is_told_why(
    text: str, privileged: bool, reason: str, machine_options: Any
) -> None:
    guest = GuestConfig(assemble(text).elf, memory=8, paging=Paging.SHADOW)
    with pytest.raises(KernelRefused, match=reason) as refused:
        Machine([guest], privileged=privileged, **machine_options)
    assert isinstance(refused.value, PvemuError)
    assert "leave --paging shadow out" in str(refused.value)
