"""The back end's half of a split device's life in xenstore (public header io/xenbus.h)."""

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pvemu.abi.errno import Errno
from pvemu.abi.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
    XenbusStateInitWait,
    XenbusStateUnknown,
)
from pvemu.services.device import DeviceAddress, remove
from pvemu.services.xenstore.local_client import LocalClient, LocalWatch

#: What a state of the front end makes us head for; 2 asks for nothing, what isn't here is an error.
_HEADING: Final[Mapping[int, int | None]] = {
    XenbusStateUnknown: XenbusStateClosed,
    XenbusStateInitialising: XenbusStateInitWait,
    XenbusStateInitWait: None,
    XenbusStateInitialised: XenbusStateConnected,
    XenbusStateConnected: XenbusStateConnected,
    XenbusStateClosing: XenbusStateClosing,
    XenbusStateClosed: XenbusStateClosed,
}
#: The next state on the way from one to another: a front end that starts anew without a word, as after
#: a crash, finds us going through Closing and Closed, as one that says goodbye does.
_STEPS: Final[Mapping[int, Mapping[int, int]]] = {
    XenbusStateInitialising: dict.fromkeys(
        (XenbusStateInitWait, XenbusStateConnected, XenbusStateClosing, XenbusStateClosed),
        XenbusStateInitWait,
    ),
    XenbusStateInitWait: {
        XenbusStateConnected: XenbusStateConnected,
        XenbusStateClosing: XenbusStateClosing,
        XenbusStateClosed: XenbusStateClosing,
    },
    XenbusStateConnected: dict.fromkeys(
        (XenbusStateInitWait, XenbusStateClosing, XenbusStateClosed), XenbusStateClosing
    ),
    XenbusStateClosing: dict.fromkeys(
        (XenbusStateInitWait, XenbusStateConnected, XenbusStateClosed), XenbusStateClosed
    ),
    XenbusStateClosed: {
        XenbusStateInitWait: XenbusStateInitWait,
        XenbusStateConnected: XenbusStateInitWait,
        XenbusStateClosing: XenbusStateClosing,
    },
}
_NUMBER: Final = re.compile(rb"\s*([0-9]+)")


