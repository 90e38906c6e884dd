"""Reading a network interface as xl.cfg and --net describe it (xl-network-configuration(5))."""

from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.services.net.nic import NicSpec

_KEYS: Final = frozenset({"mac", "bridge", "mtu", "type"})
#: Settings of xl.cfg that change nothing here.
_IGNORED: Final = frozenset({"script", "model", "vifname", "ip", "rate", "devid"})
#: An interface of which nothing needs to be said.
_PLAIN: Final = "auto"
_EXAMPLE: Final = "give mac=00:16:3e:00:00:01,bridge=xenbr0, or auto"


def read_interface(text: str) -> NicSpec:
    """The interface that a text describes.

    Raises:
        PvemuError: with the word that is wrong, and an example.
    """
    named: dict[str, str] = {}
    for raw in text.split(","):
        word = raw.strip()
        key, equals, value = (part.strip() for part in word.partition("="))
        if not word or word == _PLAIN or (equals and key in _IGNORED):
            continue
        if not equals or key not in _KEYS:
            raise PvemuError(f"interface {text!r}: {word!r} is no setting: {_EXAMPLE}")
        named[key] = value
    if named.get("type", "vif") != "vif":
        raise PvemuError(f"interface {text!r}: only type=vif can be had here: {_EXAMPLE}")
    settings: dict[str, str] = {key: named[key] for key in ("mac", "bridge") if named.get(key)}
    mtu = named.get("mtu", "1500")
    if not mtu.isdecimal():
        raise PvemuError(f"interface {text!r}: {mtu!r} is no number of bytes: {_EXAMPLE}")
    return NicSpec(**settings, mtu=int(mtu))
