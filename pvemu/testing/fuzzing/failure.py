"""What has gone wrong in a program, told so that the same bug is the same failure wherever it shows."""

import hashlib
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pvemu
from pvemu.testing.leaks import LeakError
from pvemu.testing.puppet import NeverDone

#: Frames of the hypervisor, from the innermost one out, that tell failures apart.
_FRAMES: Final = 3
_ROOT: Final = f"{Path(pvemu.__file__).parent}/"
#: Numbers of frames, domains and ports: other ones in every program.
_NUMBERS: Final = re.compile(r"\b(?:0x)?[0-9a-f]*[0-9][0-9a-f]*\b|\bd[0-9]+(?:v[0-9]+)?\b")
#: The kinds of failures, by the exception's type; the first that fits counts.
_KINDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (NeverDone, "hang"),
    (LeakError, "leak"),
    (AssertionError, "invariant"),
    (BaseException, "exception"),
)


@dataclass(frozen=True)
class Failure:
    """A failure.

    Attributes:
        kind: "exception" of the hypervisor's, "invariant", "leak", "hang" (of a hypercall or a guest), "died"
            (the process, by a signal) or "stuck" (the process gave no sign of life).
        error: the exception's type, or the signal.
        frames: the innermost functions of pvemu, from the inside out.
        message: what was said.
    """

    kind: str
    error: str
    frames: tuple[str, ...]
    message: str

    @property
    def key(self) -> str:
        """Equal for failures that count as one; fit for the name of a directory."""
        # What checks is the same for all that it finds wrong: there the words count, too.
        words = _NUMBERS.sub("#", self.message.partition("\n")[0]) if self.kind == "invariant" else ""
        parts = "\n".join((self.kind, self.error, *self.frames, words))
        return f"{self.kind}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"

    def __str__(self) -> str:
        where = f" in {' < '.join(self.frames)}" if self.frames else ""
        return f"{self.kind}: {self.error}{where}: {self.message}"


def failure_of(error: BaseException) -> Failure:
    """What an exception that came out of a program tells."""
    kind = next(name for each, name in _KINDS if isinstance(error, each))
    return Failure(kind, type(error).__name__, _innermost(error), str(error))


def _innermost(error: BaseException) -> tuple[str, ...]:
    found = [
        f"{name[len(_ROOT) :].removesuffix('.py')}:{frame.f_code.co_qualname}"
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if (name := frame.f_code.co_filename).startswith(_ROOT)
    ]
    inside = [each for each in found if not each.startswith("testing/")] or found
    return tuple(reversed(inside[-_FRAMES:]))
