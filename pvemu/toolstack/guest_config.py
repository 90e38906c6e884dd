"""What a person asks for in a guest: the plan from which its domain is built, and built again."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.hypervisor.scheduler import DEFAULT_WEIGHT, MAX_WEIGHT
from pvemu.services.block.disk import DiskSpec
from pvemu.services.net.nic import NicSpec
from pvemu.toolstack.guest_kind import GuestKind, Paging

#: MiB of a guest of which nothing was said.
DEFAULT_MEMORY: Final = 128
DEFAULT_NAME: Final = "guest"
MOST_VCPUS: Final = 32
_WHOLE: Final = 100


class Action(Enum):
    """What becomes of a domain that has ended (xl.cfg: on_poweroff, on_reboot, on_crash)."""

    DESTROY = "destroy"
    RESTART = "restart"
    PRESERVE = "preserve"


@dataclass(frozen=True)
class DiskRequest:
    """A disk, and the guest whose back end serves it; None is domain 0."""

    spec: DiskSpec
    backend: str | None = None


@dataclass(frozen=True)
class GuestConfig:
    """One guest.

    Attributes:
        image: the kernel's bytes.
        memory: in MiB.
        weight, cap: its share of the processor, as the credit scheduler has them: 256 is usual; a cap in
            percent of a processor, 0 for none.
        driver_domain: it may run back ends for other guests.
        kind, paging: None: what fits the kernel, and what is usual for that.

    Raises:
        PvemuError: a number is out of range.
    """

    image: bytes
    name: str = DEFAULT_NAME
    memory: int = DEFAULT_MEMORY
    vcpus: int = 1
    command_line: str = ""
    module: bytes | None = None
    disks: tuple[DiskRequest, ...] = ()
    interfaces: tuple[NicSpec, ...] = ()
    weight: int = DEFAULT_WEIGHT
    cap: int = 0
    driver_domain: bool = False
    kind: GuestKind | None = None
    paging: Paging | None = None
    on_poweroff: Action = Action.DESTROY
    on_reboot: Action = Action.DESTROY
    on_crash: Action = Action.DESTROY

    def __post_init__(self) -> None:
        for what, value, least, most in (
            ("vcpus", self.vcpus, 1, MOST_VCPUS),
            ("cpu_weight", self.weight, 1, MAX_WEIGHT),
            ("cap", self.cap, 0, _WHOLE * self.vcpus),
        ):
            if not least <= value <= most:
                raise PvemuError(
                    f"{what} = {value} can't be: give {self.name} a number from {least} to {most}"
                )
