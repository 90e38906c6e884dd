"""Typing a text at a console as a patient person would: a line, then wait until the guest has answered."""

from typing import Final

from pvemu.hypervisor.core import Hypervisor
from pvemu.hypervisor.timers import Timer
from pvemu.toolstack.guest_consoles import GuestConsoles

#: Nanoseconds of virtual time between two keys, and how long the guest must be silent before the next line:
#: programs that look for a key to stop their output would swallow what is typed ahead.
_STROKE: Final = 10_000_000
_SILENCE: Final = 300_000_000
_LINE_ENDS: Final = b"\r\n"


class Typist:
    """Types a text, key by key, from when the machine runs."""

    def __init__(self, hypervisor: Hypervisor, consoles: GuestConsoles, domid: int, text: bytes) -> None:
        self._hypervisor, self._consoles, self._domid = hypervisor, consoles, domid
        self._left = bytearray(text)
        self._printed = -1
        self._silent = 0
        self._needed = _SILENCE
        self._timer = Timer(hypervisor.timers, self._stroke)
        self._set_timer()

    def _set_timer(self) -> None:
        hypervisor = self._hypervisor
        if self._left:
            self._timer.set(hypervisor.cycle_of(hypervisor.system_time() + _STROKE))

    def _stroke(self) -> None:
        printed = self._consoles.printed(self._domid)
        self._silent = self._silent + _STROKE if printed == self._printed else 0
        self._printed = printed
        if self._silent >= self._needed and not self._consoles.holds_keys(self._domid):
            key = self._left.pop(0)
            self._consoles.type(self._domid, bytes([key]))
            self._needed = _SILENCE if key in _LINE_ENDS else 0
            self._silent = 0
        self._set_timer()
