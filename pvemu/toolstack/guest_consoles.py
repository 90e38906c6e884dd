"""Each guest's console: PV console, a PC's serial port, or both in one, and which of them gets the keys."""

from collections.abc import Callable
from dataclasses import dataclass

from pvemu.services.console import ConsoleService
from pvemu.services.device_model.serial import Serial
from pvemu.services.privcmd import Privcmd

Sink = Callable[[bytes], None]


@dataclass
class _SerialLine:
    """A guest's serial port; `gets_keys` while it is where the guest last printed, and at first."""

    port: Serial
    gets_keys: bool = True


class GuestConsoles:
    """The consoles of all guests.

    Keys go to the PV console, or to a guest's serial port if it has one, until it prints on its PV console.
    """

    def __init__(self, privcmd: Privcmd) -> None:
        self._rings = ConsoleService(privcmd)
        self._lines: dict[int, _SerialLine] = {}

    def attach(self, domid: int, frame: int, port: int, sink: Sink) -> None:
        """Serve a domain's PV console: its ring's machine frame, and the port it offers."""

        def from_ring(data: bytes) -> None:
            if domid in self._lines:
                self._lines[domid].gets_keys = False
            sink(data)

        self._rings.attach(domid, frame, port, from_ring)

    def attach_serial(self, domid: int, make: Callable[[Sink], Serial], sink: Sink) -> None:
        """Serve a domain's serial port, which `make` makes, given where to print."""

        def from_line(data: bytes) -> None:
            self._lines[domid].gets_keys = True
            sink(data)

        self._lines[domid] = _SerialLine(make(from_line))

    def detach(self, domid: int) -> None:
        """Serve a domain no more, after passing on what is left in its ring."""
        self._rings.detach(domid)
        self._lines.pop(domid, None)

    def type(self, domid: int, keys: bytes) -> None:
        """Type at a domain's console; a domain that has none does not mind."""
        line = self._line_for_keys(domid)
        if line is None:
            self._rings.type(domid, keys)
        else:
            line.type(keys)

    def holds_keys(self, domid: int) -> bool:
        """Whether a domain has not yet taken all that was typed."""
        line = self._line_for_keys(domid)
        return self._rings.holds_keys(domid) if line is None else line.holds_keys

    def printed(self, domid: int) -> int:
        """How many bytes a domain has written."""
        line = self._lines.get(domid)
        return self._rings.printed(domid) + (0 if line is None else line.port.printed)

    def serve(self, domid: int) -> None:
        """Look at the ring of a domain that has just run: it may have used it without ringing."""
        self._rings.serve(domid)

    def _line_for_keys(self, domid: int) -> Serial | None:
        line = self._lines.get(domid)
        return line.port if line is not None and line.gets_keys else None
