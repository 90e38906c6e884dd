"""Linux as distributions package it, as a PVH guest, from its first instruction to its first process.

Any kernel will do that has a PVH entry (CONFIG_PVH) and can run 32-bit programs.
"""

from typing import Any

import pytest

from guestkit import assemble
from pvemu import Outcome
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind, Paging, read_kernel
from tests.real_guests.conftest import kernels, run

#: Virtual time; most of it Linux spends on tests of its own ciphers, unless it is told not to.
SECONDS = 30
COMMAND_LINE = "console=hvc0 cryptomgr.notests"
#: A program for Linux: it writes a line, and powers off.
INIT = """
guest "init", target=hvm32, multiboot=none
SYS_WRITE equ 4
SYS_REBOOT equ 88
STANDARD_OUTPUT equ 1
section .text
start:  mov eax, SYS_WRITE
        mov ebx, STANDARD_OUTPUT
        mov ecx, text
        mov edx, text_end - text
        int 0x80
        mov eax, SYS_REBOOT
        mov ebx, 0xfee1dead                     ; LINUX_REBOOT_MAGIC1
        mov ecx, 672274793                      ; LINUX_REBOOT_MAGIC2
        mov edx, 0x4321fedc                     ; LINUX_REBOOT_CMD_POWER_OFF
        xor esi, esi
        int 0x80
        hlt
section .rodata
text:   db "This is Linux's first process.", 10
text_end:
"""


def archive(*entries: tuple[str, int, bytes, tuple[int, int]]) -> bytes:
    """An initial file system, as a cpio archive of the format newc: name, mode, contents, device numbers."""
    data = b""
    for inode, (name, mode, contents, device) in enumerate((*entries, ("TRAILER!!!", 0, b"", (0, 0))), 1):
        fields = (inode, mode, 0, 0, 1, 0, len(contents), 0, 0, *device, len(name) + 1, 0)
        data += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        data += bytes(-len(data) % 4) + contents
        data += bytes(-len(data) % 4)
    return data


@pytest.fixture(scope="module")
def linux() -> bytes:
    """The newest kernel that pvemu can start as a PVH guest."""
    for path in reversed(kernels("vmlinuz-*")):
        try:
            data = path.read_bytes()
            if read_kernel(data).notes.phys32_entry is not None:
                return data
        except (OSError, PvemuError):
            continue
    pytest.skip("no Linux kernel with a PVH entry is here (Debian: apt install linux-image-cloud-amd64)")


@pytest.mark.parametrize(("paging", "vcpus"), [(Paging.NESTED, 1), (Paging.SHADOW, 2)])
def test_linux_boots_to_its_first_process(
    linux: bytes, paging: Paging, vcpus: int, machine_options: Any
) -> None:
    init = assemble(INIT).elf
    guest = GuestConfig(
        linux,
        name="linux",
        memory=256,
        vcpus=vcpus,
        kind=GuestKind.PVH,
        paging=paging,
        command_line=COMMAND_LINE,
        module=archive(
            ("dev", 0o40755, b"", (0, 0)),
            ("dev/console", 0o20600, b"", (5, 1)),
            ("init", 0o100755, init, (0, 0)),
        ),
    )
    result, console = run(guest, SECONDS, machine_options)
    assert "Booting kernel on Xen PVH" in console
    assert f"smp: Brought up 1 node, {vcpus} CPU" in console
    assert "This is Linux's first process." in console
    assert "Error -13" not in console  # of xenstore: what is a guest's own it may write
    assert result.outcome is Outcome.POWEROFF
