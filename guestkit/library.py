"""Where included files are found: beside the including file, in given folders, in the packaged library."""

from collections.abc import Sequence
from pathlib import Path

from guestkit.errors import Mistake
from guestkit.target import Target

PACKAGED = Path(__file__).parent / "lib"
"""The library that comes with guestkit; a target's variants are in the folder of its name or kind."""
_LARGEST_FILE = 64 << 20


def find(
    name: str,
    folder: Path | None,
    include_paths: Sequence[Path],
    target: Target | None,
    column: int | None,
) -> Path:
    """Return the path of an included file; Mistake, saying where it was looked for, when there is none.

    ``folder`` is that of the including file. In the library, a target's variant of a file comes first.
    """
    if not name or "\0" in name:
        raise Mistake("the name of a file is missing", column)
    variants = [PACKAGED / target.word, PACKAGED / target.kind] if target and target.is_hvm else []
    beside = [folder] if folder is not None and not folder.is_relative_to(PACKAGED) else []
    folders = [*beside, *include_paths, *variants, PACKAGED]
    for candidate in folders:
        path = candidate / name
        try:
            if path.is_file():
                return path
        except OSError as error:  # a name that is too long, or a folder that may not be read
            raise Mistake(f"{path} can't be read: {error.strerror}", column) from error
    places = ", ".join(str(candidate) for candidate in folders)
    raise Mistake(f'there is no file "{name}" in {places}', column)


def read_bytes(path: Path, column: int | None) -> bytes:
    """Return what a file contains; Mistake when it can't be read or is larger than any image."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise Mistake(f"{path} can't be read: {error.strerror}", column) from error
    if len(data) > _LARGEST_FILE:
        raise Mistake(f"{path} is larger than {_LARGEST_FILE >> 20} MiB", column)
    return data


def read_text(path: Path, column: int | None) -> str:
    """Return the text of a source file; Mistake when it can't be read or is no UTF-8."""
    try:
        return read_bytes(path, column).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Mistake(f"{path} is no text in UTF-8 (byte {error.start})", column) from error
