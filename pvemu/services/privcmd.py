"""The handle through which a service acts as a privileged domain, and all that it may ask for."""

from typing import Protocol


class Privcmd(Protocol):
    """What domain 0's privcmd and event-channel devices give a service."""

    def map_foreign(self, domid: int, mfn: int) -> memoryview:
        """A machine frame of another domain, to read and write."""

    def bind_interdomain(self, domid: int, port: int) -> int:
        """Bind to a port that a domain offers; the local port."""

    def notify(self, port: int) -> None:
        """Ring a local port."""
