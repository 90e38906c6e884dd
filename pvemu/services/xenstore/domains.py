"""The domains that the store knows: those it talks to, and those that nodes and permissions name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pvemu.services.xenstore.ring_transport import RingTransport

#: Numbers from here on (DOMID_FIRST_RESERVED) are no domain's.
FIRST_RESERVED: Final = 0x7FF0


@dataclass(eq=False)
class KnownDomain:
    """What the store keeps about a domain.

    Attributes:
        generation: the store's generation when the domain was first heard of. Permissions that are older
            meant an earlier domain of this number.
        nodes: how many nodes it owns.
        ring: how the store talks to it, once it was introduced.
        has_shut_down: @releaseDomain was fired for its shutdown.
    """

    domid: int
    generation: int
    nodes: int = 0
    ring: "RingTransport | None" = None
    has_shut_down: bool = False


class Domains:
    """All known domains by number.

    Args:
        exists: whether the hypervisor has a domain of this number.
    """

    def __init__(self, exists: Callable[[int], bool]) -> None:
        self._exists = exists
        self._known: dict[int, KnownDomain] = {0: KnownDomain(0, 0)}

    def find(self, domid: int) -> KnownDomain | None:
        """A domain that the store has heard of."""
        return self._known.get(domid)

    def learn(self, domid: int, generation: int) -> KnownDomain | None:
        """The same, but one that the store hears of now becomes known; None when there is no such domain."""
        known = self._known.get(domid)
        if known is None and 0 <= domid < FIRST_RESERVED and self._exists(domid):
            known = self._known[domid] = KnownDomain(domid, generation)
        return known

    def forget(self, domid: int) -> None:
        """A domain is gone."""
        self._known.pop(domid, None)

    def means(self, domid: int, generation: int) -> bool:
        """Whether a permission written at a generation means the domain that has this number now."""
        known = self._known.get(domid)
        return known is not None and known.generation <= generation

    def is_introduced(self, domid: int) -> bool:
        """Whether the store talks to a domain; domain 0 needs no introduction."""
        known = self._known.get(domid)
        return known is not None and (domid == 0 or known.ring is not None)
