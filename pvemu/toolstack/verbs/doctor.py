"""`pvemu doctor`: tries out the engine on this host and says what works, what does not, and what to do."""

import json
from typing import Annotated, Any, NamedTuple

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from pvemu.cpu.binding import KNOWN_VERSION, library_version
from pvemu.cpu.calibration import Check, examine
from pvemu.cpu.errors import EngineError
from pvemu.cpu.facts import examine_facts
from pvemu.cpu.processor import ClockKind, Processor
from pvemu.cpu.state_window import WindowKind
from pvemu.memory.ram import Ram
from pvemu.toolstack.screen import Screen

_SMALLEST_RAM = 1 << 20
_WINDOWS: tuple[WindowKind, ...] = ("live", "context")
_CLOCKS: tuple[ClockKind, ...] = ("block", "count")


class Diagnosis(NamedTuple):
    """What was found: every check, and for each form of window and clock what refuses it (None: it works)."""

    version: str
    checks: tuple[Check, ...]
    windows: dict[str, str | None]
    clocks: dict[str, str | None]

    @property
    def known(self) -> bool:
        """Whether this is the build of the engine whose layout is known."""
        return self.version == KNOWN_VERSION

    @property
    def healthy(self) -> bool:
        """Whether guests can run here: every fact holds, and one form of each part works."""
        forms = (self.windows, self.clocks)
        return all(check.holds for check in self.checks) and all(None in form.values() for form in forms)

    @property
    def verdict(self) -> str:
        """One line: all is well, or what is wrong and what to do about it."""
        if self.healthy:
            return "Guests can run here." + (
                "" if self.known else f" Only Unicorn {KNOWN_VERSION} is tested, though: install that."
            )
        failed = sum(not check.holds for check in self.checks)
        what = f"{failed} of {len(self.checks)} facts fail" if failed else "no window or no clock works"
        if self.known:
            return (
                f"Guests can't run here: {what} with the known Unicorn {KNOWN_VERSION}. "
                "It needs Linux on x86-64 and a readable /proc/self/mem; reinstall it with "
                f"pip install --force-reinstall unicorn=={KNOWN_VERSION}"
            )
        return (
            f"Guests can't run here: {what}, because Unicorn {self.version} is not the known build. "
            f"Install that: pip install unicorn=={KNOWN_VERSION}"
        )


def doctor(*, as_object: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Check whether guests can run on this host. Exit status: 0 they can, 1 they can't.

    Parameters
    ----------
    as_object
        Print what was found as JSON.
    """
    diagnosis = diagnose()
    if as_object:
        print(json.dumps(_as_json(diagnosis), indent=2))
    else:
        _print(diagnosis)
    return 0 if diagnosis.healthy else 1


def diagnose() -> Diagnosis:
    """Try every fact about the engine, and every form of window and clock."""
    windows: dict[str, str | None] = {window: _refusal(window, "auto") for window in _WINDOWS}
    # What can't be seen live is judged through the fallback.
    seen_through: WindowKind = "context" if windows["live"] and not windows["context"] else "live"
    try:
        checks = (*examine(seen_through).checks, *examine_facts(seen_through))
    except EngineError as refusal:
        checks = (Check("the engine can be examined", False, str(refusal)),)
    clocks: dict[str, str | None] = {clock: _refusal(seen_through, clock) for clock in _CLOCKS}
    return Diagnosis(library_version(), checks, windows, clocks)


def _refusal(window: WindowKind, clock: ClockKind) -> str | None:
    ram = Ram(_SMALLEST_RAM)
    try:
        Processor(ram.host_address, ram.size, window=window, clock=clock).close()
    except EngineError as refusal:
        return str(refusal)
    return None


def _print(diagnosis: Diagnosis) -> None:
    console = Screen(highlight=False)
    table = Table("fact", "", "seen")
    for check in diagnosis.checks:
        verdict = Text("holds", "green") if check.holds else Text("FAILS", "bold red")
        table.add_row(Text(check.claim), verdict, Text(check.seen))
    console.print(table)
    console.print(
        f"Unicorn {diagnosis.version} ({'known' if diagnosis.known else 'not known'})", markup=False
    )
    for what, forms in (("state window", diagnosis.windows), ("clock", diagnosis.clocks)):
        for name, refusal in forms.items():
            console.print(f"{what} {name}: {'works' if refusal is None else refusal}", markup=False)
    console.print(diagnosis.verdict, markup=False)


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "unicorn": diagnosis.version,
        "known": diagnosis.known,
        "healthy": diagnosis.healthy,
        "verdict": diagnosis.verdict,
        "checks": [check._asdict() for check in diagnosis.checks],
        "state_windows": {name: refusal is None for name, refusal in diagnosis.windows.items()},
        "clocks": {name: refusal is None for name, refusal in diagnosis.clocks.items()},
    }
