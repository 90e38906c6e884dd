"""guestkit, an assembler to write kernels for Xen: assemble() turns source text into an Image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from guestkit.assembly import Assembly
from guestkit.errors import AssemblyError, Mistake, Problem
from guestkit.image import Image, Segment, build_image
from guestkit.layout import lay_out
from guestkit.library import read_text
from guestkit.reading import read
from guestkit.source import Line, split_lines
from guestkit.target import TARGETS, Target

__all__ = ["AssemblyError", "Image", "Problem", "Segment", "assemble", "assemble_file"]


def assemble(
    text: str,
    *,
    filename: str = "<text>",
    include_paths: Sequence[Path] = (),
    defines: Mapping[str, int] | None = None,
    target: str | None = None,
) -> Image:
    """Assemble a program and return its image.

    ``filename`` is what messages call the text; included files are first looked for in its folder, if there
    is one. ``defines`` are constants known from the beginning. ``target`` is pv32, pv64, hvm32 or hvm64,
    for a guest that does not say itself what it is for. Raises AssemblyError with every mistake found, and
    LookupError for a target that does not exist.
    """
    path = Path(filename)
    folder = path.parent if filename != "<text>" and path.parent.is_dir() else None
    assembly = Assembly(include_paths, defines or {}, _target(target))
    read(assembly, split_lines(text, filename, folder, None))
    if assembly.is_incomplete:
        assembly.fail_if_wrong()
    return build_image(assembly, lay_out(assembly))


def assemble_file(
    path: Path | str,
    *,
    include_paths: Sequence[Path] = (),
    defines: Mapping[str, int] | None = None,
    target: str | None = None,
) -> Image:
    """Assemble the program in a file; AssemblyError when it can't be read, too."""
    try:
        text = read_text(Path(path), None)
    except Mistake as mistake:
        message = mistake.message.removeprefix(f"{path} ")
        raise AssemblyError([Problem(message, Line("", str(path), 0), None)]) from mistake
    return assemble(text, filename=str(path), include_paths=include_paths, defines=defines, target=target)


def _target(name: str | None) -> Target | None:
    if name is None:
        return None
    if name not in TARGETS:
        raise LookupError(f"there is no target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name]
