"""What a guest of programs has told, read from its console's text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pvemu.testing.values import Frame

#: What the frames are that the guest names when a program begins, in its order.
FRAMES: Final = (
    *(Frame("page", number) for number in range(16)),
    *(Frame(kind) for kind in ("l1 table", "l2 table", "l3 table", "request", "list")),
    *(Frame(kind) for kind in ("shared info", "grant table", "xenstore ring")),
)
_LINE: Final = re.compile(r"(?:.*[^PSRD0-9a-f])?([PSRD])((?: [0-9a-z+=]+)*)\s*")
_CHANGE: Final = re.compile(r"([a-w])([0-9a-f]+)=([0-9a-f]+)")


@dataclass(frozen=True)
class Reply:
    """What came of a step: the word in EAX, and dwords that Xen has changed, by region and offset."""

    result: int
    changes: Mapping[tuple[str, int], int]
    unsaid: int = 0


@dataclass
class Told:
    """What was told of one program.

    Attributes:
        frames: numbers of frames that the program may speak of, with what they are.
        replies: by number of the step; None: it was begun, and nothing came of it.
        is_complete: the guest went on behind the program.
    """

    frames: dict[int, Frame]
    replies: dict[int, Reply | None] = field(default_factory=dict)
    is_complete: bool = False


def read_transcript(text: str) -> dict[int, Told]:
    """What was told, by number of the program. Lines that are something else are passed over."""
    programs: dict[int, Told] = {}
    current: Told | None = None
    step: int | None = None
    for line in text.splitlines():
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            continue
        kind, words = found[1], found[2].split()
        if kind == "R":
            if current is not None and step is not None and words:
                current.replies[step] = _reply(words)
            step = None
        elif kind == "S":
            if current is not None and words:
                step = int(words[0], 16)
                current.replies[step] = None
        else:
            if current is not None:
                current.is_complete = True
            if kind == "P" and len(words) == 1 + len(FRAMES):
                numbers = [int(word, 16) for word in words]
                named = zip(numbers[1:], FRAMES, strict=True)
                current = Told({mfn: frame for mfn, frame in named if mfn})
                programs[numbers[0]] = current
            step = None
    return programs


def _reply(words: list[str]) -> Reply:
    changes: dict[tuple[str, int], int] = {}
    unsaid = 0
    for word in words[1:]:
        found = _CHANGE.fullmatch(word)
        if found is not None:
            changes[found[1], int(found[2], 16)] = int(found[3], 16)
        elif word.startswith("x+"):
            unsaid = int(word[2:], 16)
    return Reply(int(words[0], 16), changes, unsaid)
