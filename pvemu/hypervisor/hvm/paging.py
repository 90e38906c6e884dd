"""What the two ways of paging an HVM guest have in common: the interface to the rest of the hypervisor."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from pvemu.cpu import exits

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: Exits that only shadow paging needs: the guest's own tables are not the processor's.
SHADOW_EXITS: Final = (
    *(exits.READ_CR + 0, exits.READ_CR + 3, exits.READ_CR + 4),
    *(exits.WRITE_CR + 3, exits.INVLPG),
)


class Paging(Protocol):
    """How a domain's memory is kept apart from that of others."""

    name: str
    #: Whether the processor has the guest's own CR3, which it then writes without an exit.
    has_guest_cr3: bool
    #: Asked before accessed or dirty is set in a guest frame: whether the guest could write it.
    may_mark: Callable[[int], bool]

    def engine_registers(self, cr0: int, cr4: int, efer: int) -> tuple[int, int, int]:
        """CR0, CR4 and EFER as the processor has them, when the guest has given them these values."""
        ...

    def enter(self, vcpu: "Vcpu") -> None:
        """A vCPU was loaded onto the processor: make its tables the ones in use."""
        ...

    def mode_changed(self, vcpu: "Vcpu") -> None:
        """CR0, CR4 or EFER have changed so that paging works otherwise; the vCPU is loaded."""
        ...

    def root_changed(self, vcpu: "Vcpu") -> None:
        """CR3 was written (perhaps with what it was); the vCPU is loaded."""
        ...

    def invalidate(self, vcpu: "Vcpu", address: int) -> None:
        """INVLPG; the vCPU is loaded."""
        ...

    def page_fault(self, vcpu: "Vcpu", address: int, error_code: int) -> bool:
        """Whether a page fault was not the guest's, and is dealt with."""
        ...

    def nested_page_fault(self, vcpu: "Vcpu") -> bool:
        """Whether a nested page fault was one of paging itself, and is dealt with."""
        ...

    def guest_wrote(self, gfn: int, offset: int, size: int) -> None:
        """The hypervisor wrote guest memory on the guest's behalf."""
        ...

    def release(self) -> None:
        """Give back all frames; no vCPU will run any more."""
        ...
