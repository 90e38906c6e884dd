"""GRUB as Debian packages it (grub-i386-xen.bin): unmodified, to its prompt, with its disk, and off again."""

import subprocess
from pathlib import Path

from conftest import Boot

from pvemu import Outcome


def test_grub_shows_its_prompt_reads_its_disk_and_powers_off(boot_grub: Boot, disk: Path) -> None:
    result, console = boot_grub("ls (xen/xvda)/\ncat (xen/xvda)/hello.txt\ndate\nhalt\n", f"{disk},xvda,r")
    assert result.outcome is Outcome.POWEROFF
    assert "Welcome to GRUB!" in console
    assert "grub> " in console
    assert "lost+found/ hello.txt" in console
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


def test_what_grub_writes_is_in_the_image(boot_grub: Boot, disk: Path) -> None:
    """save_env writes the environment block through the block front end, in place."""
    environment = b"# GRUB Environment Block\n".ljust(1024, b"#")
    image = disk.read_bytes()
    marker = b"Hello from the disk.\n"
    assert marker in image and environment not in image
    content = disk.with_name("content")
    (content / "grubenv").write_bytes(environment)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", "-d", str(content), str(disk), "8M"], check=True)
    assert environment in disk.read_bytes()
    keys = "set colour=blue\nsave_env -f (xen/xvda)/grubenv colour\nhalt\n"
    result, console = boot_grub(keys, f"{disk},xvda,w")
    assert result.outcome is Outcome.POWEROFF, console
    assert b"# GRUB Environment Block\ncolour=blue\n" in disk.read_bytes()


def test_grub_that_reboots_ends_with_that_reason(boot_grub: Boot) -> None:
    assert boot_grub("reboot\n", memory=12)[0].outcome is Outcome.REBOOT


def test_grub_runs_the_same_twice(boot_grub: Boot, disk: Path) -> None:
    first, second = (boot_grub("ls (xen/xvda)/\nhalt\n", f"{disk},xvda,r") for _ in range(2))
    assert first == second
