"""Two machines that are given the same programs, many in one guest; what differs is made short."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.testing.differential.comparison import Comparison, compare
from pvemu.testing.differential.judges import CommandFailed, Judge
from pvemu.testing.differential.observing_guest import observing_guest
from pvemu.testing.differential.transcript import read_transcript
from pvemu.testing.program import Program
from pvemu.testing.shrinking import plainer_steps

#: Programs in one guest.
PACK: Final = 40


@dataclass(frozen=True)
class Contest:
    """Two machines that are given the same guests."""

    ours: Judge
    theirs: Judge

    def texts(self, elf: bytes) -> tuple[str, str]:
        """What a guest prints on each. Raises CommandFailed."""
        return self.ours.run(elf), self.theirs.run(elf)

    def compare(self, programs: Sequence[Program]) -> list[Comparison]:
        """Run programs one after the other in one guest, and again from the one at which the guest ended."""
        found: list[Comparison] = []
        while len(found) < len(programs):
            rest = programs[len(found) :]
            texts = self.texts(observing_guest(rest))
            ours, theirs = map(read_transcript, texts)
            if not theirs:
                lines = texts[1].strip().splitlines()
                raise CommandFailed(f"the reference command did not run the guest: {lines[-1]}")
            if not ours:
                raise PvemuError("the guest did not start on pvemu: does it have --memory enough?")
            said = [
                compare(program, ours.get(number), theirs.get(number)) for number, program in enumerate(rest)
            ]
            told = next((number for number, each in enumerate(said) if not each.is_told), len(said))
            found += said[: max(told, 1)]
        return found

    def shorten(self, comparison: Comparison, rounds: int) -> Comparison:
        """A shorter program that shows the same first difference, tried in so many guests at most.

        One that shows it only behind others in the same guest stays as it is, and does not stand alone.
        """
        number = comparison.differences[0].number
        program = comparison.program
        cut = replace(program, steps=program.steps[: number + 1])
        best = replace(comparison, program=cut)
        alone = self.compare([cut])[0]
        if not shows(alone, comparison):
            return replace(best, stands_alone=False)
        for _ in range(rounds):
            tried = list(dict.fromkeys(_shorter(best.program)))[:PACK]
            if not tried:
                break
            fits = [each for each in self.compare(tried) if shows(each, comparison)]
            if not fits:
                break
            best = min(fits, key=lambda each: _size(each.program))
            last = best.differences[0].number
            best = replace(best, program=replace(best.program, steps=best.program.steps[: last + 1]))
        return best


def shows(found: Comparison, wanted: Comparison) -> bool:
    """Whether two programs differ first in the same thing of the same hypercall."""
    return bool(found.differences) and found.differences[0].kind == wanted.differences[0].kind


def _size(program: Program) -> tuple[int, int]:
    return len(program.steps), sum(
        len(record.fields) for step in program.steps for record in step.records
    ) + sum(len(step.arguments) for step in program.steps)


def _shorter(program: Program) -> Iterator[Program]:
    """Programs with fewer steps before the last, then with one thing less in a step."""
    before, last = program.steps[:-1], program.steps[-1]
    if before:
        yield replace(program, steps=(last,))
        for size in (len(before) // 2, len(before) // 4, 1):
            for start in range(0, len(before), max(size, 1)):
                if size:
                    yield replace(program, steps=(*before[:start], *before[start + size :], last))
    for number, step in enumerate(program.steps):
        for plainer in plainer_steps(step):
            yield replace(program, steps=(*program.steps[:number], plainer, *program.steps[number + 1 :]))
