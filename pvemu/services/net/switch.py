"""A learning Ethernet switch: hands each frame to the ports behind which its receivers are."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from pvemu.services.net.frame import Frame

#: Addresses that the switch remembers; beyond it forgets the one it heard of longest ago.
MAX_ADDRESSES: Final = 1024
#: Nanoseconds for which it believes an address to be where it was last seen: 300 s, as Linux's bridge.
MAX_AGE: Final = 300_000_000_000
#: 01:80:c2:00:00:00 to 0f are for the switch itself (IEEE 802.1D); none ever passes one.
_LINK_LOCAL: Final = bytes.fromhex("0180c20000")
_NOBODY: Final = bytes(6)


class Port(Protocol):
    """Something that frames go to."""

    def deliver(self, frame: Frame) -> None:
        """Take a frame, or drop it; must not forward one before it returns."""


class _Place(NamedTuple):
    port: Port
    since: int


class Switch:
    """Connects ports.

    Args:
        now: the virtual clock in nanoseconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._ports: list[Port] = []
        self._places: dict[bytes, _Place] = {}
        self._observers: list[Callable[[Frame], None]] = []

    def attach(self, port: Port) -> None:
        """Let frames go to a port."""
        self._ports.append(port)

    def detach(self, port: Port) -> None:
        """Forget a port with all addresses behind it; one that is not attached is no error."""
        self._ports = [each for each in self._ports if each is not port]
        self._places = {address: place for address, place in self._places.items() if place.port is not port}

    def observe(self, observer: Callable[[Frame], None]) -> None:
        """Show every frame that comes in to an observer."""
        self._observers.append(observer)

    def forward(self, source: Port, frame: Frame) -> None:
        """Bring a frame from a port to where it belongs; of an unknown receiver, to all others."""
        for observer in self._observers:
            observer(frame)
        self._learn(frame.source, source)
        for port in self._receivers(frame.destination):
            if port is not source:
                port.deliver(frame)

    def _learn(self, address: bytes, port: Port) -> None:
        if address[0] & 1 or address == _NOBODY:
            return
        self._places.pop(address, None)
        self._places[address] = _Place(port, self._now())
        if len(self._places) > MAX_ADDRESSES:
            del self._places[next(iter(self._places))]

    def _receivers(self, address: bytes) -> Iterable[Port]:
        if address[:5] == _LINK_LOCAL and address[5] < 16:
            return ()
        place = self._places.get(address)
        if place is None or self._now() - place.since > MAX_AGE:
            return tuple(self._ports)
        return (place.port,)
