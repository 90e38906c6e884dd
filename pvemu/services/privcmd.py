"""The handle through which a service acts as a privileged domain, and all that it may ask for."""

from collections.abc import Callable
from typing import Protocol


class Privcmd(Protocol):
    """What domain 0's privcmd, event-channel and grant devices give a service.

    A service is called when something happens, does what can be done at once, and returns. Its handlers run
    between two turns of guests, so nothing changes under its hands but by its own doing.
    """

    def map_foreign(self, domid: int, mfn: int) -> memoryview:
        """A machine frame of another domain, to read and write; raises PvemuError."""

    def bind_interdomain(self, domid: int, port: int, handler: Callable[[], None]) -> int:
        """Bind to a port that a domain offers; the local port. Each of its events calls `handler`.

        Raises:
            HypercallError: as EVTCHNOP_bind_interdomain does.
        """

    def notify(self, port: int) -> None:
        """Ring a local port; one that is no more bound is no error."""

    def close_port(self, port: int) -> None:
        """Free a local port; one that is free already is no error."""

    def map_grant(self, domid: int, reference: int, *, writable: bool) -> tuple[int, memoryview]:
        """Map a frame that a domain grants to domain 0: a handle to unmap it by, and its bytes.

        Raises:
            GrantRefused: with the GNTST_* status.
        """

    def unmap_grant(self, handle: int) -> None:
        """Give a mapped grant back; its memoryview must not be used any more."""

    def copy_from_grant(self, domid: int, reference: int, offset: int, size: int) -> bytes:
        """Bytes out of a granted frame (GNTTABOP_copy); raises GrantRefused."""

    def copy_to_grant(self, domid: int, reference: int, offset: int, data: bytes) -> None:
        """Bytes into a granted frame (GNTTABOP_copy); raises GrantRefused."""
