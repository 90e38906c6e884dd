"""Files that a run is to write: none of them may be what it reads, nor another of them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from pvemu.abi.errors import PvemuError


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Look that nothing is overwritten by mistake, before anything is opened.

    Args:
        outputs: the files by the option that names them.
        inputs: what is read.

    Raises:
        PvemuError: one is the same file as another.
    """
    others = list(inputs)
    for option, path in outputs.items():
        if path is None:
            continue
        for other in others:
            if _is_same(path, other):
                raise PvemuError(f"{option} {path} would overwrite {other}: give it another name")
        others.append(path)


def _is_same(path: Path, other: Path) -> bool:
    """Whether two names are one ordinary file; a device or a pipe has room for all."""
    if path == other:
        return not path.exists() or path.is_file()
    with suppress(OSError):  # one of them is not there, or can't be looked at
        return path.is_file() and path.samefile(other)
    return False
