"""The block back end of domain 0: attaches disks to guests, and detaches them."""

from collections.abc import Callable

from pvemu.abi.errors import PvemuError
from pvemu.services.block.disk import DiskSpec, backend_keys, frontend_keys, open_image, physical_device
from pvemu.services.block.image import Image
from pvemu.services.block.vbd import Vbd
from pvemu.services.device import DeviceAddress, add_device
from pvemu.services.device_backend import DeviceBackend
from pvemu.services.privcmd import Privcmd
from pvemu.services.xenstore.local_client import LocalClient


class BlockBackend(DeviceBackend):
    """All disks of all guests.

    Args:
        warn: told, in one line, when an image fails while a guest uses it.
    """

    kind = "vbd"

    def __init__(
        self, privcmd: Privcmd, xenstore: LocalClient, *, warn: Callable[[str], None] = lambda line: None
    ) -> None:
        super().__init__(xenstore)
        self._privcmd = privcmd
        self._warn = warn
        self._attached = 0

    def attach(
        self, domid: int, devid: int, spec: DiskSpec, *, word: int = 4, image: Image | None = None
    ) -> None:
        """Give a guest a disk: open its image, write its keys, and serve it from now on.

        Args:
            devid: the number from `vdev_number`.
            word: of the guest, 4 or 8 bytes.
            image: used in place of `spec.path` and not closed in the end: changes of an overlay then outlive
                a guest's reboot.

        Raises:
            PvemuError: the image can't be used, or the guest has a disk of that number.
        """
        address = DeviceAddress(self.kind, domid, devid)
        if self.serves(address):
            raise PvemuError(f"domain {domid} has a disk {spec.vdev} already: give this one another name")
        own = image is None
        opened = open_image(spec) if image is None else image
        try:
            physical = physical_device(spec.path, self._attached)
        except OSError as vanished:
            if own:
                opened.close()
            raise PvemuError(f"disk image {spec.path}: {vanished.strerror}") from vanished
        self._attached += 1
        add_device(
            self._xenstore,
            address,
            backend=backend_keys(spec, physical),
            frontend=frontend_keys(spec, devid, word),
        )
        vbd = Vbd(self._privcmd, domid, spec, opened, word=word, close_image=own, warn=self._warn)
        self.serve(address, vbd)
