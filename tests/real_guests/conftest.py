"""Kernels that nobody here wrote, run through the product's whole width."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pvemu import Machine
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.machine import Result

GRUB = Path("/usr/lib/grub-xen/grub-i386-xen.bin")
GRUB_PVH = Path("/usr/lib/grub-xen/grub-i386-xen_pvh.bin")
SECONDS = 120
#: Where distributions put kernels, and where .ci/run unpacks packages that it does not install.
_BOOT = (Path("/boot"), Path(__file__).parents[2] / "build/real-guests/boot")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Boot = Callable[..., tuple[Result, str]]


def plain(console: bytes) -> str:
    """What a person sees of a console: text without the terminal's control sequences."""
    return _ESCAPES.sub("", console.decode("utf-8", "replace")).replace("\r", "")


def kernels(pattern: str) -> list[Path]:
    """Kernels of this computer by name, the newest last."""
    return sorted((path for boot in _BOOT for path in boot.glob(pattern)), key=lambda path: path.name)


def run(guest: GuestConfig, seconds: float, options: Any, keys: str = "") -> tuple[Result, str]:
    """Run a guest alone, with a text typed at it: how it ends, and what it printed."""
    with Machine([guest], **options) as machine:
        machine.type_text(keys.encode())
        return machine.run(seconds), plain(bytes(machine.console_bytes))


MakeDisk = Callable[..., Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> MakeDisk:
    """Make an ext2 image with files in it, by name."""
    if shutil.which("mke2fs") is None:
        pytest.skip("mke2fs is not installed (Debian, Ubuntu: apt install e2fsprogs)")

    def make(**files: bytes) -> Path:
        content, image = tmp_path / "content", tmp_path / "ext2.img"
        content.mkdir()
        for name, data in files.items():
            (content / name).write_bytes(data)
        command = ["mke2fs", "-q", "-t", "ext2", "-d", str(content), str(image), "8M"]
        subprocess.run(command, check=True, capture_output=True)
        return image

    return make


@pytest.fixture
def disk(make_disk: MakeDisk) -> Path:
    """An ext2 image with a file `hello` in it."""
    return make_disk(hello=b"Hello from the disk.\n")


def _booter(image: Path, pytestconfig: pytest.Config) -> Boot:
    """Boot a GRUB, type a text at its prompt, and see how it ends and what it printed."""
    if not image.exists():
        pytest.skip("GRUB for Xen is not installed (Debian, Ubuntu: apt install grub-xen-host)")

    def boot(
        keys: str,
        *disks: str,
        memory: int = 64,
        kind: GuestKind | None = None,
        paging: Paging | None = None,
    ) -> tuple[Result, str]:
        guest = GuestConfig(
            image.read_bytes(),
            name="grub",
            memory=memory,
            disks=tuple(map(read_disk, disks)),
            kind=kind,
            paging=paging,
        )
        options = {
            "window": pytestconfig.getoption("--state-window"),
            "clock": pytestconfig.getoption("--clock"),
        }
        return run(guest, SECONDS, options, keys)

    return boot


@pytest.fixture
def boot_grub(pytestconfig: pytest.Config) -> Boot:
    """GRUB as a PV guest."""
    return _booter(GRUB, pytestconfig)


@pytest.fixture
def boot_grub_pvh(pytestconfig: pytest.Config) -> Boot:
    """GRUB as a PVH guest."""
    return _booter(GRUB_PVH, pytestconfig)
