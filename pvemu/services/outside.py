"""The one gate between the machine and the outside: files and sockets whose readiness a service waits for."""

from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """Anything with a file descriptor."""

    def fileno(self) -> int:
        """The descriptor."""


class Outside(Protocol):
    """Where a service says which descriptors it waits for.

    Descriptors must not block. They are looked at between two turns of guests, and waited for when no guest
    can run.
    """

    def watch(
        self,
        source: Source,
        *,
        on_readable: Callable[[], None] | None = None,
        on_writable: Callable[[], None] | None = None,
    ) -> None:
        """Call what is given whenever the source is ready; replaces what was asked for it before."""

    def forget(self, source: Source) -> None:
        """Look at a source no more; must be called before it is closed."""
