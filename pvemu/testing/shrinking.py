"""Making a program that fails short: steps are left out, and fields of the rest, while it still fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from pvemu.testing.program import Program, Record, Step
from pvemu.testing.values import Number, Value

_ZERO = Number(0)


def shrink(program: Program, fails: Callable[[Program], bool], *, most_runs: int = 400) -> Program:
    """The shortest program found that fails, too; the program itself if it does not fail at all.

    It always finds the same. Every step of what is returned is needed.

    Args:
        fails: whether a program fails; asked again and again.
        most_runs: how often it may be asked.
    """
    search = _Search(fails, most_runs)
    if not search.fails(program):
        return program
    program = search.leave_out(program)
    program = search.settle(program, plainer_steps)
    return search.leave_out(program)


class _Search:
    def __init__(self, fails: Callable[[Program], bool], most_runs: int) -> None:
        self._fails, self._left = fails, most_runs

    def fails(self, program: Program) -> bool:
        self._left -= 1
        return self._left >= 0 and self._fails(program)

    def leave_out(self, program: Program) -> Program:
        """Without any run of steps that is not needed: halves, quarters, and at last single ones."""
        size = max(len(program.steps) // 2, 1)
        while True:
            at, before = len(program.steps) - size, program
            while at > -size:
                start = max(at, 0)
                shorter = replace(program, steps=program.steps[:start] + program.steps[at + size :])
                if len(shorter.steps) < len(program.steps) and self.fails(shorter):
                    program = shorter
                at -= size
            if size > 1:
                size //= 2
            elif program == before:
                return program

    def settle(self, program: Program, variants: Callable[[Step], Iterator[Step]]) -> Program:
        """With each step in the first of its plainer variants that still fails, until none does."""
        for number in range(len(program.steps)):
            tried = True
            while tried:
                tried = False
                for plainer in variants(program.steps[number]):
                    steps = (*program.steps[:number], plainer, *program.steps[number + 1 :])
                    if self.fails(replace(program, steps=steps)):
                        program, tried = replace(program, steps=steps), True
                        break
        return program


def plainer_steps(step: Step) -> Iterator[Step]:
    """A step with one thing less: a record, a field, or an argument that is not 0."""
    for number in range(len(step.records)):
        yield replace(step, records=step.records[:number] + step.records[number + 1 :])
    for number, record in enumerate(step.records):
        for smaller in _plainer_records(record):
            yield replace(step, records=(*step.records[:number], smaller, *step.records[number + 1 :]))
    for number, value in enumerate(step.arguments):
        if value != _ZERO and _may_be_zero(value):
            yield replace(step, arguments=(*step.arguments[:number], _ZERO, *step.arguments[number + 1 :]))


def _plainer_records(record: Record) -> Iterator[Record]:
    if len(record.fields) > 1 and record.structure is not None:
        for number in range(len(record.fields)):
            yield replace(record, fields=record.fields[:number] + record.fields[number + 1 :])


def _may_be_zero(value: Value) -> bool:
    """Named constants say what a step is about, and stay."""
    return not (isinstance(value, Number) and value.name is not None)
