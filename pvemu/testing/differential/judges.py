"""Who runs a guest: pvemu itself, or a command that boots it on another hypervisor."""

import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pvemu.abi.errors import PvemuError
from pvemu.toolstack.machine import Machine

#: Virtual seconds that a guest has.
_SECONDS: Final = 60.0


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
        """The text on the guest's console; raises CommandFailed."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise CommandFailed(f"the reference command {self.command!r} is no command: {error}") from error
        if not words:
            raise CommandFailed("the reference command is empty: --reference-command 'program --options'")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "guest.elf"
            path.write_bytes(elf)
            try:
                done = subprocess.run(
                    [*words, str(path)],
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    timeout=self.timeout,
                    check=False,
                )
            except OSError as error:
                raise CommandFailed(f"the reference command can't be started: {error}") from error
            except subprocess.TimeoutExpired as error:
                raise CommandFailed(
                    f"the reference command took more than {self.timeout:g} s: see --timeout"
                ) from error
        if not done.stdout.strip():
            said = done.stderr.decode("latin-1").strip().splitlines()
            raise CommandFailed(
                f"the reference command printed nothing (exit status {done.returncode}"
                f"{', ' + said[-1] if said else ''})"
            )
        return done.stdout.decode("latin-1")
