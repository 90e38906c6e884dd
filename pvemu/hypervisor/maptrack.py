"""Handles of grant mappings: what a domain has mapped of others, numbered as Xen numbers it.

Handles come in pages of 256 from a list for each vCPU. The first free one is taken, one that is given back
goes to the end, and the last one of a list is never taken (recorded: grant_commands).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_PER_PAGE: Final = 256
#: Pages of handles that a domain may have (Xen's default of gnttab_max_maptrack_frames).
_MOST_PAGES: Final = 1024
#: Flags are kept in 16 bits, so the bits for the guest's own use are lost.
_FLAGS_MASK: Final = 0xFFFF


@dataclass(slots=True)
class Mapping:
    """What one handle stands for: a reference of the granting domain, and GNTMAP_* flags; 0: it is free."""

    vcpu: int
    granter: "Domain | None" = None
    ref: int = 0
    flags: int = 0


class Maptrack:
    """The handles of one domain."""

    def __init__(self) -> None:
        self._mappings: list[Mapping] = []
        self._free: dict[int, deque[int]] = {}

    def allocate(self, vcpu: int) -> int | None:
        """Take a handle for a vCPU; None when there are no more."""
        free = self._free.setdefault(vcpu, deque())
        if len(free) > 1:
            return free.popleft()
        handle = len(self._mappings)
        if handle < _MOST_PAGES * _PER_PAGE:
            self._mappings.extend(Mapping(vcpu) for _ in range(_PER_PAGE))
            free.extendleft(range(handle + _PER_PAGE - 1, handle, -1))
            return handle
        if not free:
            last = self._steal(vcpu)
            if last is None:
                return None
            free.append(last)
        return self._steal(vcpu)

    def _steal(self, thief: int) -> int | None:
        """A handle of another vCPU's that has enough. Xen begins at one by chance, we at the first."""
        for vcpu in sorted(self._free):
            if len(self._free[vcpu]) > 1:
                handle = self._free[vcpu].popleft()
                self._mappings[handle].vcpu = thief
                return handle
        return None

    def record(self, handle: int, granter: "Domain", ref: int, flags: int) -> None:
        """Say what a handle that was taken stands for."""
        mapping = self._mappings[handle]
        mapping.granter, mapping.ref, mapping.flags = granter, ref, flags & _FLAGS_MASK

    def get(self, handle: int) -> Mapping | None:
        """What a handle stands for, if anything."""
        if handle < len(self._mappings) and self._mappings[handle].flags:
            return self._mappings[handle]
        return None

    def release(self, handle: int) -> None:
        """Give a handle back."""
        mapping = self._mappings[handle]
        mapping.granter, mapping.flags = None, 0
        self._free[mapping.vcpu].append(handle)

    def clear(self) -> None:
        """Forget all handles."""
        self._mappings.clear()
        self._free.clear()

    def in_use(self) -> Iterator[tuple["Domain", Mapping]]:
        """Every mapping, the last handle first, and the domain that granted it."""
        for mapping in reversed(self._mappings):
            if mapping.flags and mapping.granter is not None:
                yield mapping.granter, mapping
