"""Reading xl.cfg files: the guests of Xen's own toolstack (xl.cfg(5))."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from lark import Lark, Token, Transformer, UnexpectedInput

from pvemu.abi.errors import PvemuError
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import Action, DiskRequest, GuestConfig
from pvemu.toolstack.guest_file import read_guest
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.interface_spec import read_interface

Value = int | str | list[Any]

_ASSIGNMENT: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*\+?=")

#: What the key `builder` meant before there was `type`.
_BUILDERS: Final = {"generic": GuestKind.PV, "linux": GuestKind.PV, "hvm": GuestKind.HVM}


class ConfigFile(NamedTuple):
    """A guest that was read, and remarks about what in its file has no effect."""

    guest: GuestConfig
    warnings: tuple[str, ...]


class _Values(Transformer[Token, dict[str, Value]]):
    def string(self, parts: list[Token]) -> str:
        return parts[0][1:-1]

    def number(self, parts: list[Token]) -> int:
        text = str(parts[0])
        return int(text, 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" else 10)

    def listing(self, parts: list[Value | None]) -> list[Value]:
        return [part for part in parts if part is not None]

    def assignment(self, parts: list[Any]) -> tuple[str, Value]:
        return str(parts[0]), parts[1]

    def start(self, parts: list[tuple[str, Value]]) -> dict[str, Value]:
        return dict(parts)


@cache
def _parser() -> Lark:
    return Lark.open("xl_config.lark", rel_to=__file__, parser="lalr", transformer=_Values())


def looks_like_config(text: str) -> bool:
    """Whether a text is an xl.cfg file and not source of guestkit, where no statement is NAME = VALUE.

    It begins with one, or one says which kernel to run.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assigned = [_ASSIGNMENT.match(line) for line in lines]
    return bool(assigned and assigned[0]) or any(found and found[1] == "kernel" for found in assigned)


def read_config(path: Path, text: str) -> ConfigFile:
    """The guest that an xl.cfg file describes. Relative names in it are looked for beside it.

    Raises:
        PvemuError: with file and line, or the key, that is wrong.
        AssemblyError: its kernel is source text with mistakes.
    """
    try:
        values: Mapping[str, Value] = _parser().parse(text + "\n")  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise PvemuError(
            f"{path}:{error.line}:{error.column}: that is no xl.cfg line: write NAME = VALUE, "
            'with a number, a "string" or a [list]'
        ) from error
    except ValueError as error:
        raise PvemuError(f"{path}: a number that begins with 0 is octal ({error})") from error
    return _Reader(path, values).read()


class _Reader:
    """The values of one file, asked for one after the other; what nobody asks for is remarked upon."""

    def __init__(self, path: Path, values: Mapping[str, Value]) -> None:
        self._path, self._values = path, values
        self._asked: set[str] = set()

    def read(self) -> ConfigFile:
        kind = self._kind()
        kernel = self._text("kernel")
        if not kernel:
            raise PvemuError(f'{self._path}: say which kernel to run, as in kernel = "grub-i386-xen.bin"')
        file = read_guest(self._beside(kernel), kind)
        ramdisk = self._text("ramdisk")
        extra, root = self._text("extra"), self._text("root")
        line = self._text("cmdline") or " ".join(filter(None, (root and f"root={root}", extra)))
        disks: list[DiskRequest] = []
        for text in self._texts("disk"):
            disks.append(self._disk(text, frozenset(disk.spec.vdev for disk in disks)))
        guest = GuestConfig(
            file.image,
            name=self._text("name") or self._path.stem,
            memory=self._number("memory", 128),
            vcpus=self._number("vcpus", 1),
            command_line=line,
            module=self._read_bytes(ramdisk) if ramdisk else None,
            disks=tuple(disks),
            interfaces=tuple(read_interface(text) for text in self._texts("vif")),
            weight=self._number("cpu_weight", 256),
            cap=self._number("cap", 0),
            driver_domain=bool(self._number("driver_domain", 0)),
            kind=kind,
            paging=self._paging(kind),
            on_poweroff=self._action("on_poweroff", Action.DESTROY),
            on_reboot=self._action("on_reboot", Action.RESTART),
            on_crash=self._action("on_crash", Action.DESTROY),
        )
        unknown = sorted(set(self._values) - self._asked)
        remarks = (f"{self._path}: {key} has no effect here" for key in unknown)
        return ConfigFile(guest, (*file.warnings, *remarks))

    def _kind(self) -> GuestKind | None:
        """What `type` says, or in older files `builder`; None: the kernel may decide."""
        said = self._word("type", [kind.value for kind in GuestKind], "")
        builder = self._word("builder", _BUILDERS, "")
        kinds = {GuestKind(said)} if said else set[GuestKind]()
        if builder:
            kinds.add(_BUILDERS[builder])
        if len(kinds) > 1:
            raise PvemuError(f"{self._path}: type and builder contradict each other: leave builder out")
        return kinds.pop() if kinds else None

    def _paging(self, kind: GuestKind | None) -> Paging | None:
        """What `hap` says; for a PV guest it says nothing."""
        if kind is GuestKind.PV or "hap" not in self._values:
            return None
        return Paging.NESTED if self._number("hap", 1) else Paging.SHADOW

    # --- values of one type ----------------------------------------------------------------------

    def _get(self, key: str, kind: type, wanted: str) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is not None and not isinstance(value, kind):
            raise PvemuError(f"{self._path}: {key} must be {wanted}")
        return value

    def _text(self, key: str) -> str:
        return self._get(key, str, f'a string, as in {key} = "..."') or ""

    def _number(self, key: str, default: int) -> int:
        value = self._get(key, int, f"a number, as in {key} = 1")
        return default if value is None else value

    def _texts(self, key: str) -> list[str]:
        wanted = f'a list of strings, as in {key} = ["..."]'
        values: list[Any] = self._get(key, list, wanted) or []
        if not all(isinstance(value, str) for value in values):
            raise PvemuError(f"{self._path}: {key} must be {wanted}")
        return values

    def _word(self, key: str, choices: Iterable[str], default: str) -> str:
        value = self._text(key)
        if not value:
            return default
        if value not in choices:
            raise PvemuError(f"{self._path}: {key} = {value!r} can't be had here: {' or '.join(choices)}")
        return value

    def _action(self, key: str, default: Action) -> Action:
        return Action(self._word(key, [action.value for action in Action], default.value))

    # --- what is named ---------------------------------------------------------------------------

    def _beside(self, name: str) -> Path:
        return self._path.parent / name

    def _read_bytes(self, name: str) -> bytes:
        try:
            return self._beside(name).read_bytes()
        except OSError as error:
            raise PvemuError(f"{self._beside(name)} can't be read ({error.strerror})") from error

    def _disk(self, text: str, taken: frozenset[str]) -> DiskRequest:
        request = read_disk(text, taken)
        if not request.spec.path:
            return request
        return replace(request, spec=replace(request.spec, path=str(self._beside(request.spec.path))))
