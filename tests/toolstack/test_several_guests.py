"""Several guests on one machine: side by side, ending one by one, starting again, leaving nothing behind."""

import json
from pathlib import Path

import pytest

from guestkit import assemble
from pvemu import Machine, Outcome, PvemuError
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import Action, GuestConfig
from tests.toolstack.conftest import Command

SAYS = """
guest "says"
include "start.gk"
include "print.gk"
section .text
main:   print "I am here.\\n"
        mov ecx, {turns}
.again: push ecx
        hypercall sched_op, SCHEDOP_yield, 0
        pop ecx
        dec ecx
        jnz .again
        print "I go."
        mov dword [reason], {reason}
        hypercall sched_op, SCHEDOP_shutdown, reason
section .data
reason: dd 0
"""
#: Sets a watchdog of a second, and waits for what never comes.
OVERSLEEPS = """
guest "oversleeps"
section .text
start:  hypercall sched_op, SCHEDOP_watchdog, watchdog
.wait:  hypercall sched_op, SCHEDOP_block, 0
        jmp .wait
section .data
watchdog: dd 0, 1
"""


def image(reason: str = "SHUTDOWN_poweroff", turns: int = 20) -> bytes:
    return assemble(SAYS.format(reason=reason, turns=turns)).elf


def test_guests_print_side_by_side_each_line_with_its_number(tmp_path: Path, pvemu: Command) -> None:
    paths = []
    for name in ("a", "b"):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(image())
    outcome = pvemu("run", *paths, "--memory", "8")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.decode().splitlines()
    assert sorted(lines) == ["(d1) I am here.", "(d1) I go.", "(d2) I am here.", "(d2) I go."]
    assert lines.index("(d2) I am here.") < lines.index("(d1) I go.")


def test_the_first_guest_that_did_not_power_off_counts(tmp_path: Path, pvemu: Command) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(image())
    bad.write_bytes(image("SHUTDOWN_crash"))
    outcome = pvemu("run", good, bad, "--memory", "8", "--json")
    assert outcome.status == 3
    report = json.loads(outcome.out)
    assert [(guest["name"], guest["outcome"]) for guest in report["guests"]] == [
        ("good", "poweroff"),
        ("bad", "crash"),
    ]


def test_a_guest_that_has_ended_gives_everything_back_while_others_run() -> None:
    guests = [
        GuestConfig(image(turns=3), name="short", memory=8),
        GuestConfig(image(turns=400), name="long", memory=8),
    ]
    with Machine(guests) as machine:
        free = machine.hypervisor.heap.free_frames
        assert machine.run(10).outcome is Outcome.POWEROFF
        assert machine.hypervisor.heap.free_frames >= free + (8 << 8)
        assert set(machine.hypervisor.domains) == {0, 2}
        Auditor(machine.hypervisor).audit()


@pytest.mark.parametrize("action", [Action.DESTROY, Action.RESTART, Action.PRESERVE])
def test_what_becomes_of_a_guest_that_reboots_is_its_plans_word(action: Action) -> None:
    guest = GuestConfig(image("SHUTDOWN_reboot"), memory=8, on_reboot=action)
    with Machine([guest]) as machine:
        result = machine.run(0.02)
        boots = machine.guests[0].boots
        Auditor(machine.hypervisor).audit()
    if action is Action.RESTART:
        assert boots > 3 and result.outcome is Outcome.DEADLINE
    else:
        assert boots == 1 and result.outcome is Outcome.REBOOT


def test_a_guest_that_its_watchdog_ends_in_its_sleep_starts_again() -> None:
    guest = GuestConfig(assemble(OVERSLEEPS).elf, memory=8, on_crash=Action.RESTART)
    with Machine([guest]) as machine:
        assert machine.run(3.5).outcome is Outcome.DEADLINE
        assert machine.guests[0].boots == 4
        Auditor(machine.hypervisor).audit()


def test_a_guest_that_starts_again_leaves_nothing_behind() -> None:
    guest = GuestConfig(image("SHUTDOWN_reboot"), memory=8, on_reboot=Action.RESTART)
    free = set()
    with Machine([guest]) as machine:
        for _ in range(6):
            machine.run(0.01)
            free.add(machine.hypervisor.heap.free_frames)
            Auditor(machine.hypervisor).audit()
        assert machine.guests[0].boots > 6
        assert len(machine.hypervisor.domains) == 2
    assert len(free) == 1


def test_more_guests_than_the_machine_has_memory_for_are_refused(tmp_path: Path, pvemu: Command) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(image())
    outcome = pvemu("run", kernel, kernel, "--memory", "40", "--machine-memory", "64")
    assert outcome.status == 2
    assert "80 MiB" in outcome.err


def test_a_machine_that_is_closed_gives_its_disk_images_back(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(4096))
    guest = GuestConfig(image(), memory=8, disks=(read_disk(f"{disk},xvda,w"),))
    for _ in range(2):
        with Machine([guest]) as machine:
            assert machine.run(1).outcome is Outcome.POWEROFF


def test_guests_of_one_file_are_told_apart_by_name(tmp_path: Path, pvemu: Command) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(image())
    report = json.loads(pvemu("run", kernel, kernel, kernel, "--memory", "8", "--json").out)
    assert [guest["name"] for guest in report["guests"]] == ["kernel", "kernel-2", "kernel-3"]


def test_two_guests_of_one_name_are_refused() -> None:
    with pytest.raises(PvemuError, match="same name"):
        Machine([GuestConfig(image()), GuestConfig(image())])


def test_disks_of_several_guests_belong_into_their_files(tmp_path: Path, pvemu: Command) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(image())
    outcome = pvemu("run", kernel, kernel, "--disk", "a.img")
    assert outcome.status == 2
    assert "xl.cfg" in outcome.err
