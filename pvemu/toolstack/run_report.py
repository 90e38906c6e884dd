"""How a run ended, told to a person (a line), to a shell (an exit status) and to a program (JSON)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pvemu.abi import sched
from pvemu.abi.hypercalls import BY_NUMBER
from pvemu.toolstack.guest import Outcome
from pvemu.toolstack.machine import Machine, Result

EXIT_STATUS: Final[Mapping[Outcome, int]] = {
    Outcome.POWEROFF: 0,
    Outcome.CRASH: 3,
    Outcome.REBOOT: 4,
    Outcome.SUSPEND: 4,
    Outcome.DEADLINE: 5,
    Outcome.IDLE: 5,
}

_REASONS: Final = {
    value: name
    for name, value in vars(sched).items()
    if name.startswith("SHUTDOWN_") and name != "SHUTDOWN_MAX"
}
_CRASHED: Final = re.compile(r"\(XEN\) Domain \d+ .*crashed.*")
_XEN_PREFIX: Final = "(XEN) "


class CrashWatch:
    """Sees the lines of the hypervisor's log; `reason` is what the last domain that crashed did."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._previous = ""

    def see(self, line: str) -> None:
        """Look at the next line: Xen's reason stands before the line that says that a domain crashed."""
        if _CRASHED.fullmatch(line):
            self.reason = self._previous.removeprefix(_XEN_PREFIX)
        self._previous = line


def ending(result: Result, crash_reason: str | None) -> str | None:
    """One line for a run that did not end with poweroff; None for one that did."""
    if result.outcome is Outcome.POWEROFF:
        return None
    if result.outcome is Outcome.CRASH and crash_reason is not None:
        return f"the guest crashed: {crash_reason} (-v shows its registers)"
    if result.outcome is Outcome.DEADLINE:
        return f"stopped at the time limit, after {result.nanoseconds / 1e9:.9g} virtual seconds"
    if result.outcome is Outcome.IDLE:
        return "stopped: every vCPU waits for something that can't come"
    name = _REASONS.get(result.reason if result.reason is not None else -1)
    return f"the guest ended itself with reason {result.reason}{f' ({name})' if name else ''}"


def as_json(
    machine: Machine, result: Result, crash_reason: str | None, consoles: Sequence[bytes]
) -> dict[str, Any]:
    """The whole outcome; `hypercalls`: how often each was made, by name; `console`: the first guest's."""
    counters = enumerate(machine.hypervisor.counters)
    return {
        "outcome": result.outcome.value,
        "reason": ending(result, crash_reason),
        "shutdown_reason": result.reason,
        "exit_status": EXIT_STATUS[result.outcome],
        "virtual_nanoseconds": result.nanoseconds,
        "hypercalls": {BY_NUMBER[number].name: times for number, times in counters if times},
        "console": consoles[0].decode("utf-8", "backslashreplace"),
        "guests": [
            {
                "name": guest.config.name,
                "outcome": None if guest.outcome is None else guest.outcome.value,
                "shutdown_reason": guest.reason,
                "boots": guest.boots,
                "console": console.decode("utf-8", "backslashreplace"),
            }
            for guest, console in zip(machine.guests, consoles, strict=True)
        ],
    }
