"""What all back ends of domain 0 do alike: keep the devices that they serve, and let go of them."""

from pvemu.services.device import DeviceAddress, remove_device
from pvemu.services.xenbus import Driver, XenbusBackend
from pvemu.services.xenstore.local_client import LocalClient


class DeviceBackend:
    """All devices of one kind (``vbd``, ``vif``), of all guests."""

    kind: str

    def __init__(self, xenstore: LocalClient) -> None:
        self._xenstore = xenstore
        self._devices: dict[DeviceAddress, XenbusBackend] = {}

    def serves(self, address: DeviceAddress) -> bool:
        """Whether a guest has a device of that number."""
        return address in self._devices

    def serve(self, address: DeviceAddress, driver: Driver) -> None:
        """Begin to serve a device whose keys have been written."""
        device = self._devices[address] = XenbusBackend(self._xenstore, address, driver)
        device.on_gone = lambda: self._forget(address)
        device.start()

    def detach(self, domid: int, devid: int, *, force: bool = False) -> None:
        """Take a device away: ask the guest to let go, or, by force, at once. None there is no error."""
        address = DeviceAddress(self.kind, domid, devid)
        device = self._devices.get(address)
        if device is not None and force:
            device.destroy()
            self._forget(address)
        elif device is not None:
            device.go_offline()

    def detach_all(self, domid: int) -> None:
        """Take all devices of a guest away at once; for when it is destroyed."""
        for address in [each for each in self._devices if each.domid == domid]:
            self.detach(domid, address.devid, force=True)

    def _forget(self, address: DeviceAddress) -> None:
        del self._devices[address]
        remove_device(self._xenstore, address)
