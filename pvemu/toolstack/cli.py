"""The `pvemu` command: its verbs, and how every mistake becomes one line and an exit status."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cyclopts import App, CycloptsError

from guestkit import AssemblyError
from pvemu import __version__
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.screen import Screen
from pvemu.toolstack.verbs.bench import bench
from pvemu.toolstack.verbs.differential import differential
from pvemu.toolstack.verbs.doctor import doctor
from pvemu.toolstack.verbs.fuzz import fuzz
from pvemu.toolstack.verbs.hypercalls import hypercalls
from pvemu.toolstack.verbs.run import run

#: The person has to correct something; the line on stderr says what.
WRONG_USE: Final = 2
#: As shells report a program that a signal has ended: 128 plus its number.
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

app = App(
    name="pvemu", help="Xen's architecture in one process.", version=f"pvemu {__version__}", console=Screen()
)
for verb in (run, bench, fuzz, differential, doctor, hypercalls):
    app.command(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: the process's own) and return the exit status.

    The status is the verb's, or 2 for a mistake of the person, 130 for ^C, 141 when nobody reads the output.
    """
    _replace_closed_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words:
        return _complain("say what to do: `pvemu run FILE` runs a guest, `pvemu --help` lists the rest")
    try:
        status = app(
            words,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except CycloptsError as error:
        return _complain(f"{error} See `pvemu --help`.")
    except AssemblyError as error:
        print(error, file=sys.stderr)
        return WRONG_USE
    except PvemuError as error:
        return _complain(str(error))
    except BrokenPipeError:
        _discard_output()
        return PIPE_CLOSED
    except OSError as error:
        _discard_output()
        return _complain(
            f"the operating system refuses ({error.strerror or error}): "
            "send the output where there is room, or take less --memory"
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _complain(message: str) -> int:
    """One line, also where a name in the message has a line break."""
    print(f"pvemu: {' '.join(message.split())}", file=sys.stderr)
    return WRONG_USE


def _replace_closed_streams() -> None:
    """A shell's `>&-` leaves Python without the stream; writing to it must not fail."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  it stays open as long as the process lives
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  it stays open as long as the process lives


def _discard_output() -> None:
    """Send what is still buffered nowhere: the interpreter would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
