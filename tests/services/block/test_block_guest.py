"""A guest's own driver against the back end, through the machine's grants, event channels and xenstore."""

from pathlib import Path
from typing import Any

import pytest

from guestkit import assemble
from pvemu import Machine
from pvemu.services.block.disk import DiskSpec
from pvemu.toolstack.guest_config import DiskRequest, GuestConfig

KERNEL = Path(__file__).with_name("disk_guest.gk")
PRINTED = """\
sectors: 32
read: 0 "hello from sector one"
write: 0
read past the end: -1
ring given back: 0
sectors: 32

read again: 0 "pvemu"

ring given back: 0
"""


@pytest.mark.parametrize("overlay", [False, True], ids=["file", "overlay"])
def test_a_guest_reads_writes_and_reconnects(
    tmp_path: Path, machine_options: dict[str, Any], overlay: bool
) -> None:
    disk = tmp_path / "disk.img"
    before = bytes(512) + b"hello from sector one".ljust(512, b"\0") + bytes(512 * 30)
    disk.write_bytes(before)
    image = assemble(KERNEL.read_text()).elf
    request = DiskRequest(DiskSpec(str(disk), "xvda", overlay=overlay))
    with Machine([GuestConfig(image, memory=32, disks=(request,))], **machine_options) as machine:
        assert machine.run(seconds=5).outcome.value == "poweroff"
        assert machine.console_bytes.decode().replace("\r", "") == PRINTED
    if overlay:
        assert disk.read_bytes() == before
    else:
        assert disk.read_bytes()[1024:1029] == b"pvemu"
