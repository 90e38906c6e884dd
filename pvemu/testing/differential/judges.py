"""Who runs a guest: pvemu itself, or a command that boots it on another hypervisor."""

import os
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pvemu.abi.errors import PvemuError
from pvemu.toolstack.machine import Machine

#: Virtual seconds that a guest has.
_SECONDS: Final = 60.0
#: Seconds that a command has to end after it was told to.
_LAST_WORDS: Final = 3.0


class CommandFailed(PvemuError):
    """The reference command doesn't start, doesn't end, or nothing comes of it."""


class Judge(Protocol):
    """Runs a guest and tells what it printed."""

    def run(self, elf: bytes) -> str:
        """The text on the guest's console."""


@dataclass(frozen=True)
class Ourselves:
    """pvemu, with one guest on a machine of its own.

    Attributes:
        memory: MiB of the guest; as many as the reference's has, for what is counted in pages.
        privileged: it is domain 0.
    """

    memory: int = 128
    privileged: bool = False

    def run(self, elf: bytes) -> str:
        """The text on the guest's console."""
        with Machine(elf, memory=self.memory, privileged=self.privileged) as machine:
            machine.run(_SECONDS)
            return bytes(machine.console_bytes).decode("latin-1")


@dataclass(frozen=True)
class ByCommand:
    """Another hypervisor, reached by a command that has the guest's ELF file as its last argument.

    Attributes:
        command: as in a shell; it prints the guest's console.
        timeout: seconds that it may take.
    """

    command: str
    timeout: float = 60.0

    def run(self, elf: bytes) -> str:
        """The text on the guest's console, as far as it came within the time; raises CommandFailed."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise CommandFailed(f"the reference command {self.command!r} is no command: {error}") from error
        if not words:
            raise CommandFailed("the reference command is empty: --reference-command 'program --options'")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "guest.elf"
            path.write_bytes(elf)
            printed, complaints, status = self._carry_out([*words, str(path)])
        if not printed.strip():
            if status is None:
                raise CommandFailed(f"the reference command took more than {self.timeout:g} s: see --timeout")
            said = complaints.decode("latin-1").strip().splitlines()
            raise CommandFailed(
                f"the reference command printed nothing (exit status {status}"
                f"{', ' + said[-1] if said else ''})"
            )
        return printed.decode("latin-1")

    def _carry_out(self, words: list[str]) -> tuple[bytes, bytes, int | None]:
        """What a command printed and complained of, and its status, which is None if it had to be ended."""
        with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=printed, stderr=complaints, start_new_session=True
                )
            except OSError as error:
                raise CommandFailed(f"the reference command can't be started: {error}") from error
            status = None
            try:
                status = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                pass  # what it has printed tells how far the guest came
            finally:
                _end(process)
            printed.seek(0)
            complaints.seek(0)
            return printed.read(), complaints.read(), status


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command with all that it has started; it has a moment to do so itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
