"""A guest's handlers are entered as a processor enters them: frames, stacks, error codes, faults on the way.

The guests provoke one event after the other, and print what their handlers find. What a PC prints was
recorded (processor/record.py). That PC is an emulator; where it differs from the manuals, they win.
"""

import re
from collections.abc import Callable
from typing import Final

import pytest
from processor_guests import FOLDER, lines_of

from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

_RESUME_FLAG: Final = 0x10000


def _without_resume_flag(line: str) -> str:
    """The flags of a frame as they were when the event came: the emulator sets RF for interrupts, too."""
    return re.sub(r" fl=(\w+) \|", lambda found: f" fl={int(found[1], 16) & ~_RESUME_FLAG:x} |", line)


def _replacing(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def corrected(line: str) -> str:
        for recorded, right in pairs:
            assert line.count(recorded) == 1
            line = line.replace(recorded, right)
        return line

    return corrected


#: What the manuals make of a recorded line, by the line's beginning (SDM: Intel's manual).
_CORRECTIONS: Final[dict[str, dict[str, Callable[[str], str]]]] = {
    "real_mode": {},
    "ports_and_tasks": {},
    "single_steps": {},
    "protected_mode": {
        # EXT is set in the error code of a fault on the way to a handler, but for INT n (SDM volume 3, 6.13).
        "invalid opcode without a handler": _replacing((" e=32 ", " e=33 ")),
        # A stack segment that is not present is #SS, not #TS (SDM volume 2, INT n).
        "absent v=a": _replacing((" v=a ", " v=c ")),
        # A task, too, is shown RF when it handles a fault (SDM volume 3, 17.3.1.1).
        "a fault with an error code": _replacing((" its ip=4 fl=2 ", " its ip=4 fl=10002 ")),
        # From virtual-8086 mode only ring 0 can be entered (SDM volume 2, INT n).
        "to ring 1": _replacing(
            (" v=31 e=- ip=2 ", " v=d e=28 ip=0 "),
            (" fl=23002 ", " fl=33002 "),
            (" cs=29 ss=31 ", " cs=8 ss=10 "),
        ),
    },
    "long_mode": {
        # An entry with a reserved bit is present all the same (SDM volume 3, 4.7).
        "reserved bits": _replacing((" e=8 ", " e=9 ")),
        # SS is loaded only when the privilege level changes (SDM volume 3, 6.14.4).
        "push on no address": _replacing((" ss=0 ", " ss=10 ")),
        "interrupt stack v=2d": _replacing((" ss=0 ", " ss=10 ")),
        "page fault, page fault": _replacing((" ss=0 ", " ss=10 ")),
        # A handler at no canonical address is not entered (SDM volume 2, INT n).
        "handler at no address": _replacing(
            (" ip=8000000000000 ", " ip=0 "), (" sp=fc8 ", " sp=ff0 "), (" sp=f90", " sp=fc0")
        ),
    },
    # RF in the frame of an interrupt is what the flag was (SDM volume 3, 17.3.1.1).
    "interrupts": dict.fromkeys(
        (
            *("sti v=", "sti, mov ss ", "popf ", "iret ", "sti, hlt ", "sti, single step "),
            *(
                "two of one controller ",
                "interrupts on ",
                "two messages",
                "the lower ",
                "NMI, ",
                "and after it ",
            ),
        ),
        _without_resume_flag,
    ),
}
#: How a guest ends: of the tables without an entry the last event makes a triple fault, and that reboots.
_ENDS: Final = dict.fromkeys(("interrupts", "ports_and_tasks", "single_steps"), Outcome.POWEROFF)


def _expected(name: str) -> list[str]:
    corrections = _CORRECTIONS[name]
    lines = (FOLDER / "recorded" / f"{name}.txt").read_text().splitlines()
    used = set()
    for at, line in enumerate(lines):
        for beginning, correct in corrections.items():
            if line.startswith(beginning):
                lines[at] = correct(line)
                used.add(beginning)
                break
    assert used == set(corrections), "a correction that corrects nothing"
    return lines


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", _CORRECTIONS)
def test_handlers_find_what_a_processor_leaves_them(
    name: str, paging: Paging, machine_options: dict[str, str]
) -> None:
    lines, outcome = lines_of(name, paging, machine_options)
    assert lines == _expected(name)
    assert outcome is _ENDS.get(name, Outcome.REBOOT)


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
def test_a_guest_that_faults_without_end_does_not_keep_the_processor(
    paging: Paging, machine_options: dict[str, str]
) -> None:
    lines, outcome = lines_of("handler_in_a_hole", paging, machine_options, seconds=0.002)
    assert (lines, outcome) == ([], Outcome.DEADLINE)
