"""The corpus: a directory with a file for each program that reached something new, named by its contents."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.testing.program import Program
from pvemu.testing.program_text import ProgramError, read_program, write_program

SUFFIX: Final = ".steps"
_DIGITS: Final = 16


def name_of(text: str) -> str:
    """The file name of a program's text: equal programs have equal names, so corpora merge by copying."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] + SUFFIX


def read_file(path: Path) -> Program:
    """The program in a file. Raises PvemuError: it can't be read, or is none; the message says where."""
    try:
        program = read_program(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise PvemuError(f"{path} is no program of steps: it is no text") from error
    except ProgramError as error:
        raise PvemuError(f"{path} is no program of steps: {error}") from error
    except OSError as error:
        raise PvemuError(f"{path} can't be read: {error.strerror}") from error
    if not program.steps:
        raise PvemuError(f"{path} is a program without steps")
    return program


def write_file(path: Path, text: str) -> None:
    """Write a file as a whole or not at all. Raises PvemuError: there is no room, or no right."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise PvemuError(f"{path} can't be written: {error.strerror}") from error


class Corpus:
    """A directory of programs.

    Attributes:
        path: where it is; it is made when the first program is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise PvemuError(f"{path} is no directory: say with --corpus where programs are to be kept")

    def programs(self) -> list[Program]:
        """All of them, in the order of their names.

        Raises:
            PvemuError: a file is damaged; nothing has been changed.
        """
        return [read_file(path) for path in self._files()]

    def _files(self) -> Iterator[Path]:
        try:
            yield from sorted(self.path.glob(f"*{SUFFIX}")) if self.path.is_dir() else ()
        except OSError as error:
            raise PvemuError(f"{self.path} can't be read: {error.strerror}") from error

    def add(self, program: Program) -> bool:
        """Keep a program; False when it is there already."""
        text = write_program(program)
        path = self.path / name_of(text)
        if path.exists():
            return False
        write_file(path, text)
        return True

    def merge(self, other: "Corpus") -> int:
        """Take in all programs of another one; how many are new here."""
        return sum(self.add(program) for program in other.programs())

    def keep_only(self, programs: Iterable[Program]) -> int:
        """Remove the files of all other programs; how many there were."""
        kept = {name_of(write_program(program)) for program in programs}
        removed = 0
        for path in list(self._files()):
            if path.name not in kept:
                path.unlink()
                removed += 1
        return removed
