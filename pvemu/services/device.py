"""Where a split device lives in xenstore, and the keys with which it comes and goes."""

from collections.abc import Mapping
from dataclasses import dataclass

from pvemu.abi.errors import PvemuError
from pvemu.abi.xenbus import XenbusStateInitialising
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.local_client import Keys, LocalClient


@dataclass(frozen=True)
class DeviceAddress:
    """One device of a guest: its kind (``vbd``, ``vif``), the guest, and the number it has there.

    `backend_domid` is the domain whose back end serves it.
    """

    kind: str
    domid: int
    devid: int
    backend_domid: int = 0

    @property
    def frontend(self) -> str:
        """The guest's directory."""
        return f"/local/domain/{self.domid}/device/{self.kind}/{self.devid}"

    @property
    def backend(self) -> str:
        """The directory of the domain that serves it."""
        return f"/local/domain/{self.backend_domid}/backend/{self.kind}/{self.domid}/{self.devid}"

    @property
    def toolstack(self) -> str:
        """The directory which libxl keeps for itself."""
        return f"/libxl/{self.domid}/device/{self.kind}/{self.devid}"

    @property
    def error(self) -> str:
        """The directory where the back end says why it gave up."""
        return f"/local/domain/{self.backend_domid}/error/backend/{self.kind}/{self.domid}/{self.devid}"


def add_device(
    xenstore: LocalClient,
    address: DeviceAddress,
    *,
    backend: Mapping[str, str],
    frontend: Mapping[str, str],
    read_only_frontend: Mapping[str, str] | None = None,
) -> None:
    """Write a device's keys, in one transaction, with the permissions that libxl gives them.

    The guest owns its directory and the back end's domain may read it; that one owns its own, and the guest
    may read that. What the guest may only read of its directory is domain 0's.

    Raises:
        PvemuError: xenstore takes no more for this guest, or a value is too long.
    """
    server = address.backend_domid
    guests = [f"n{address.domid}", f"r{server}"]
    ours, servers = ["n0", f"r{address.domid}"], [f"n{server}", f"r{address.domid}"]
    state = str(XenbusStateInitialising)
    back = {"frontend-id": str(address.domid), "online": "1", "state": state, **backend}
    front = {"backend-id": str(server), "state": state, **frontend}
    try:
        with xenstore.transaction() as store:
            for directory in (address.toolstack, address.frontend, address.backend):
                remove(store, directory)
            store.write(f"{address.toolstack}/frontend", address.frontend)
            store.write(f"{address.toolstack}/backend", address.backend)
            store.mkdir(address.frontend)
            store.set_permissions(address.frontend, guests)
            store.write(f"{address.frontend}/backend", address.backend)
            for keys, permissions in ((front, guests), (read_only_frontend or {}, ours)):
                for name, value in keys.items():
                    store.write(f"{address.frontend}/{name}", value)
                    store.set_permissions(f"{address.frontend}/{name}", permissions)
            store.mkdir(address.backend)
            store.set_permissions(address.backend, servers)
            store.write(f"{address.backend}/frontend", address.frontend)
            for directory in (address.backend, address.toolstack):
                for name, value in back.items():
                    store.write(f"{directory}/{name}", value)
    except XenstoreError as refused:
        raise PvemuError(
            f"xenstore takes no {address.kind} {address.devid} of domain {address.domid}: {refused}"
        ) from refused


def remove_device(xenstore: LocalClient, address: DeviceAddress) -> None:
    """Remove a device's keys, in one transaction, and the directories above that are left empty.

    A guest that serves others keeps the directory that it looks for them in.
    """
    kept = f"/local/domain/{address.backend_domid}/backend" if address.backend_domid else None
    with xenstore.transaction() as store:
        for directory in (address.frontend, address.toolstack, address.backend, address.error):
            remove(store, directory)
            parent = directory.rpartition("/")[0]
            # Three slashes: the directory of a domain itself stays.
            while parent.count("/") > 3 and parent != kept:
                if store.find(parent) is None or store.list(parent):
                    break
                store.rm(parent)
                parent = parent.rpartition("/")[0]


def remove(store: Keys, path: str) -> None:
    """Remove a node with all below it, if there is one."""
    if store.find(path) is not None:
        store.rm(path)
