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
from itertools import takewhile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pvemu
from pvemu.abi.errors import PvemuError

_PACKAGES: Final = str(Path(pvemu.__file__).parents[1])
#: What faulthandler writes of each Python frame.
_FRAME: Final = re.compile(r'File "([^"]+)", line \d+ in (\S+)')
#: What stands before those of one thread.
_THREAD: Final = re.compile(r"^(?:Current thread|Thread) 0x", re.MULTILINE)
_FRAMES: Final = 3
#: How often a process that hangs is asked where, and seconds that it has for each answer.
_QUESTIONS: Final = 3
_LAST_WORDS: Final = 1.0
_LOOK: Final = 0.05


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
        """Make a process that hangs write where it is, a few times."""
        for _ in range(_QUESTIONS):
            before = size = self._written()
            self._process.send_signal(signal.SIGUSR1)
            for _ in range(int(_LAST_WORDS / _LOOK)):
                time.sleep(_LOOK)
                size, last = self._written(), size
                if size == last > before:
                    break

    def _written(self) -> int:
        """Bytes that it has written to its standard error."""
        return os.fstat(self._errors.fileno()).st_size

    def last_words(self) -> str:
        """What it has written to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def frames(self) -> tuple[str, ...]:
        """Where it was when it was asked or a fault ended it: functions, from the innermost one out.

        When it was asked more often, those in which it was each time: a loop that never ends calls others.
        """
        found = [frames for text in _THREAD.split(self.last_words())[1:] if (frames := _frames_in(text))]
        return tuple(_common_beginning(found)[-_FRAMES:][::-1])

    def end(self) -> None:
        """End it."""
        self.connection.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def _frames_in(text: str) -> list[str]:
    """The hypervisor's functions in what faulthandler writes of a thread, from the outermost one in."""
    root = f"{Path(pvemu.__file__).parent}/"
    found = [
        f"{path[len(root) :].removesuffix('.py')}:{function}"
        for path, function in _FRAME.findall(text)
        if path.startswith(root) and not path.startswith(f"{root}testing/")
    ]
    return found[::-1]


def _common_beginning(lists: Sequence[Sequence[str]]) -> list[str]:
    """What all of them begin with."""
    columns = zip(*lists, strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
