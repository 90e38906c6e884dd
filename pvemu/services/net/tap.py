"""A port of the switch that is an interface of the host: a TAP device, for root on Linux."""

import errno
import fcntl
import os
import re
import struct
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.services.net.frame import ETHERNET_HEADER, PLAIN, Frame
from pvemu.services.net.offload import prepare
from pvemu.services.net.switch import Switch
from pvemu.services.outside import Outside

_DEVICE: Final = "/dev/net/tun"
# linux/if_tun.h: a frame is read and written as it is on the wire, without a header of the kernel's.
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")
#: Frames taken at once, so that a flood from outside can't keep guests from running.
_AT_ONCE: Final = 64
_LONGEST: Final = 0x10000
_REASONS: Final = {
    errno.ENOENT: f"this host has no {_DEVICE}: load the kernel module tun",
    errno.ENODEV: f"this host has no {_DEVICE}: load the kernel module tun",
    errno.EPERM: "only root may make one",
    errno.EACCES: "only root may make one",
    errno.EBUSY: "another program has it",
}


class Tap:
    """The host's interface `name`; made if there is none, and gone with `close` then.

    Raises:
        PvemuError: the name is none, or the host doesn't give us the interface.
    """

    def __init__(self, name: str, switch: Switch, outside: Outside) -> None:
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            raise PvemuError(f"{name!r} is no name of an interface: give 1 to 15 letters, digits, _, . or -")
        self._switch = switch
        self._outside = outside
        self._fd = _open(name)
        switch.attach(self)
        outside.watch(self, on_readable=self._receive)

    def fileno(self) -> int:
        """The descriptor that frames are read from."""
        return self._fd

    def deliver(self, frame: Frame) -> None:
        """Send a frame out; dropped when the host takes no more, or has the interface down."""
        for piece in prepare(frame, PLAIN):
            try:
                os.write(self._fd, piece.data)
            except OSError:
                return

    def close(self) -> None:
        """Leave the switch, and give the interface back."""
        self._outside.forget(self)
        self._switch.detach(self)
        os.close(self._fd)

    def _receive(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = os.read(self._fd, _LONGEST)
            except BlockingIOError:
                return
            except OSError:
                # The interface was removed under us, and every further look would say so again.
                self._outside.forget(self)
                return
            if len(data) >= ETHERNET_HEADER:
                self._switch.forward(self, Frame(data))


def _open(name: str) -> int:
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as cause:
        raise _refusal(name, cause) from cause
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError as cause:
        os.close(descriptor)
        raise _refusal(name, cause) from cause
    return descriptor


def _refusal(name: str, cause: OSError) -> PvemuError:
    reason = _REASONS.get(cause.errno or 0, cause.strerror)
    return PvemuError(f"can't use TAP interface {name}: {reason}")
