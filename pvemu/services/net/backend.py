"""The network back end of domain 0: attaches interfaces to guests, and detaches them."""

from pvemu.abi.errors import PvemuError
from pvemu.services.device import DeviceAddress, add_device, remove_device
from pvemu.services.net.nic import (
    NicSpec,
    backend_keys,
    default_mac,
    frontend_keys,
    read_only_frontend_keys,
)
from pvemu.services.net.switch import Switch
from pvemu.services.net.vif import Vif
from pvemu.services.privcmd import Privcmd
from pvemu.services.xenbus import XenbusBackend
from pvemu.services.xenstore.local_client import LocalClient


class NetworkBackend:
    """All interfaces of all guests, on one switch."""

    def __init__(self, privcmd: Privcmd, xenstore: LocalClient, switch: Switch) -> None:
        self._privcmd = privcmd
        self._xenstore = xenstore
        self._switch = switch
        self._devices: dict[DeviceAddress, XenbusBackend] = {}

    def attach(self, domid: int, devid: int, spec: NicSpec) -> None:
        """Give a guest an interface: write its keys, and serve it from now on.

        Args:
            devid: counts a guest's interfaces from 0.

        Raises:
            PvemuError: the guest has an interface of that number.
        """
        address = DeviceAddress("vif", domid, devid)
        if address in self._devices:
            raise PvemuError(f"domain {domid} has an interface {devid} already: give this one another number")
        mac = spec.mac or default_mac(domid, devid)
        add_device(
            self._xenstore,
            address,
            backend=backend_keys(spec, devid, mac),
            frontend=frontend_keys(devid, mac),
            read_only_frontend=read_only_frontend_keys(spec),
        )
        vif = Vif(self._privcmd, domid, self._switch)
        device = self._devices[address] = XenbusBackend(self._xenstore, address, vif)
        device.on_gone = lambda: self._forget(address)
        device.start()

    def detach(self, domid: int, devid: int, *, force: bool = False) -> None:
        """Take an interface away: ask the guest to let go, or, by force, at once. None there is no error."""
        address = DeviceAddress("vif", domid, devid)
        device = self._devices.get(address)
        if device is not None and force:
            device.destroy()
            self._forget(address)
        elif device is not None:
            device.go_offline()

    def detach_all(self, domid: int) -> None:
        """Take all interfaces of a guest away at once; for when it is destroyed."""
        for address in [each for each in self._devices if each.domid == domid]:
            self.detach(domid, address.devid, force=True)

    def _forget(self, address: DeviceAddress) -> None:
        del self._devices[address]
        remove_device(self._xenstore, address)
