"""One job's process as its parent sees it: started, told what to do, listened to, and found dead."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pvemu
from pvemu.abi.errors import PvemuError

_PACKAGES: Final = str(Path(pvemu.__file__).parents[1])
#: What faulthandler writes of each Python frame.
_FRAME: Final = re.compile(r'File "([^"]+)", line \d+ in (\S+)')
_FRAMES: Final = 3
#: Seconds that a process which hangs has to say where.
_LAST_WORDS: Final = 1.0


class Process:
    """A job's process.

    Attributes:
        connection: where it tells what happens.

    Args:
        extras: Python files that it runs first.
    """

    def __init__(self, extras: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process lives
        paths = filter(None, (_PACKAGES, os.environ.get("PYTHONPATH")))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", "pvemu.testing.fuzzing.job", str(theirs.fileno()), *extras]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise PvemuError(f"no process for a job can be started: {error.strerror}") from error
        theirs.close()
        self.connection: Connection[Any, Any] = Connection(ours.detach())

    def tell(self, order: str, content: object) -> None:
        """Give it something to do. A process that is dead already is noticed by `hear`."""
        try:
            self.connection.send((order, content))
        except (BrokenPipeError, ConnectionResetError):
            return

    def hear(self, seconds: float | None = None) -> tuple[str, Any] | None:
        """What it tells next; None: it is dead.

        Raises:
            TimeoutError: it tells nothing for so long.
        """
        try:
            if not self.connection.poll(seconds):
                raise TimeoutError
            told: tuple[str, Any] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        return told

    def how_it_died(self) -> str:
        """The signal's name, or the exit status."""
        status = self._process.wait()
        try:
            return signal.Signals(-status).name if status < 0 else f"exit status {status}"
        except ValueError:
            return f"signal {-status}"

    def say_where(self) -> None:
        """Make a process that hangs write where it is."""
        self._process.send_signal(signal.SIGUSR1)
        time.sleep(_LAST_WORDS)

    def last_words(self) -> str:
        """What it has written to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def frames(self) -> tuple[str, ...]:
        """Where it was when it was asked or a fault ended it: functions, from the innermost one out."""
        root = f"{Path(pvemu.__file__).parent}/"
        found = [
            f"{path[len(root) :].removesuffix('.py')}:{function}"
            for path, function in _FRAME.findall(self.last_words())
            if path.startswith(root) and not path.startswith(f"{root}testing/")
        ]
        return tuple(found[:_FRAMES])

    def end(self) -> None:
        """End it."""
        self.connection.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.close()
