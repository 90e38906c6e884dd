"""A job: the process that runs cases, so that one which ends the process ends nothing else.

`python -m pvemu.testing.fuzzing.job DESCRIPTOR [FILE.py ...]` takes tasks from a socket and tells of
everything as it happens: of each case before it runs.
"""

import faulthandler
import runpy
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from pvemu.testing.fuzzing.findings import Finding
from pvemu.testing.fuzzing.shard import Listener, Task, run_shard
from pvemu.testing.fuzzing.theatre import Setting, fitting, theatre_for
from pvemu.testing.program import Program
from pvemu.testing.program_text import read_program, write_program


class _Teller(Listener):
    """Tells the parent."""

    def __init__(self, parent: "Connection[Any, Any]") -> None:
        self._parent = parent

    def about_to_run(self, program: Program) -> None:
        self._parent.send(("about to run", write_program(program)))

    def has_run(self, steps: int) -> None:
        self._parent.send(("has run", steps))

    def kept(self, text: str, edges: Sequence[str]) -> None:
        self._parent.send(("kept", (text, list(edges))))

    def found(self, finding: Finding) -> None:
        self._parent.send(("found", finding))

    def is_making_short(self) -> None:
        self._parent.send(("is making short", None))


def _replay(teller: _Teller, setting: Setting, text: str) -> object:
    program = read_program(text)
    theatre = theatre_for(fitting(setting, program))
    teller.about_to_run(program)
    return theatre.failure(program)


def main(arguments: Sequence[str]) -> None:
    """Work until the parent says no more, or is gone."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the parent ends its jobs itself, when it has what they found
    parent: Connection[Any, Any] = Connection(int(arguments[0]))
    try:
        for file in arguments[1:]:
            runpy.run_path(file)
        while True:
            order, content = parent.recv()
            if order == "replay":
                parent.send(("replayed", _replay(_Teller(parent), *content)))
            else:
                assert isinstance(content, Task)
                parent.send(("done", run_shard(content, _Teller(parent))))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
