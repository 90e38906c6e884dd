"""What a person asks for in a network interface, and the xenstore keys that follow from it."""

import re
from dataclasses import dataclass
from typing import Final

from pvemu.abi.errors import PvemuError

#: The prefix that belongs to Xen; the rest of an address is free.
_XENS: Final = "00:16:3e"
_USUAL_MTU: Final = 1500
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}")


@dataclass(frozen=True)
class NicSpec:
    """A network interface as a person describes it.

    Attributes:
        mac: the guest's address, `00:16:3e:12:34:56`; without one see `default_mac`.
        bridge: the name of the switch, for people to read.
        mtu: the largest packet in bytes that the guest is told to send.

    Raises:
        PvemuError: the address can't be a guest's, or the size is none.
    """

    mac: str | None = None
    bridge: str = "xenbr0"
    mtu: int = _USUAL_MTU

    def __post_init__(self) -> None:
        if self.mac is not None and not _MAC.fullmatch(self.mac):
            raise PvemuError(f"{self.mac!r} is no MAC address: write one like {_XENS}:12:34:56")
        if self.mac is not None and int(self.mac[:2], 16) & 1:
            raise PvemuError(f"{self.mac} is a group's MAC address: the first number must be even")
        if not 68 <= self.mtu <= 65535:
            raise PvemuError(f"an interface can't have an MTU of {self.mtu}: give one from 68 to 65535")


def default_mac(domid: int, devid: int) -> str:
    """An address that no other interface of the machine has, and is the same in every run."""
    return f"{_XENS}:{domid >> 8 & 0x7F:02x}:{domid & 0xFF:02x}:{devid & 0xFF:02x}"


def backend_keys(spec: NicSpec, devid: int, mac: str) -> dict[str, str]:
    """The keys that libxl writes to the back end's directory, with that of its hotplug script."""
    # libxl leaves out the usual size here.
    mtu = {} if spec.mtu == _USUAL_MTU else {"mtu": str(spec.mtu)}
    return {
        "script": "/etc/xen/scripts/vif-bridge",
        "mac": mac,
        **mtu,
        "bridge": spec.bridge,
        "handle": str(devid),
        "type": "vif",
        "hotplug-status": "connected",
    }


def frontend_keys(devid: int, mac: str) -> dict[str, str]:
    """The keys that libxl writes to the guest's directory."""
    return {"handle": str(devid), "mac": mac, "trusted": "1"}


def read_only_frontend_keys(spec: NicSpec) -> dict[str, str]:
    """The keys there that the guest may only read."""
    return {"mtu": str(spec.mtu)}