class CannotConnect(Exception):
    """What a front end offers can't be used; told to it in xenstore."""

    def __init__(self, errno: Errno, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno


class Driver(Protocol):
    """What a kind of device does when its connection is made and ends."""

    def features(self) -> Mapping[str, str]:
        """What to publish before front ends look at us."""

    def connect(self, bus: "XenbusBackend") -> Mapping[str, str]:
        """Take up what the front end has published; what to publish with state Connected.

        Raises:
            CannotConnect: nothing of the connection is left.
        """

    def connected(self) -> None:
        """Look at what the front end has asked for already, now that it can see us connected."""

    def disconnect(self) -> None:
        """Give back all that connect took; does nothing when there is no connection."""

    def close(self) -> None:
        """The device is gone for good."""


class XenbusBackend:
    """One device: follows the front end's state, and leads its driver through the connection's life.

    The front end's keys are the guest's, and may change or go at any time: all that is read there is checked,
    and what can't be used ends in state Closing with the reason in ``error/backend/...``, as Linux writes it.
    """

    def __init__(self, xenstore: LocalClient, address: DeviceAddress, driver: Driver) -> None:
        self.address = address
        self._xenstore = xenstore
        self._driver = driver
        self._watch: LocalWatch | None = None
        #: XenbusState* of our end, as we last set it; the toolstack may have written another.
        self.state = XenbusStateInitialising
        #: Called when the device is gone: closed at both ends after it was taken offline.
        self.on_gone: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Publish the features, go to InitWait, and from now on follow the front end."""
        self._publish(self._driver.features())
        self._switch(XenbusStateInitWait)
        self._watch = self._xenstore.watch(f"{self.address.frontend}/state", self._front_end_changed)

    def go_offline(self) -> None:
        """Ask the front end to close, as libxl does to unplug a device; `on_gone` is called when it has."""
        self._write("online", "0")
        self._write("state", str(XenbusStateClosing))
        if self.state != XenbusStateConnected:
            self._head_for(XenbusStateClosed)

    def destroy(self) -> None:
        """End it all at once, whatever the front end does."""
        if self._watch is not None:
            self._watch.cancel()
        self._driver.disconnect()
        self._driver.close()

    def fail(self, errno: Errno, reason: str) -> None:
        """End a connection that can't go on, and say why."""
        self._driver.disconnect()
        error = f"{self.address.error}/error"
        self._xenstore.write(error, f"{int(errno)} {reason}")
        self._switch(XenbusStateClosing)

    def front_text(self, name: str) -> str | None:
        """What the front end published by that name; None if nothing."""
        value = self._xenstore.find(f"{self.address.frontend}/{name}")
        return None if value is None else value.decode("ascii", "replace")

    def front_number(self, name: str, default: int | None = None) -> int:
        """A number that the front end published: the digits that the value begins with, below 2^32.

        Raises:
            CannotConnect: there is none, and no default.
        """
        value = self._xenstore.find(f"{self.address.frontend}/{name}")
        if value is None:
            if default is None:
                raise CannotConnect(Errno.ENOENT, f"reading {self.address.frontend}/{name}")
            return default
        return self._number(name, value)

    def front_flag(self, name: str) -> bool:
        """Whether the front end has a feature: a number other than 0; what isn't a number counts as 0."""
        match = _NUMBER.match(self._xenstore.find(f"{self.address.frontend}/{name}") or b"")
        return match is not None and match[1].strip(b"0") != b""

    def _number(self, name: str, value: bytes) -> int:
        match = _NUMBER.match(value)
        # A value has up to 4096 bytes: look at its length before making a number of it.
        digits = b"" if match is None else match[1].lstrip(b"0") or b"0"
        if not 0 < len(digits) <= 10 or int(digits) > 0xFFFFFFFF:
            raise CannotConnect(Errno.EINVAL, f"reading {self.address.frontend}/{name}")
        return int(digits)

    def _front_end_changed(self, _path: str) -> None:
        try:
            state = self.front_number("state", default=XenbusStateUnknown)
        except CannotConnect as unreadable:
            self.fail(unreadable.errno, str(unreadable))
            return
        if state not in _HEADING:
            self.fail(Errno.EINVAL, f"saw state {state} at frontend")
            return
        heading = _HEADING[state]
        if heading is not None:
            self._head_for(heading)

    def _head_for(self, heading: int) -> None:
        while self.state != heading:
            step = _STEPS[self.state][heading]
            if self.state == XenbusStateConnected:
                self._driver.disconnect()
            if step == XenbusStateConnected:
                try:
                    self._publish(self._driver.connect(self))
                except CannotConnect as cause:
                    self.fail(cause.errno, str(cause))
                    return
            if step == XenbusStateInitWait:
                remove(self._xenstore, self.address.error)
            self._switch(step)
            if step == XenbusStateConnected:
                # What it finds may end the connection at once; then we don't try again by ourselves.
                self._driver.connected()
                return
        if self.state == XenbusStateClosed and not self._online():
            self.destroy()
            self.on_gone()

    def _online(self) -> bool:
        return self._xenstore.find(f"{self.address.backend}/online") == b"1"

    def _switch(self, state: int) -> None:
        self.state = state
        # The toolstack may have taken the device away already: don't bring its keys back.
        if self._xenstore.find(f"{self.address.backend}/state") is not None:
            self._write("state", str(state))

    def _publish(self, keys: Mapping[str, str]) -> None:
        for name, value in keys.items():
            self._write(name, value)

    def _write(self, name: str, value: str) -> None:
        self._xenstore.write(f"{self.address.backend}/{name}", value)
