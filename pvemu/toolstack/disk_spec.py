"""Reading a disk as xl.cfg and --disk describe it (xl-disk-configuration(5))."""

import re
from typing import Final, NamedTuple

from pvemu.abi.errors import PvemuError
from pvemu.services.block.disk import DiskSpec
from pvemu.services.block.vdev import vdev_number
from pvemu.toolstack.guest_config import DiskRequest

_FORMATS: Final = frozenset({"raw", "qcow", "qcow2", "vhd", "qed", "empty"})
_ACCESS: Final = {"r": False, "ro": False, "w": True, "rw": True}
_DEVTYPES: Final = {"disk": False, "cdrom": True}
#: Words before a colon that say how the host holds the image; here all are files.
_PREFIX: Final = re.compile(r"(?:raw|phy|file|tap2?|aio):")
_KEYS: Final = frozenset({"target", "format", "vdev", "access", "backend", "devtype"})
_SWITCHES: Final = frozenset({"overlay", "discard", "no-discard"})
_EXAMPLE: Final = "give FILE,xvda,w or format=raw,vdev=xvda,access=rw,target=FILE"
#: What a disk is called of which only the file was given: xvda, xvdb ...
_NAMES: Final = tuple(f"xvd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")


class _Words(NamedTuple):
    named: dict[str, str]
    switches: frozenset[str]


def read_disk(text: str, taken: frozenset[str] = frozenset()) -> DiskRequest:
    """The disk that a text describes; without a name it gets the first of xvda, xvdb ... that is not taken.

    Words are known by what they are: `raw` is a format, `r` and `w` are rights, `xvda` is a name; the first
    is the file. `overlay` keeps all changes in memory.

    Raises:
        PvemuError: with the word that is wrong, and an example.
    """
    words = _split(text)
    named = words.named
    if named.get("format", "raw") != "raw":
        raise PvemuError(
            f"disk {text!r}: {named['format']} images can't be read: convert it to raw with qemu-img"
        )
    target = _PREFIX.sub("", named.get("target", ""), count=1)
    if not target and "backend" not in named:
        raise PvemuError(f"disk {text!r} names no file: {_EXAMPLE}")
    access = named.get("access", "rw")
    if access not in _ACCESS:
        raise PvemuError(f"disk {text!r}: access is r or w, not {access!r}")
    devtype = named.get("devtype", "disk")
    if devtype not in _DEVTYPES:
        raise PvemuError(f"disk {text!r}: devtype is disk or cdrom, not {devtype!r}")
    vdev = named.get("vdev") or next((name for name in _NAMES if name not in taken), "")
    if not vdev:
        raise PvemuError(f"disk {text!r}: all names up to {_NAMES[-1]} are taken, so say what it is called")
    vdev_number(vdev)
    spec = DiskSpec(
        target,
        vdev,
        writable=_ACCESS[access] and not _DEVTYPES[devtype],
        overlay="overlay" in words.switches,
        cdrom=_DEVTYPES[devtype],
        discard="no-discard" not in words.switches,
    )
    return DiskRequest(spec, named.get("backend"))


def _split(text: str) -> _Words:
    named: dict[str, str] = {}
    switches = set()
    before, has_target, target = text.partition("target=")
    if has_target and (not before or before.rstrip().endswith(",")):
        named["target"] = target.strip()  # it may have commas in it, so it is the last
        text = before
    for position, raw in enumerate(text.split(",")):
        word = raw.strip()
        key, equals, value = (part.strip() for part in word.partition("="))
        if not word:
            continue
        if equals and key in _KEYS:
            kind = key
        elif position == 0 and "target" not in named:
            kind, value = "target", word
        elif word in _SWITCHES:
            switches.add(word)
            continue
        else:
            kind, value = _kind_of(word, named), word
        if kind in named:
            raise PvemuError(f"disk {text!r} says its {kind} twice: {_EXAMPLE}")
        named[kind] = value
    return _Words(named, frozenset(switches))


def _kind_of(word: str, named: dict[str, str]) -> str:
    if word in _FORMATS and "format" not in named:
        return "format"
    if word in _ACCESS:
        return "access"
    if word in _DEVTYPES:
        return "devtype"
    return "vdev"  # whether it is one, `vdev_number` says
