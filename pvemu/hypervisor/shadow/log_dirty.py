"""Log-dirty mode of a domain: what XEN_DOMCTL_shadow_op does, whichever kind of guest it is done to."""

from typing import Protocol

from pvemu.hypervisor.shadow.paging import Shadow

#: Cleaning clears whole pages of Xen's bitmap: so many frames at once.
FRAMES_A_LEAF = 1 << 15


class DirtyLogging(Protocol):
    """A domain's log of written pages, by their number in the domain (pfn)."""

    shadow: Shadow

    @property
    def is_on(self) -> bool:
        """Whether writes are noted."""
        ...

    @property
    def faults(self) -> int:
        """Page faults that were dealt with since the log was cleaned."""
        ...

    def start(self) -> None:
        """Note writes from now on."""
        ...

    def stop(self) -> None:
        """Note writes no more, and forget which there were."""
        ...

    def written(self) -> set[int]:
        """The pages written since the log was cleaned."""
        ...

    def clean(self, below: int) -> None:
        """Begin anew for the pages below a number."""
        ...


class ShadowLogging:
    """The log of a guest that runs on shadows, whose frames are logged by its own numbers of them."""

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow

    @property
    def is_on(self) -> bool:
        """Whether writes are noted."""
        return self.shadow.log is not None

    @property
    def faults(self) -> int:
        """Page faults that were dealt with since the log was cleaned."""
        return self.shadow.log.faults if self.shadow.log is not None else 0

    def start(self) -> None:
        """Note writes from now on."""
        self.shadow.start_log()

    def stop(self) -> None:
        """Note writes no more, and forget which there were."""
        self.shadow.stop_log()

    def written(self) -> set[int]:
        """The pages written since the log was cleaned."""
        return set() if self.shadow.log is None else set(self.shadow.log.frames)

    def clean(self, below: int) -> None:
        """Begin anew for the pages below a number."""
        for gfn in self.shadow.clean_log():
            if gfn >= below:
                self.shadow.mark_dirty(gfn)
