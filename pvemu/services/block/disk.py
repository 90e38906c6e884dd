"""What a person asks for in a disk, and the image and the xenstore keys that follow from it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pvemu.abi.xenbus import XEN_IO_PROTO_ABI_X86_32, XEN_IO_PROTO_ABI_X86_64
from pvemu.services.block.image import Image, RawImage
from pvemu.services.block.overlay import OverlayImage

PROTOCOLS = {4: XEN_IO_PROTO_ABI_X86_32, 8: XEN_IO_PROTO_ABI_X86_64}


@dataclass(frozen=True)
class DiskSpec:
    """A disk as a person describes it.

    Attributes:
        path: the raw image, a file or a block device of the host.
        vdev: what the guest shall call it: xvda, hda, sda1, ...
        writable: whether the guest may change it.
        overlay: keep the changes in memory, and the image as it is.
        cdrom: the guest sees a CD drive; it is removable then, too.
        discard: let the guest punch holes into the image, where the file system can.
    """

    path: str
    vdev: str
    writable: bool = True
    overlay: bool = False
    cdrom: bool = False
    discard: bool = True


def open_image(spec: DiskSpec) -> Image:
    """Open a disk's image.

    Raises:
        PvemuError: it can't be opened so.
    """
    if spec.overlay and spec.writable:
        return OverlayImage(RawImage(spec.path, writable=False))
    return RawImage(spec.path, writable=spec.writable)


def physical_device(path: str, ordinal: int) -> str:
    """MAJOR:MINOR in hexadecimal, as the hotplug script writes it: of a block device its own numbers.

    A file is behind a loop device there. Here is none: it gets the number of the one it would have.
    """
    status = Path(path).stat()
    if stat.S_ISBLK(status.st_mode):
        return f"{os.major(status.st_rdev):x}:{os.minor(status.st_rdev):x}"
    return f"7:{ordinal:x}"


def backend_keys(spec: DiskSpec, physical: str) -> dict[str, str]:
    """The keys that libxl writes to the back end's directory, with those that its hotplug script adds.

    Args:
        physical: what `physical_device` says.
    """
    return {
        "params": spec.path,
        "script": "/etc/xen/scripts/block",
        "removable": str(int(spec.cdrom)),
        "bootable": "1",
        "dev": spec.vdev,
        "type": "phy",
        "mode": "w" if spec.writable else "r",
        "device-type": "cdrom" if spec.cdrom else "disk",
        "discard-enable": str(int(spec.discard)),
        "specification": "xen",
        "physical-device": physical,
        "physical-device-path": str(Path(spec.path).absolute()),
        "hotplug-status": "connected",
    }


def frontend_keys(spec: DiskSpec, devid: int, word: int) -> dict[str, str]:
    """The keys that libxl writes to the guest's directory; `word` is the guest's, 4 or 8 bytes."""
    return {
        "virtual-device": str(devid),
        "device-type": "cdrom" if spec.cdrom else "disk",
        "trusted": "1",
        "protocol": PROTOCOLS[word],
    }
