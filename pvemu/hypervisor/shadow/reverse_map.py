"""Reverse maps: from a machine frame to the shadow_l1es that map it."""

from collections.abc import Iterator


class ReverseMap:
    """Places of shadow_l1es by the frame they map; a place is an index into RAM as 64-bit words."""

    def __init__(self) -> None:
        self._places: dict[int, set[int]] = {}

    def add(self, mfn: int, place: int) -> None:
        """A shadow_l1e maps a frame from now on."""
        found = self._places.get(mfn)
        if found is None:
            self._places[mfn] = {place}
        else:
            found.add(place)

    def remove(self, mfn: int, place: int) -> None:
        """A shadow_l1e maps a frame no more."""
        found = self._places[mfn]
        found.discard(place)
        if not found:
            del self._places[mfn]

    def places(self, mfn: int) -> tuple[int, ...]:
        """The shadow_l1es that map a frame now."""
        return tuple(self._places.get(mfn, ()))

    def frames(self) -> tuple[int, ...]:
        """The frames that any shadow_l1e maps now."""
        return tuple(self._places)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Every frame with every place that maps it."""
        return ((mfn, place) for mfn, places in self._places.items() for place in places)
