"""`pvemu run`: runs guests until they end, and shows their consoles."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter, Token

from pvemu.abi.errors import PvemuError
from pvemu.cpu.processor import ClockKind
from pvemu.cpu.state_window import WindowKind
from pvemu.toolstack.exit_table import ExitTable
from pvemu.toolstack.exit_trace import ExitTrace
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.guest_plans import Options, read_plans
from pvemu.toolstack.interruption import interruptible
from pvemu.toolstack.machine import Machine
from pvemu.toolstack.output_files import check_outputs
from pvemu.toolstack.outputs import Labelled, PseudoTerminal, show
from pvemu.toolstack.run_report import EXIT_STATUS, CrashWatch, as_json, ending
from pvemu.toolstack.screen import Screen
from pvemu.toolstack.terminal import Left, is_interactive, keyboard

_DOM0_MEMORY: Final = 256
#: As of a program that ^C has ended.
_LEFT: Final = 130
_MOST_KEYS: Final = 16 << 20


def _whole_number(_type: type, tokens: Sequence[Token]) -> int:
    """Cyclopts rounds 1.5 to 2; a size that is not whole is a mistake."""
    text = tokens[0].value
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'"{text}" is no whole number.') from None


TimeSource = Literal["virtual", "host"]
_Number = Annotated[int | None, Parameter(converter=_whole_number)]
_Switch = Annotated[bool, Parameter(negative=())]
_Several = Annotated[list[str] | None, Parameter(negative=())]


def run(
    *files: Path,
    memory: _Number = None,
    vcpus: _Number = None,
    machine_memory: _Number = None,
    cmdline: str = "",
    disk: _Several = None,
    net: _Several = None,
    kind: Annotated[GuestKind | None, Parameter(name="--type")] = None,
    paging: Paging | None = None,
    pcap: Path | None = None,
    tap: str | None = None,
    dom0: _Switch = False,
    max_time: float | None = None,
    keys: Annotated[Path | None, Parameter(name="--input", allow_leading_hyphen=True)] = None,
    pty: _Switch = False,
    xenstore_socket: Path | None = None,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
    as_object: Annotated[bool, Parameter(name="--json", negative=())] = False,
    trace: Path | None = None,
    exits: _Switch = False,
    state_window: WindowKind = "live",
    clock: ClockKind = "auto",
    tsc: TimeSource = "virtual",
) -> int:
    """Run guests and show what they print.

    In a terminal, what is typed goes to the first guest, and ^] leaves it.

    Exit status: 0 every guest powered off, 3 one crashed, 4 one ended for another reason (reboot, suspend),
    5 the time limit, or guests that wait for what can't come; 2 something to correct, 130 ^C or ^].

    Parameters
    ----------
    files
        A kernel (ELF, or compressed), guestkit source, or an xl.cfg file; several run side by side.
    memory
        The guest's memory in MiB: 128, or 256 with --dom0.
    vcpus
        How many virtual processors the guest has.
    machine_memory
        The machine's memory in MiB: 1024, or what the guests need.
    cmdline
        The kernel's command line.
    disk
        A disk of the guest: FILE[,xvda[,r|w]][,overlay], as xl.cfg has it; may be given again.
    net
        A network interface of the guest: auto, or mac=...,bridge=... as xl.cfg has it; may be given again.
    kind
        What the guest is: pv, pvh or hvm (pvh in a small PC); by default what its file says.
    paging
        How its memory is kept apart: direct for pv; nested (usual) or shadow for pvh and hvm.
    pcap
        Write what passes between the interfaces to this file, for tcpdump and Wireshark.
    tap
        Plug this TAP interface of the host in beside the guests' (root only); it is made if there is none.
    dom0
        The guest is the privileged domain 0, alone on the machine.
    max_time
        Stop after so many virtual seconds.
    keys
        Type what is in this file at the first guest's console.
    pty
        Give each guest's console a pseudo-terminal of its own, and say its name, instead of showing it.
    xenstore_socket
        Serve xenstore on a Unix socket of this name, for xenstore-ls and its kin.
    verbose
        Show the hypervisor's log on stderr.
    as_object
        Print the outcome and the console's text as one JSON object, instead of the console as it comes.
    trace
        Write a line for every exit of the guests to this file.
    exits
        At the end show, on stderr or in the JSON, why guests left the processor: how often, and in how much
        of the host's time.
    state_window
        How registers are reached: live is fast, context is the fallback.
    clock
        How time is counted: block is fast, count the fallback; auto takes what works.
    tsc
        What guests read as time: virtual is the same in every run; with host they can measure themselves.
    """
    if max_time is not None and not (math.isfinite(max_time) and max_time > 0):
        raise PvemuError(f"--max-time {max_time} is no time: give a number of virtual seconds above 0")
    if dom0 and (len(files) > 1 or disk or net or pcap or tap):
        raise PvemuError("with --dom0 the guest is alone on the machine: give one file, no disk and no net")
    if memory is None and dom0:
        memory = _DOM0_MEMORY
    plans = read_plans(files, Options(memory, vcpus, cmdline, disk or (), net or (), kind, paging))
    for warning in plans.warnings:
        print(warning, file=sys.stderr)
    typed = _read_keys(keys)
    disks = [Path(request.spec.path) for guest in plans.guests for request in guest.disks]
    check_outputs({"--trace": trace, "--pcap": pcap}, [*files, *([] if keys is None else [keys]), *disks])
    kept = [bytearray() for _ in plans.guests]
    watch = CrashWatch()
    with ExitStack() as stack:
        sinks = _sinks(stack, plans.guests, kept if as_object else None, pty=pty)
        machine = stack.enter_context(
            Machine(
                plans.guests,
                machine_memory=machine_memory,
                privileged=dom0,
                consoles=sinks,
                pcap=pcap,
                tap=tap,
                log=_log_to_stderr(watch) if verbose else watch.see,
                window=state_window,
                clock=clock,
            )
        )
        for number, sink in enumerate(sinks):
            if isinstance(sink, PseudoTerminal):
                sink.connect(machine.outside, partial(machine.type_keys, guest=number))
        if tsc == "host":
            machine.show_host_time()
        if xenstore_socket is not None:
            machine.listen(xenstore_socket)
        if trace is not None:
            stack.enter_context(ExitTrace(trace, machine))
        table = _exit_table(stack, machine, shown=not as_object) if exits else None
        stack.enter_context(interruptible(machine))
        machine.type_text(typed)
        if keys is None and not pty and not as_object and is_interactive():
            stack.enter_context(
                keyboard(machine.outside, machine.type_keys, partial(machine.interrupt, Left))
            )
        try:
            result = machine.run(max_time)
        except Left:
            return _LEFT
        report = as_json(machine, result, watch.reason, [bytes(each) for each in kept])
    if as_object:
        print(json.dumps(report | ({} if table is None else {"exits": table.as_json()}), indent=2))
    line = ending(result, watch.reason)
    if line is not None:
        print(f"pvemu: {line}", file=sys.stderr)
    return EXIT_STATUS[result.outcome]


def _sinks(
    stack: ExitStack, guests: list[GuestConfig], kept: list[bytearray] | None, *, pty: bool
) -> list[Callable[[bytes], None]]:
    """One sink for each guest's console."""
    if kept is not None:
        return [each.extend for each in kept]
    if pty:
        terminals = [PseudoTerminal() for _ in guests]
        for terminal, guest in zip(terminals, guests, strict=True):
            stack.callback(terminal.close)
            print(f"{guest.name}: {terminal.name}", file=sys.stderr)
        return [*terminals]
    if len(guests) == 1:
        return [show]
    labelled = [Labelled(number) for number in range(1, len(guests) + 1)]
    for each in labelled:
        stack.callback(each.finish)
    return [*labelled]


def _exit_table(stack: ExitStack, machine: Machine, *, shown: bool) -> ExitTable:
    table = ExitTable(machine)
    if shown:
        stack.callback(lambda: table.show(Screen(stderr=True, highlight=False)))
    return stack.enter_context(table)


def _read_keys(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            typed: bytes = file.read(_MOST_KEYS + 1)
    except OSError as error:
        raise PvemuError(f"{path} can't be read ({error.strerror}): give --input a file, or -") from error
    if len(typed) > _MOST_KEYS:
        raise PvemuError(f"{path} is larger than {_MOST_KEYS >> 20} MiB: nobody types so much")
    return typed


def _log_to_stderr(watch: CrashWatch) -> Callable[[str], None]:
    def log(line: str) -> None:
        watch.see(line)
        print(line, file=sys.stderr)

    return log
