"""From the files and options of `pvemu run` to plans of guests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pvemu.abi.errors import PvemuError
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import DiskRequest, GuestConfig
from pvemu.toolstack.guest_file import as_source, guest_from, read_file
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.interface_spec import read_interface
from pvemu.toolstack.xl_config import looks_like_config, read_config


class Plans(NamedTuple):
    """Guests, and remarks about their files."""

    guests: list[GuestConfig]
    warnings: list[str]


class Options(NamedTuple):
    """What the command line says of guests that are kernels; a configuration file says it itself.

    None and nothing at all mean that an option was not given.
    """

    memory: int | None = None
    vcpus: int | None = None
    cmdline: str = ""
    disk: Sequence[str] = ()
    net: Sequence[str] = ()
    type: GuestKind | None = None
    paging: Paging | None = None

    @property
    def given(self) -> list[str]:
        """The names of those that were given."""
        return [f"--{name}" for name, value in self._asdict().items() if value]


def read_plans(files: Sequence[Path], options: Options) -> Plans:
    """The guests in files: kernels, guestkit source, or xl.cfg files; what a file holds decides.

    Raises:
        PvemuError: a file or an option is wrong.
        AssemblyError: source text has mistakes.
    """
    if not files:
        raise PvemuError("say which guest to run: `pvemu run FILE`, with a kernel, source or an xl.cfg file")
    plans = Plans([], [])
    for path in files:
        data = read_file(path)
        text = as_source(data)
        if text is not None and looks_like_config(text):
            if options.given:
                raise PvemuError(f"{path} says itself what {options.given[0]} says: write it there")
            config = read_config(path, text)
            plans.guests.append(config.guest)
            plans.warnings.extend(config.warnings)
            continue
        file = guest_from(path, data, options.type)
        plans.warnings.extend(file.warnings)
        plans.guests.append(_with_options(GuestConfig(file.image, name=path.stem), options))
    _name_apart(plans.guests)
    if len(plans.guests) > 1 and options.disk:
        raise PvemuError("--disk does not say whose disk it is: describe several guests in xl.cfg files")
    return plans


def _name_apart(guests: list[GuestConfig]) -> None:
    """Guests of the same file get names of their own."""
    names: set[str] = set()
    for index, guest in enumerate(guests):
        name, number = guest.name, 1
        while name in names:
            number += 1
            name = f"{guest.name}-{number}"
        names.add(name)
        guests[index] = replace(guest, name=name)


def _with_options(guest: GuestConfig, options: Options) -> GuestConfig:
    disks: list[DiskRequest] = []
    for text in options.disk:
        disks.append(read_disk(text, frozenset(disk.spec.vdev for disk in disks)))
    return replace(
        guest,
        memory=guest.memory if options.memory is None else options.memory,
        vcpus=guest.vcpus if options.vcpus is None else options.vcpus,
        command_line=options.cmdline,
        disks=tuple(disks),
        interfaces=tuple(read_interface(text) for text in options.net),
        kind=options.type,
        paging=options.paging,
    )
