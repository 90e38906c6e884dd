"""New programs, from nothing and from others: what they say is chosen by seeded random numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.testing import grammar, message_grammar
from pvemu.testing.commands import array_structure, command_structure
from pvemu.testing.grammar import FAMILIES, Quality
from pvemu.testing.meanings import choices_for, meaning_of
from pvemu.testing.phrases import FIRST_PORT, phrase
from pvemu.testing.program import WORD, Program, Record, Step
from pvemu.testing.values import Number, Value

#: Steps of a new program, and of the longest one that mutation makes.
_FIRST_STEPS: Final = 12
MOST_STEPS: Final = 40
_MOST_MUTATIONS: Final = 4
#: Of a new step's qualities, each as often as it stands here.
_QUALITIES: Final[tuple[Quality, ...]] = ("good", "good", "good", "mixed", "mixed", "near", "hostile")
#: Of so many choices among values, how often a good, a near and a hostile one is taken.
_KINDS: Final = (0, 0, 0, 0, 1, 1, 2)
#: How often a step is one that says something in shared memory.
_MEMORY_STEPS: Final = 6
#: A new program makes hypercalls of so few families at most: what belongs together meets more often.
_FOCUS: Final = 3
#: Of so many new steps all but one are of families that the program has already.
_STRANGERS: Final = 4
#: How often hypercalls are made by which domains share, or change what is counted; all others count 1.
_WEIGHTS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("event_channel_op", "grant_table_op", "memory_op", "mmuext_op"), 10),
    **dict.fromkeys(("mmu_update", "update_va_mapping", "vcpu_op", "physdev_op"), 5),
    **dict.fromkeys(("sched_op", "xen_version", "multicall", "set_gdt", "update_descriptor"), 3),
}
#: Of so many families of a new program one is another program's.
_BORROWED: Final = 4
#: Of so many new steps that may end a domain, all but one may not.
_ENDINGS: Final = 10


class RandomChooser:
    """A seeded generator makes the choices of the grammar."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def index(self, size: int) -> int:
        """Any with the same probability."""
        return int(self._random.random() * size)


@dataclass(frozen=True)
class Vocabulary:
    """What programs are made of.

    Attributes:
        domains: how many there are.
        families: the hypercalls that they make.
        endings: also commands after which a domain does not go on by itself.
        deeds: steps of other kinds, which only guests that run can take.
        messages: also what is said to xenstored.
        first_port: the first port that a domain can open.
    """

    domains: int = 2
    families: tuple[str, ...] = FAMILIES
    endings: bool = True
    deeds: tuple[Callable[[grammar.Chooser, int], Step], ...] = ()
    messages: bool = False
    first_port: int = FIRST_PORT


