"""The guestkit command: assembles a source file into an ELF file."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from guestkit import Image, assemble_file
from pvemu.abi.errors import PvemuError

_DEFINITION = re.compile(r"([A-Za-z_]\w*)(?:=(-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|[0-9]+)))?")

app = App(name="guestkit", help="An assembler to write kernels for Xen.", version_flags=[])


@app.default
def _help() -> int:
    app.help_print([])
    return 2


@app.command
def build(
    source: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    listing: Path | None = None,
    include: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    define: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    target: Literal["pv32", "pv64", "hvm32", "hvm64"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Assemble a source file and write the kernel.

    Parameters
    ----------
    source
        The source file.
    output
        The ELF file to write.
    listing
        A file for the listing: each line with its address and its bytes.
    include
        A folder where included files are looked for; may be given several times.
    define
        NAME=VALUE, a constant that the source can use (1 without a value); may be given several times.
    target
        What the guest is for, when it does not say so itself; pv32 without either.
    as_json
        Print what was built as JSON: entry, segments, sections, symbols and warnings.
    """
    try:
        image = assemble_file(source, include_paths=include, defines=_definitions(define), target=target)
        _write(output, image.elf)
        if listing is not None:
            _write(listing, image.listing().encode())
    except PvemuError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in image.warnings:
        print(warning, file=sys.stderr)
    if as_json:
        print(json.dumps(_summary(image), indent=2))
    return 0


def _definitions(texts: Sequence[str]) -> dict[str, int]:
    defines = {}
    for text in texts:
        match = _DEFINITION.fullmatch(text)
        if match is None:
            raise PvemuError(f"--define {text}: write NAME=VALUE, the value in decimal or with 0x, 0b or 0o")
        try:
            defines[match[1]] = int(match[2] or "1", 0)
        except ValueError as error:
            raise PvemuError(f"--define {text}: a decimal value does not begin with 0") from error
    return defines


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise PvemuError(f"{path} can't be written: {error.strerror}") from error


def _summary(image: Image) -> dict[str, Any]:
    return {
        "bits": image.bits,
        "entry": image.entry,
        "segments": [
            {
                "address": segment.address,
                "physical": segment.physical,
                "file_size": len(segment.data),
                "memory_size": segment.memory_size,
                "flags": segment.flags,
            }
            for segment in image.segments
        ],
        "sections": [
            {"name": section.name, "address": section.address, "size": section.size, "flags": section.flags}
            for section in image.sections
        ],
        "symbols": dict(image.symbols),
        "warnings": list(image.warnings),
    }


def main() -> None:
    """Run the command and leave with its exit status: 0, or 2 when the person has to correct something."""
    try:
        sys.exit(app(exit_on_error=False))
    except CycloptsError:  # it has printed what is wrong
        sys.exit(2)
