"""The physical-to-machine map of a translated domain: which machine frame each guest frame is."""

from collections.abc import Callable, Iterator


class P2m:
    """Guest frames (gfn) that are memory, and what they are; any other gfn is a hole, or a device's.

    Attributes:
        watchers: called with a gfn after what it means has changed.
        grants: those that are frames of other domains, mapped by grant.
        changes: how many there have been.
        highest: the highest that ever was memory.
    """

    def __init__(self) -> None:
        self._machine: dict[int, int] = {}
        self._read_only: set[int] = set()
        self.grants: set[int] = set()
        self.changes = 0
        self.highest = 0
        self.watchers: list[Callable[[int], None]] = []
        #: The mfn of a gfn; None: no memory is there. The dictionary's own method, because every step of
        #: every walk asks it.
        self.get: Callable[[int], int | None] = self._machine.get

    def __len__(self) -> int:
        return len(self._machine)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._machine.items())

    def is_writable(self, gfn: int) -> bool:
        """Whether the guest may write a frame (a grant can be for reading only)."""
        return gfn not in self._read_only and gfn in self._machine

    def set(self, gfn: int, mfn: int, *, writable: bool = True, is_grant: bool = False) -> None:
        """Make a guest frame memory."""
        self._machine[gfn] = mfn
        self.highest = max(self.highest, gfn)
        if is_grant:
            self.grants.add(gfn)
        else:
            self.grants.discard(gfn)
        if writable:
            self._read_only.discard(gfn)
        else:
            self._read_only.add(gfn)
        self._tell(gfn)

    def clear(self, gfn: int) -> None:
        """Make a guest frame a hole."""
        self._read_only.discard(gfn)
        self.grants.discard(gfn)
        if self._machine.pop(gfn, None) is not None:
            self._tell(gfn)

    def drop(self) -> None:
        """The domain is being destroyed: nothing is memory any more, and nobody is told."""
        for kept in (self._machine, self._read_only, self.grants):
            kept.clear()

    def _tell(self, gfn: int) -> None:
        self.changes += 1
        for watch in self.watchers:
            watch(gfn)
