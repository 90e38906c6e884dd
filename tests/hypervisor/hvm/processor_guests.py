"""Boots the guests of the folder `processor`, which tell what their processor does."""

from pathlib import Path
from typing import Final

from guestkit import assemble_file
from pvemu import Machine
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

FOLDER: Final = Path(__file__).resolve().parent / "processor"
_MEMORY: Final = 16
#: Of virtual time; each of the guests takes less than half of it.
_SECONDS: Final = 0.05


def lines_of(
    name: str, paging: Paging, options: dict[str, str], *, seconds: float = _SECONDS, vcpus: int = 1
) -> tuple[list[str], Outcome]:
    """What a guest prints, and how it ends, or that it has not ended in time."""
    image = assemble_file(FOLDER / f"{name}.gk").elf
    config = GuestConfig(image=image, name=name, memory=_MEMORY, paging=paging, vcpus=vcpus)
    with Machine([config], **options) as machine:  # type: ignore[arg-type]
        outcome = machine.run(seconds=seconds).outcome
        return machine.console_bytes.decode().splitlines(), outcome
