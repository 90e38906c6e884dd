"""Findings: programs that fail, one for each way of failing, as files that a person reads and runs again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pvemu.testing.fuzzing.corpus import write_file
from pvemu.testing.fuzzing.failure import Failure
from pvemu.testing.fuzzing.theatre import Setting
from pvemu.testing.program import Program
from pvemu.testing.program_text import write_program

PROGRAM: Final = "program.steps"


@dataclass(frozen=True)
class Finding:
    """A program that fails.

    Attributes:
        program: the shortest one that was found.
        failure: how it fails.
        sources: it as guestkit source, one file a domain; empty where the process did not live to print it.
        command: what runs those sources.
    """

    program: Program
    failure: Failure
    sources: tuple[str, ...] = ()
    command: str = ""


class Findings:
    """A directory of findings, each in a directory of its own that is called after its failure's key.

    What is there already is a known failure, and stays as it is.
    """

    def __init__(self, path: Path, setting: Setting) -> None:
        self.path, self._setting = path, setting
        self.found: dict[str, Finding] = {}
        self.times: dict[str, int] = {}

    def add(self, finding: Finding) -> bool:
        """Keep a finding; False when this failure was found before, in this campaign or an earlier one."""
        key = finding.failure.key
        if key in self.found:
            return False
        self.found[key] = finding
        place = self.path / key
        if (place / PROGRAM).exists():
            return False
        for number, source in enumerate(finding.sources):
            write_file(place / f"d{number}.gk", source)
        write_file(place / "failure.txt", self._text(finding, place))
        write_file(place / PROGRAM, self._header(place) + write_program(finding.program))
        return True

    def count(self, key: str, times: int) -> None:
        """A failure has come so often more."""
        self.times[key] = self.times.get(key, 0) + times

    def replay(self, key: str) -> str:
        """The command that runs a finding again."""
        return self._replay(self.path / key)

    def _replay(self, place: Path) -> str:
        return f"pvemu fuzz {self._setting.options}--replay {place / PROGRAM}"

    def _header(self, place: Path) -> str:
        return f"; {self._replay(place)}\n"

    def _text(self, finding: Finding, place: Path) -> str:
        lines = [
            str(finding.failure),
            "",
            f"Shown by a program of {len(finding.program.steps)} steps. Again:",
            f"    {self._replay(place)}",
        ]
        if finding.sources:
            lines += ["The same calls as guests, in this directory:", f"    {finding.command}"]
        return "\n".join([*lines, "", write_program(finding.program)])


def sorted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """In the order of their keys: the same however they were found."""
    return sorted(findings, key=lambda finding: finding.failure.key)
