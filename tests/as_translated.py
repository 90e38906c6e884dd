"""Guests that were written for direct paging, made such as can be auto-translated, too."""

import re
from pathlib import Path
from typing import Any

from guestkit import assemble
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import DiskRequest, GuestConfig
from pvemu.toolstack.guest_kind import Paging

#: The guest line of a source, and behind it what makes the library ask whether it is auto-translated.
_LINE = re.compile(r'^(guest "[^"]*")(.*)$', re.MULTILINE)
_NEW_LINE = r'\1, features="auto_translated_physmap"\2\nAUTO_TRANSLATED equ 1'


def with_feature(text: str) -> str:
    """A source that says that its kernel can be auto-translated."""
    changed, count = _LINE.subn(_NEW_LINE, text)
    assert count == 1
    return changed


def shadowed(source: Path, *, disks: tuple[str, ...] = (), **options: Any) -> GuestConfig:
    """A guest of DSL source that is auto-translated, with disks as --disk describes them."""
    text = source.read_text()
    image = assemble(text if "AUTO_TRANSLATED" in text else with_feature(text), filename=str(source))
    return GuestConfig(
        image.elf,
        name=source.stem,
        paging=Paging.SHADOW,
        disks=tuple(DiskRequest(read_disk(disk).spec, read_disk(disk).backend) for disk in disks),
        **{"memory": 16, **options},
    )
