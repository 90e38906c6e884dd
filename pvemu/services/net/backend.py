"""The network back end of domain 0: attaches interfaces to guests, and detaches them."""

from pvemu.abi.errors import PvemuError
from pvemu.services.device import DeviceAddress, add_device
from pvemu.services.device_backend import DeviceBackend
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
from pvemu.services.xenstore.local_client import LocalClient


class NetworkBackend(DeviceBackend):
    """All interfaces of all guests, on one switch."""

    kind = "vif"

    def __init__(self, privcmd: Privcmd, xenstore: LocalClient, switch: Switch) -> None:
        super().__init__(xenstore)
        self._privcmd = privcmd
        self._switch = switch

    def attach(self, domid: int, devid: int, spec: NicSpec) -> None:
        """Give a guest an interface: write its keys, and serve it from now on.

        Args:
            devid: counts a guest's interfaces from 0.

        Raises:
            PvemuError: the guest has an interface of that number.
        """
        address = DeviceAddress(self.kind, domid, devid)
        if self.serves(address):
            raise PvemuError(f"domain {domid} has an interface {devid} already: give this one another number")
        mac = spec.mac or default_mac(domid, devid)
        add_device(
            self._xenstore,
            address,
            backend=backend_keys(spec, devid, mac),
            frontend=frontend_keys(devid, mac),
            read_only_frontend=read_only_frontend_keys(spec),
        )
        self.serve(address, Vif(self._privcmd, domid, self._switch))
