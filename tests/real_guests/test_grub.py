"""GRUB as Debian packages it (grub-i386-xen.bin): unmodified, to its prompt, with its disk, and off again."""

from pathlib import Path

from guestkit import assemble_file
from pvemu import Outcome
from tests.real_guests.conftest import Boot, MakeDisk

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_grub_shows_its_prompt_reads_its_disk_and_powers_off(boot_grub: Boot, disk: Path) -> None:
    result, console = boot_grub("ls (xen/xvda)/\ncat (xen/xvda)/hello\ndate\nhalt\n", f"{disk},xvda,r")
    assert result.outcome is Outcome.POWEROFF
    assert "Welcome to GRUB!" in console
    assert "grub> " in console
    assert "lost+found/ hello" in console
    assert "Hello from the disk." in console
    assert "2026-01-01 00:00" in console  # the machine's clock starts there


def test_grub_boots_in_twelve_mebibytes_without_a_disk(boot_grub: Boot) -> None:
    result, console = boot_grub("ls\nhalt\n", memory=12)
    assert result.outcome is Outcome.POWEROFF
    assert "(memdisk) (proc)" in console


def test_grub_sees_each_disk_under_its_name(boot_grub: Boot, disk: Path) -> None:
    other = disk.with_name("other.img")
    other.write_bytes(disk.read_bytes())
    result, console = boot_grub("ls\nhalt\n", f"{disk},xvda,w", f"{other},xvdc,r,overlay")
    assert result.outcome is Outcome.POWEROFF
    assert "(memdisk) (proc) (xen/xvda) (xen/xvdc)" in console


def test_what_grub_writes_is_in_the_image(boot_grub: Boot, make_disk: MakeDisk) -> None:
    """save_env writes the environment block through the block front end, in place."""
    environment = b"# GRUB Environment Block\n".ljust(1024, b"#")
    disk = make_disk(grubenv=environment)
    assert environment in disk.read_bytes()
    keys = "set colour=blue\nsave_env -f (xen/xvda)/grubenv colour\nhalt\n"
    result, console = boot_grub(keys, f"{disk},xvda,w")
    assert result.outcome is Outcome.POWEROFF, console
    assert b"# GRUB Environment Block\ncolour=blue\n" in disk.read_bytes()


def test_grub_boots_another_kernel_from_the_disk(boot_grub: Boot, make_disk: MakeDisk) -> None:
    """The kernel starts on page tables that GRUB made, and finds console and xenstore as GRUB left them."""
    disk = make_disk(kernel=assemble_file(EXAMPLES / "hello.gk").elf)
    result, console = boot_grub("linux (xen/xvda)/kernel\nboot\n", f"{disk},xvda,r")
    assert result.outcome is Outcome.POWEROFF
    assert "Hello from ring 1!" in console


def test_a_kernel_that_grub_has_booted_connects_to_the_disk_anew(
    boot_grub: Boot, make_disk: MakeDisk
) -> None:
    disk = make_disk(kernel=assemble_file(EXAMPLES / "disk.gk").elf)
    result, console = boot_grub("linux (xen/xvda)/kernel\nboot\n", f"{disk},xvda,w,overlay")
    assert result.outcome is Outcome.POWEROFF
    assert "Read again: 0 of them are wrong." in console


def test_grub_that_reboots_ends_with_that_reason(boot_grub: Boot) -> None:
    assert boot_grub("reboot\n", memory=12)[0].outcome is Outcome.REBOOT


def test_grub_runs_the_same_twice(boot_grub: Boot, disk: Path) -> None:
    first, second = (boot_grub("ls (xen/xvda)/\nhalt\n", f"{disk},xvda,r") for _ in range(2))
    assert first == second
