"""Somebody who takes all free memory of a machine, for tests of what happens without any."""

from typing import Self

from pvemu.abi.xen import DOMID_XEN
from pvemu.hypervisor.core import Hypervisor


class Hoard:
    """All free frames of a machine but some, until they are given back.

    Args:
        left: how many frames of the domains' heap stay free.
    """

    def __init__(self, hypervisor: Hypervisor, left: int = 0) -> None:
        self._hypervisor = hypervisor
        self._own = [hypervisor.allocate_xen_page() for _ in range(hypervisor.free_xen_frames)]
        heap = hypervisor.heap
        self._frames = [heap.allocate(DOMID_XEN) for _ in range(heap.free_frames - left)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Let others have it."""
        for mfn in self._own:
            self._hypervisor.free_xen_page(mfn)
        for mfn in self._frames:
            self._hypervisor.heap.free(mfn)
        self._own, self._frames = [], []
