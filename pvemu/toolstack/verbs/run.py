"""`pvemu run`: runs one guest until it ends, and shows its console."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter, Token

from pvemu.abi.errors import PvemuError
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.toolstack.exit_trace import ExitTrace
from pvemu.toolstack.guest_file import read_guest
from pvemu.toolstack.interruption import interruptible
from pvemu.toolstack.machine import Machine
from pvemu.toolstack.run_report import EXIT_STATUS, CrashWatch, as_json, ending

#: MiB of a guest of which nothing was said.
_MEMORY: Final = 128
_DOM0_MEMORY: Final = 256


def _whole_number(_type: type, tokens: Sequence[Token]) -> int:
    """Cyclopts rounds 1.5 to 2; a size that is not whole is a mistake."""
    text = tokens[0].value
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'"{text}" is no whole number.') from None


_Mebibytes = Annotated[int | None, Parameter(converter=_whole_number)]
_Switch = Annotated[bool, Parameter(negative=())]


def run(
    file: Path,
    /,
    *,
    memory: _Mebibytes = None,
    machine_memory: _Mebibytes = None,
    cmdline: str = "",
    dom0: _Switch = False,
    max_time: float | None = None,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
    as_object: Annotated[bool, Parameter(name="--json", negative=())] = False,
    trace: Path | None = None,
    state_window: WindowKind = "live",
    clock: ClockKind = "auto",
) -> int:
    """Run a guest and show what it prints.

    Exit status: 0 the guest powered off, 3 it crashed, 4 it ended for another reason (reboot, suspend),
    5 the time limit, or a guest that waits for what can't come; 2 something to correct, 130 ^C.

    Parameters
    ----------
    file
        A kernel (ELF, or compressed) or guestkit source.
    memory
        The guest's memory in MiB: 128, or 256 with --dom0.
    machine_memory
        The machine's memory in MiB: 1024, or what the guest needs.
    cmdline
        The kernel's command line.
    dom0
        The guest is the privileged domain 0, alone on the machine.
    max_time
        Stop after so many virtual seconds.
    verbose
        Show the hypervisor's log on stderr.
    as_object
        Print the outcome and the console's text as one JSON object, instead of the console as it comes.
    trace
        Write a line for every exit of the guest to this file.
    state_window
        How registers are reached: live is fast, context is the fallback.
    clock
        How time is counted: block is fast, count the fallback; auto takes what works.
    """
    if max_time is not None and not (math.isfinite(max_time) and max_time > 0):
        raise PvemuError(f"--max-time {max_time} is no time: give a number of virtual seconds above 0")
    guest = read_guest(file)
    for warning in guest.warnings:
        print(warning, file=sys.stderr)
    kept = bytearray()
    watch = CrashWatch()
    with ExitStack() as stack:
        machine = stack.enter_context(
            Machine(
                guest.image,
                memory=memory if memory is not None else _DOM0_MEMORY if dom0 else _MEMORY,
                machine_memory=machine_memory,
                command_line=cmdline,
                privileged=dom0,
                console=kept.extend if as_object else _show,
                log=_log_to_stderr(watch) if verbose else watch.see,
                window=state_window,
                clock=clock,
            )
        )
        if trace is not None:
            stack.enter_context(ExitTrace(trace, machine))
        stack.enter_context(interruptible(machine))
        result = machine.run(max_time)
        report = as_json(machine, result, watch.reason, bytes(kept))
    if as_object:
        print(json.dumps(report, indent=2))
    line = ending(result, watch.reason)
    if line is not None:
        print(f"pvemu: {line}", file=sys.stderr)
    return EXIT_STATUS[result.outcome]


def _show(data: bytes) -> None:
    """The console's bytes go out as they are, and at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _log_to_stderr(watch: CrashWatch) -> Callable[[str], None]:
    def log(line: str) -> None:
        watch.see(line)
        print(line, file=sys.stderr)

    return log
