"""The guestkit command: assembles a source file into an ELF file."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from guestkit import Image, assemble_file
from pvemu.abi.errors import PvemuError

_DEFINITION = re.compile(r"([A-Za-z_]\w*)(?:=(-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|[0-9]+)))?")

#: The person has to correct something; the line on stderr says what.
_WRONG_USE: Final = 2
#: As shells report a program that nobody listens to any more.
_PIPE_CLOSED: Final = 141
#: As shells report a program that ^C has ended.
_INTERRUPTED: Final = 130


class _Screen(Console):
    """rich's own would end the process with status 1 when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


app = App(
    name="guestkit",
    help="An assembler to write kernels for Xen.",
    version_flags=[],
    console=_Screen(),
)


@app.default
def _help() -> int:
    app.help_print([])
    return _WRONG_USE


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
        _check_outputs(source, {"--output": output, "--listing": listing})
        image = assemble_file(source, include_paths=include, defines=_definitions(define), target=target)
        _write(output, image.elf)
        if listing is not None:
            _write(listing, image.listing().encode())
    except PvemuError as error:
        print(error, file=sys.stderr)
        return _WRONG_USE
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


def _check_outputs(source: Path, outputs: Mapping[str, Path | None]) -> None:
    """Look that neither the source nor another output is overwritten. Raises PvemuError."""
    taken = [source]
    for option, path in outputs.items():
        if path is None:
            continue
        for other in taken:
            both_are_files = path.is_file() and other.is_file()
            if path.samefile(other) if both_are_files else path == other and not path.exists():
                raise PvemuError(f"{option} {path} would overwrite {other}: give it another name")
        taken.append(path)


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
        status = app(exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        status = _complain(f"{error} See `guestkit --help`.")
    except BrokenPipeError:
        _discard_output()
        status = _PIPE_CLOSED
    except OSError as error:
        _discard_output()
        status = _complain(f"the output can't be written: {error.strerror or error}")
    except KeyboardInterrupt:
        status = _INTERRUPTED
    sys.exit(status)


def _complain(message: str) -> int:
    """One line, also where a name in the message has a line break."""
    print(f"guestkit: {' '.join(message.split())}", file=sys.stderr)
    return _WRONG_USE


def _discard_output() -> None:
    """Send what is still buffered nowhere: the interpreter would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
