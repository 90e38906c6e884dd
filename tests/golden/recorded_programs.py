"""Programs of hypercalls and what real Xen told of each step: reading the record, and making it anew.

    PVEMU_REFERENCE_COMMAND='...' python -m tests.golden.recorded_programs domu
    PVEMU_REFERENCE_COMMAND='...' python -m tests.golden.recorded_programs dom0
    PVEMU_REFERENCE_COMMAND='...' python -m tests.golden.recorded_programs padding

makes NAME.steps and NAME.txt in `programs/`: programs that are made from seeds, those of which some step
says something that no step before has said; and the text that the guest of all of them printed on real Xen.
Those of `padding` are written by hand; only the text is made.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from pvemu.testing.differential.answers import RESULT, answer
from pvemu.testing.differential.command import families_of
from pvemu.testing.differential.generation import generated
from pvemu.testing.differential.judges import ByCommand
from pvemu.testing.differential.observing_guest import observing_guest
from pvemu.testing.differential.transcript import Told, read_transcript
from pvemu.testing.program import Program
from pvemu.testing.program_text import read_program, write_program

FOLDER: Final = Path(__file__).parent / "programs"
PACK: Final = 40
_SEEDS: Final = range(100, 106)
_PROGRAMS: Final = 160
_HEAD: Final = "program of "


def recorded(name: str) -> Iterator[tuple[list[Program], str]]:
    """The programs of each guest, and what it printed on real Xen."""
    texts = (FOLDER / f"{name}.txt").read_text().split("\n--\n")
    yield from zip(_packs(_read_all((FOLDER / f"{name}.steps").read_text())), texts, strict=True)


def _packs(programs: Sequence[Program]) -> Iterator[list[Program]]:
    for start in range(0, len(programs), PACK):
        yield list(programs[start : start + PACK])


def _read_all(text: str) -> list[Program]:
    return [read_program(_HEAD + part) for part in text.split(_HEAD)[1:]]


def record(name: str, command: str) -> None:
    """Make both files anew."""
    judge = ByCommand(command, 100)
    by_hand = FOLDER / f"{name}.steps"
    kept = choose(name, judge) if name in ("domu", "dom0") else _read_all(by_hand.read_text())
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.steps").write_text("".join(map(write_program, kept)))
    texts = [judge.run(observing_guest(some)) for some in _packs(kept)]
    (FOLDER / f"{name}.txt").write_text(
        "\n--\n".join(text.replace("\r", "").strip() for text in texts) + "\n"
    )
    print(f"{name}: {len(kept)} programs")


def choose(name: str, judge: ByCommand) -> list[Program]:
    """Programs in which something is said that none before has said."""
    families = families_of("", privileged=name == "dom0")
    kept: list[Program] = []
    seen: set[tuple[str, str]] = set()
    for seed in _SEEDS:
        for some in _packs(list(islice(generated(seed, families), _PROGRAMS))):
            told = read_transcript(judge.run(observing_guest(some)))
            for number, program in enumerate(some):
                said = _said(program, told.get(number))
                if said - seen:
                    seen |= said
                    kept.append(program)
    return kept


def _said(program: Program, told: Told | None) -> set[tuple[str, str]]:
    if told is None:
        return set()
    return {
        (step.title, answer(step, reply, told.frames)[RESULT].text)
        for number, step in enumerate(program.steps)
        if (reply := told.replies.get(number)) is not None
    }


if __name__ == "__main__":
    record(sys.argv[1], os.environ["PVEMU_REFERENCE_COMMAND"])
