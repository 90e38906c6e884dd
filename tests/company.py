"""Several guests on one machine, run until all have ended, for tests of what guests do together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guestkit import assemble_file
from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.services.net.nic import NicSpec
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.machine import Result

MEMORY = 8


@dataclass(frozen=True)
class Played:
    """How a run ended, and what each guest has printed."""

    result: Result
    texts: list[str]


def plan(source: Path, *, disks: Sequence[str] = (), network: bool = False, **options: Any) -> GuestConfig:
    """A guest of DSL source; disks as --disk describes them, options as GuestConfig has them."""
    config = GuestConfig(
        assemble_file(source).elf,
        name=source.stem,
        memory=MEMORY,
        disks=tuple(read_disk(disk) for disk in disks),
        interfaces=(NicSpec(),) if network else (),
    )
    return replace(config, **options)


def play(*plans: GuestConfig, machine_options: Any, **options: Any) -> Played:
    """Run guests for up to 20 virtual seconds; all of the hypervisor's counts are right afterwards."""
    texts = [bytearray() for _ in plans]
    sinks = [text.extend for text in texts]
    with Machine(plans, consoles=sinks, **options, **machine_options) as machine:
        result = machine.run(seconds=20)
        Auditor(machine.hypervisor).audit()
    return Played(result, [text.decode() for text in texts])