class Mutator:
    """Makes programs. The same vocabulary, random numbers and calls give the same programs."""

    def __init__(self, vocabulary: Vocabulary, random: Random) -> None:
        self._vocabulary, self._random = vocabulary, random
        self._chooser = RandomChooser(random)
        self._everybody = range(vocabulary.domains)
        self._weighted = tuple(name for name in vocabulary.families for _ in range(_WEIGHTS.get(name, 1)))
        self._mutations: tuple[Callable[[list[Step], Sequence[Program]], None], ...] = (
            *(self._change, self._change, self._change, self._insert, self._insert, self._insert_phrase),
            *(self._drop, self._repeat, self._swap, self._splice, self._move_to_another),
        )

    def new_program(self, others: Sequence[Program] = ()) -> Program:
        """A program of a few steps; what others make hypercalls of, it makes them of, too, more often."""
        chooser = self._chooser
        focus = [self._family(others) for _ in range(1 + chooser.index(_FOCUS))]
        # What is pending from the start hides what comes later: most kernels have taken note of it.
        opening = [grammar.take_events(domain) for domain in self._everybody if chooser.index(4)]
        steps = opening
        if chooser.index(2):
            steps += self._phrase(focus, steps)
        for _ in range(1 + chooser.index(_FIRST_STEPS)):
            steps.append(self.new_step(focus, steps[-1] if steps else None))
        return self._program(steps)

    def _family(self, others: Sequence[Program]) -> str:
        """A hypercall of the vocabulary."""
        chooser = self._chooser
        if others and not chooser.index(_BORROWED):
            steps = grammar.pick(chooser, others).steps
            call = grammar.pick(chooser, steps).call if steps else None
            if call in self._vocabulary.families:
                return str(call)
        return grammar.pick(chooser, self._weighted)

    def new_step(self, focus: Sequence[str] = (), behind: Step | None = None) -> Step:
        """A step of any kind.

        Args:
            focus: families of which most hypercalls are, if there are some.
            behind: the step before, whose domain often takes the next one, too.
        """
        chooser, vocabulary = self._chooser, self._vocabulary
        quality, domain = grammar.pick(chooser, _QUALITIES), chooser.index(vocabulary.domains)
        if behind is not None and chooser.index(2):
            domain = behind.domain
        if vocabulary.deeds and chooser.index(2):
            return grammar.pick(chooser, vocabulary.deeds)(chooser, domain)
        if not chooser.index(_MEMORY_STEPS):
            kind = chooser.index(5 if vocabulary.messages else 4)
            if kind == 4:
                return message_grammar.message(chooser, domain, quality)
            if kind == 0:
                return grammar.take_events(domain)
            return grammar.mask(chooser, domain) if kind == 1 else grammar.grant(chooser, domain, quality)
        is_strange = not focus or not chooser.index(_STRANGERS)
        row = BY_NAME[grammar.pick(chooser, self._weighted if is_strange else focus)]
        endings = vocabulary.endings and not chooser.index(_ENDINGS)
        return grammar.step(chooser, row, domain, quality, endings=endings)

    def mutate(self, program: Program, others: Sequence[Program]) -> Program:
        """A program with something changed, dropped, added or taken from others."""
        steps = list(program.steps)
        for _ in range(1 + self._chooser.index(_MOST_MUTATIONS)):
            grammar.pick(self._chooser, self._mutations)(steps, others)
        return self._program(steps or [self.new_step()])

    def _program(self, steps: Sequence[Step]) -> Program:
        domains = self._vocabulary.domains
        fitting = (
            step if step.domain < domains else replace(step, domain=step.domain % domains) for step in steps
        )
        return Program(domains, tuple(fitting)[:MOST_STEPS])

    # --- steps -----------------------------------------------------------------------------------

    def _insert(self, steps: list[Step], _others: Sequence[Program]) -> None:
        focus = [step.call for step in steps if step.call in self._vocabulary.families]
        at = self._chooser.index(len(steps) + 1)
        step = self.new_step([call for call in focus if call], steps[at - 1] if at else None)
        steps.insert(at, step)

    def _insert_phrase(self, steps: list[Step], _others: Sequence[Program]) -> None:
        at = self._chooser.index(len(steps) + 1)
        steps[at:at] = self._phrase(self._vocabulary.families, steps[:at])

    def _phrase(self, families: Sequence[str], before: Sequence[Step]) -> list[Step]:
        """Steps that belong together, of a domain and the next one."""
        vocabulary = self._vocabulary
        domain = self._chooser.index(vocabulary.domains)
        peer = (domain + 1) % vocabulary.domains
        return phrase(self._chooser, families, domain, peer, before, first_port=vocabulary.first_port)

    def _drop(self, steps: list[Step], _others: Sequence[Program]) -> None:
        if len(steps) > 1:
            del steps[self._chooser.index(len(steps))]

    def _repeat(self, steps: list[Step], _others: Sequence[Program]) -> None:
        """A step once more, at once or later."""
        if steps:
            at = self._chooser.index(len(steps))
            steps.insert(at + 1 + self._chooser.index(len(steps) - at), steps[at])

    def _swap(self, steps: list[Step], _others: Sequence[Program]) -> None:
        if steps:
            one, other = self._chooser.index(len(steps)), self._chooser.index(len(steps))
            steps[one], steps[other] = steps[other], steps[one]

    def _splice(self, steps: list[Step], others: Sequence[Program]) -> None:
        """A run of another program's steps, somewhere in between."""
        if others:
            taken = grammar.pick(self._chooser, others).steps
            first = self._chooser.index(len(taken))
            length = 1 + self._chooser.index(len(taken) - first)
            at = self._chooser.index(len(steps) + 1)
            steps[at:at] = taken[first : first + length]

    def _move_to_another(self, steps: list[Step], _others: Sequence[Program]) -> None:
        """The same step, taken by another domain."""
        if steps:
            at = self._chooser.index(len(steps))
            steps[at] = replace(steps[at], domain=self._chooser.index(self._vocabulary.domains))

    # --- what a step says ------------------------------------------------------------------------

    def _change(self, steps: list[Step], _others: Sequence[Program]) -> None:
        """One value of a step becomes another value of the same meaning."""
        if steps:
            at = self._chooser.index(len(steps))
            steps[at] = self.changed(steps[at])

    def changed(self, step: Step) -> Step:
        """A step in which one value is another one of the same meaning, if it has values that may change."""
        places = [(-1, number) for number, value in enumerate(step.arguments) if not _is_name(value)]
        places += [
            (number, each)
            for number, record in enumerate(step.records)
            # A domain that makes events of its own breaks the invariant of events by itself.
            if record.area != "shared_info_page"
            for each in range(len(record.fields))
        ]
        if not places:
            return step
        which, number = grammar.pick(self._chooser, places)
        if which < 0:
            arguments = list(step.arguments)
            arguments[number] = self._another_argument(step, number)
            return replace(step, arguments=tuple(arguments))
        records = list(step.records)
        records[which] = self._another_field(step, records[which], number)
        return replace(step, records=tuple(records))

    def _another_argument(self, step: Step, number: int) -> Value:
        assert step.call is not None
        row = BY_NAME[step.call]
        argument = row.signature(WORD)[number]
        if argument.type == "handle" and step.records and self._chooser.index(2):
            return step.arguments[number]  # a pointer elsewhere is most often a step that says nothing
        is_list = array_structure(row.name) is None and command_structure(row, step.title) is None
        if argument.name in ("cmd", "op") or (argument.name.startswith("count") and not is_list):
            return self._near_number(step.arguments[number])
        choices = grammar.argument_choices(row, argument, is_list=is_list)
        return self._another(choices[grammar.pick(self._chooser, _KINDS)] or choices.good)

    def _another_field(self, step: Step, record: Record, number: int) -> Record:
        path, before = record.fields[number]
        if _is_name(before) and path in ("cmd", "interface_version") and self._chooser.index(8):
            return record
        owner = record.structure
        if owner is None:
            owner = step.call or ""
            meaning = grammar.pick(self._chooser, ("frame", "number"))
        else:
            meaning = meaning_of(owner, path)
        if isinstance(before, Number) and not self._chooser.index(4):
            made = self._near_number(before)
        else:
            choices = choices_for(meaning)
            made = self._another(choices[grammar.pick(self._chooser, _KINDS)] or choices.good)
        fields = (*record.fields[:number], (path, made), *record.fields[number + 1 :])
        return replace(record, fields=fields)

    def _another(self, values: Sequence[Value]) -> Value:
        found = grammar.pick(self._chooser, values)
        return Number(1) if isinstance(found, grammar.HowMany) else found

    def _near_number(self, before: Value) -> Value:
        """A number a little off, or with one bit changed."""
        number = before.number if isinstance(before, Number) else 0
        if self._chooser.index(2):
            return Number(max(number + grammar.pick(self._chooser, (-1, 1, 2)), 0))
        return Number((number ^ 1 << self._chooser.index(32)) & 0xFFFFFFFF)


def _is_name(value: Value) -> bool:
    """The ABI's names say what a step is about."""
    return isinstance(value, Number) and value.name is not None
