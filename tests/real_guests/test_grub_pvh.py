"""GRUB's PVH image as Debian packages it (grub-i386-xen_pvh.bin): unmodified, in both ways of paging.

It has no page tables of its own, finds Xen by CPUID, and maps shared_info and grant table itself.
"""

from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Outcome
from pvemu.toolstack.guest_kind import GuestKind, Paging
from tests.real_guests.conftest import Boot, MakeDisk

GUESTS = Path(__file__).parents[1] / "guests"
TRANSLATED = (Paging.NESTED, Paging.SHADOW)


@pytest.mark.parametrize("paging", TRANSLATED)
def test_grub_shows_its_prompt_reads_its_disk_and_powers_off(
    boot_grub_pvh: Boot, disk: Path, paging: Paging
) -> None:
    keys = "ls (xen/xvda)/\ncat (xen/xvda)/hello\ndate\nhalt\n"
    result, console = boot_grub_pvh(keys, f"{disk},xvda,r", paging=paging)
    assert result.outcome is Outcome.POWEROFF, console
    assert "Welcome to GRUB!" in console
    assert "grub> " in console
    assert "lost+found/ hello" in console
    assert "Hello from the disk." in console
    assert "2026-01-01 00:00" in console  # the machine's clock starts there


@pytest.mark.parametrize("paging", TRANSLATED)
def test_grub_boots_in_twelve_mebibytes_without_a_disk(boot_grub_pvh: Boot, paging: Paging) -> None:
    result, console = boot_grub_pvh("ls\nhalt\n", memory=12, paging=paging)
    assert result.outcome is Outcome.POWEROFF, console
    assert "(memdisk) (proc)" in console


def test_grub_sees_the_memory_that_it_has(boot_grub_pvh: Boot) -> None:
    result, console = boot_grub_pvh("lsmmap\nhalt\n", memory=48)
    assert result.outcome is Outcome.POWEROFF
    assert "base_addr = 0x0, length = 0x3000000, available RAM" in console
    assert "base_addr = 0xfeff8000, length = 0x8000, reserved" in console


def test_what_grub_writes_is_in_the_image(boot_grub_pvh: Boot, make_disk: MakeDisk) -> None:
    environment = b"# GRUB Environment Block\n".ljust(1024, b"#")
    disk = make_disk(grubenv=environment)
    keys = "set colour=blue\nsave_env -f (xen/xvda)/grubenv colour\nhalt\n"
    result, console = boot_grub_pvh(keys, f"{disk},xvda,w")
    assert result.outcome is Outcome.POWEROFF, console
    assert b"# GRUB Environment Block\ncolour=blue\n" in disk.read_bytes()


@pytest.mark.parametrize("paging", TRANSLATED)
def test_grub_boots_another_kernel_from_the_disk(
    boot_grub_pvh: Boot, make_disk: MakeDisk, paging: Paging
) -> None:
    """In a PC: the kernel prints on the serial port, and GRUB tells it by Multiboot what memory there is."""
    disk = make_disk(kernel=assemble_file(GUESTS / "hvm_hello.gk").elf)
    keys = "multiboot (xen/xvda)/kernel\nboot\n"
    result, console = boot_grub_pvh(keys, f"{disk},xvda,r", kind=GuestKind.HVM, paging=paging)
    assert result.outcome is Outcome.POWEROFF, console
    assert "Hello by Multiboot from ring 0." in console


def test_grub_that_reboots_ends_with_that_reason(boot_grub_pvh: Boot) -> None:
    assert boot_grub_pvh("reboot\n", memory=12)[0].outcome is Outcome.REBOOT


@pytest.mark.parametrize("paging", TRANSLATED)
def test_grub_runs_the_same_twice(boot_grub_pvh: Boot, disk: Path, paging: Paging) -> None:
    first, second = (
        boot_grub_pvh("ls (xen/xvda)/\nhalt\n", f"{disk},xvda,r", paging=paging) for _ in range(2)
    )
    assert first == second
