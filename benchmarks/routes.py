"""The routes by which a kernel gets a privileged job done, from the bare processor to PVHVM."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from pvemu.toolstack.guest_kind import Paging


class Route(Enum):
    """One route. Its value is its name on the command line and in files."""

    NATIVE = "native"
    TRAP = "trap"
    INT = "int-0x82"
    PAGE = "hypercall-page"
    MULTICALL = "multicall-32"
    BATCH_8 = "batch-8"
    BATCH_32 = "batch-32"
    BATCH_128 = "batch-128"
    SHARED = "shared-memory"
    SHADOW = "hvm-shadow"
    NESTED = "hvm-nested"
    PVHVM = "pvhvm"


@dataclass(frozen=True)
class Setting:
    """What a route needs.

    Attributes:
        title: the route in words.
        target: what its guests are assembled for (guestkit's targets).
        paging: how its memory is kept apart; None: there is no hypervisor at all.
        batch: how many requests go together, where there is a choice.
    """

    title: str
    target: str
    paging: Paging | None
    batch: int = 1

    @property
    def is_bare(self) -> bool:
        """Whether the guest has the processor to itself."""
        return self.paging is None


_PV: Final = "pv32"
_HVM: Final = "hvm32"

#: Every route, in the order of all tables.
SETTINGS: Final[dict[Route, Setting]] = {
    Route.NATIVE: Setting("ring 0 of the bare processor", _HVM, None),
    Route.TRAP: Setting("ring 1, trapped and emulated", _PV, Paging.DIRECT),
    Route.INT: Setting("hypercall by int 0x82", _PV, Paging.DIRECT),
    Route.PAGE: Setting("hypercall by the hypercall page", _PV, Paging.DIRECT),
    Route.MULTICALL: Setting("32 hypercalls in a multicall", _PV, Paging.DIRECT, 32),
    Route.BATCH_8: Setting("8 requests in a hypercall", _PV, Paging.DIRECT, 8),
    Route.BATCH_32: Setting("32 requests in a hypercall", _PV, Paging.DIRECT, 32),
    Route.BATCH_128: Setting("128 requests in a hypercall", _PV, Paging.DIRECT, 128),
    Route.SHARED: Setting("a write to shared memory", _PV, Paging.DIRECT),
    Route.SHADOW: Setting("HVM under shadow paging", _HVM, Paging.SHADOW),
    Route.NESTED: Setting("HVM under nested paging", _HVM, Paging.NESTED),
    Route.PVHVM: Setting("HVM that makes hypercalls", _HVM, Paging.NESTED),
}

#: The routes as the guests know them: constants ROUTE_NATIVE, ROUTE_TRAP ...
NUMBERS: Final[dict[str, int]] = {f"ROUTE_{route.name}": number for number, route in enumerate(Route)}


def defines(route: Route) -> dict[str, int]:
    """The constants that tell a guest its route."""
    return {**NUMBERS, "ROUTE": NUMBERS[f"ROUTE_{route.name}"], "BATCH": SETTINGS[route].batch}
