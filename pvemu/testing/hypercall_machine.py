"""A stateful test of Hypothesis: several domains make any hypercalls, and after each all invariants hold."""

import traceback
from collections.abc import Callable
from functools import cache
from typing import ClassVar, Final

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import SearchStrategy

from pvemu.testing import memory_steps
from pvemu.testing.invariants import Invariants
from pvemu.testing.program import Outcome, Program, Step
from pvemu.testing.results import KNOWN_ERRORS, check_outcome
from pvemu.testing.shrinking import shrink
from pvemu.testing.stage import Stage, stage_for
from pvemu.testing.store_witness import StoreWitness
from pvemu.testing.strategies import FAMILIES, Quality, messages, steps

__all__ = ["KNOWN_ERRORS", "XENSTORE", "HypercallMachine"]

#: Stands among the families for what domains say to xenstored.
XENSTORE: Final = "xenstore"


class _Lazily:
    """A text that is made when it is asked for: Hypothesis does so for the failure that it shows."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __repr__(self) -> str:
        return self._make()


@cache
def _memory_steps(families: tuple[str, ...], domains: int) -> SearchStrategy[Step]:
    """What a domain may say in shared memory, as far as it matters to these families."""
    each: list[SearchStrategy[Step]] = []
    for domain in range(domains):
        if "grant_table_op" in families:
            each.append(memory_steps.grants(domain=domain))
        if "event_channel_op" in families:
            each.append(memory_steps.masks(domain=domain))
        each.append(st.just(memory_steps.takes_events(domain)))
    return st.one_of(each)


@cache
def _steps_of_any(family: str, domains: int, quality: Quality, endings: bool) -> SearchStrategy[Step]:
    if family == XENSTORE:
        return st.one_of([messages(domain=domain, quality=quality) for domain in range(domains)])
    return st.one_of(
        [steps(family, domain=domain, quality=quality, endings=endings) for domain in range(domains)]
    )


class HypercallMachine(RuleBasedStateMachine):
    """Domains that make hypercalls. A subclass says which, and adds rules and invariants of its own.

    There is a rule for every hypercall of the table, named as it is, and rules for what a domain writes into
    memory that it shares with Xen. When something fails, the shortest steps that show it are added to the
    failure, as guestkit source.

    >>> class Events(HypercallMachine):                                           # doctest: +SKIP
    ...     families = ("event_channel_op", "vcpu_op")
    >>> TestEvents = Events.TestCase                                              # doctest: +SKIP

    Attributes:
        domains: how many there are; privileged: there is one, and it is domain 0.
        families: the hypercalls that are made, and "xenstore" for messages to xenstored.
        quality: of what the domains say (strategies.Quality).
        endings: whether a domain may also block or shut itself down.
        checks_each_step: whether invariants are checked after each step, or only, and faster, at the end.
        last_failure: the steps of the last example that failed.
        stage: the machine; outcomes: what came of each step so far.
    """

    domains: ClassVar[int] = 2
    privileged: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = (*FAMILIES, XENSTORE)
    quality: ClassVar[Quality] = "mixed"
    endings: ClassVar[bool] = False
    checks_each_step: ClassVar[bool] = True

    last_failure: ClassVar[Program | None] = None
    stage: Stage
    invariants_of_xen: Invariants

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for family, made in _RULES.items():
            if getattr(cls, family, None) in (made, None):
                # Rules that are left out cost time in every choice that Hypothesis makes.
                setattr(cls, family, made if family in cls.families else None)

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome] = []

    @initialize()
    def boot(self) -> None:
        """Every example begins with the same machine."""
        self.stage = stage_for(self.domains, privileged=self.privileged)
        self.invariants_of_xen = Invariants(self.stage.machine, self.stage.puppets)

    # --- steps -----------------------------------------------------------------------------------

    @property
    def program(self) -> Program:
        """The steps so far."""
        return Program(self.domains, tuple(outcome.step for outcome in self.outcomes))

    def take(self, step: Step) -> Outcome:
        """Take a step and look at its result: no result is one that Xen does not have, no event is lost."""
        try:
            outcome = self.take_silently(step)
        except Exception:
            self.failed(step)
            raise
        self.outcomes.append(outcome)
        return outcome

    def take_silently(self, step: Step) -> Outcome:
        """The same, without a word about the program when it fails."""
        witness = None if step.message is None else StoreWitness(self.stage)
        outcome = self.stage.take(step)
        check_outcome(self.stage, outcome)
        if witness is not None:
            witness.check(outcome)
        return outcome

    def failed(self, step: Step | None = None) -> None:
        """Something has failed, perhaps in a step: where Hypothesis shows it, its source is shown."""
        taken = self.program.steps
        if step is not None and (not taken or taken[-1] is not step):
            taken = (*taken, step)
        type(self).last_failure = Program(self.domains, taken)
        note(_Lazily(lambda: self.report(Program(self.domains, taken))))

    def report(self, program: Program) -> str:
        """What is said of a program that fails."""
        shortest = self.shrink(program)
        return f"{len(shortest.steps)} steps show it. As guestkit source:\n\n{self.stage.listing(shortest)}"

    @classmethod
    def failure_of(cls, program: Program) -> str | None:
        """What fails in a program, in a step or in the invariants at its end: which error, and where."""
        machine = cls()
        cls.boot(machine)
        try:
            for step in program.steps:
                machine.outcomes.append(machine.take_silently(step))
            machine.check_all()
        except Exception as error:  # noqa: BLE001  whatever fails counts
            *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
            return f"{type(error).__name__} in {frame.f_code.co_name}"
        return None

    @classmethod
    def shrink(cls, program: Program) -> Program:
        """The shortest program found in which the same fails."""
        what = cls.failure_of(program)
        return program if what is None else shrink(program, lambda other: cls.failure_of(other) == what)

    @invariant()
    def everything_holds(self) -> None:
        """All invariants of `Invariants`."""
        if self.checks_each_step and hasattr(self, "stage"):
            self._check_and_explain()

    def teardown(self) -> None:
        """What was left for the end is checked."""
        if not self.checks_each_step and hasattr(self, "stage"):
            self._check_and_explain()

    def _check_and_explain(self) -> None:
        try:
            self.check_all()
        except Exception:
            self.failed()
            raise

    def check_all(self) -> None:
        """What is checked after each step; a subclass may check less, or more."""
        self.invariants_of_xen.check()

    # --- a rule that is not in the table -----------------------------------------------------------

    @rule(step=st.runner().flatmap(lambda machine: _memory_steps(machine.families, machine.domains)))
    def say_in_memory(self, step: Step) -> None:
        """A domain grants a page or takes that back, masks ports, or takes note of all that is pending."""
        self.take(step)


def _rule_for(family: str) -> Callable[..., None]:
    """The rule that makes one hypercall of the table, or a message."""

    def strategy(machine: HypercallMachine) -> SearchStrategy[Step]:
        return _steps_of_any(family, machine.domains, machine.quality, machine.endings)

    def make(self: HypercallMachine, step: Step) -> None:
        self.take(step)

    make.__name__ = make.__qualname__ = family
    make.__doc__ = (
        "A domain says something to xenstored." if family == XENSTORE else f"A domain calls {family}."
    )
    made: Callable[..., None] = rule(step=st.runner().flatmap(strategy))(make)
    return made


_RULES = {family: _rule_for(family) for family in (*FAMILIES, XENSTORE)}
for _family, _made in _RULES.items():
    setattr(HypercallMachine, _family, _made)
