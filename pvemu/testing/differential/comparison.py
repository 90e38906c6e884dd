"""What two machines have told of the same program, compared step by step."""

from collections.abc import Iterator
from dataclasses import dataclass

from pvemu.testing.differential.answers import RESULT, Said, answer
from pvemu.testing.differential.expected import expected
from pvemu.testing.differential.transcript import Told
from pvemu.testing.program import Program, Step

#: What is said of something that is as it was.
UNCHANGED = "unchanged"
NO_ANSWER = "none: the guest ended, or its time was up"
_NOTHING = Said(UNCHANGED)


@dataclass(frozen=True)
class Difference:
    """One thing that two machines say differently of a step.

    Attributes:
        number, step: which step of the program.
        what: the name of the result, of a field or of a place in memory.
        ours, theirs: what pvemu says, and what the reference says.
        reason: why that is expected; None: it is not.
    """

    number: int
    step: Step
    what: str
    ours: str
    theirs: str
    reason: str | None = None

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """What is the same for two differences that show the same thing."""
        return self.step.title, self.what, self.ours, self.theirs


@dataclass(frozen=True)
class Comparison:
    """What differs in one program.

    Attributes:
        differences: all that is not expected in the first step that has such; what comes after it may follow
            from it, and is not looked at.
        expected: all that is expected, up to there.
        is_told: whether both have told of it at all.
        stands_alone: it differs also without the programs that came before it in the same guest.
    """

    program: Program
    differences: tuple[Difference, ...]
    expected: tuple[Difference, ...]
    is_told: bool = True
    stands_alone: bool = True


def compare(program: Program, ours: Told | None, theirs: Told | None) -> Comparison:
    """Compare what was told of a program. A guest that never came to it has told nothing."""
    if ours is None or theirs is None:
        return Comparison(program, (), (), is_told=False)
    foreseen: list[Difference] = []
    # What an expected difference has left behind is another thing on each side, and that stays so.
    uneven: set[tuple[str, int]] = set()
    for number, step in enumerate(program.steps):
        if step.call is None:
            continue
        found = list(_differences(number, step, ours, theirs, uneven))
        foreseen += [each for each in found if each.reason is not None]
        surprising = tuple(each for each in found if each.reason is None)
        if surprising:
            return Comparison(program, surprising, tuple(foreseen))
        if ours.replies.get(number) is None:
            break
    return Comparison(program, (), tuple(foreseen))


def _differences(
    number: int, step: Step, ours: Told, theirs: Told, uneven: set[tuple[str, int]]
) -> Iterator[Difference]:
    our_reply, their_reply = ours.replies.get(number), theirs.replies.get(number)
    if our_reply is None or their_reply is None:
        if our_reply is not their_reply:
            our_text, their_text = (
                NO_ANSWER if reply is None else answer(step, reply, told.frames)[RESULT].text
                for reply, told in ((our_reply, ours), (their_reply, theirs))
            )
            yield Difference(number, step, RESULT, our_text, their_text)
        return
    our_words, their_words = (
        answer(step, reply, told.frames) for reply, told in ((our_reply, ours), (their_reply, theirs))
    )
    for what in dict.fromkeys((*our_words, *their_words)):
        one, other = our_words.get(what, _NOTHING), their_words.get(what, _NOTHING)
        if one.text == other.text:
            continue
        places = {said.place for said in (one, other) if said.place is not None}
        if _NOTHING in (one, other) and places <= uneven and places:
            continue
        reason = expected(step.title, what)
        if reason is not None:
            uneven |= places
        yield Difference(number, step, what, one.text, other.text, reason)
