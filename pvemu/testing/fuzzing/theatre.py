"""Where programs are run: a stage, with everything that is checked while and after they run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing.agent import AgentStage
from pvemu.testing.fuzzing.failure import Failure, failure_of
from pvemu.testing.invariants import Invariants
from pvemu.testing.leaks import LeakCheck
from pvemu.testing.program import Program
from pvemu.testing.results import check_outcome
from pvemu.testing.shrinking import shrink
from pvemu.testing.stage import Stage
from pvemu.testing.store_witness import StoreWitness


@dataclass(frozen=True)
class Setting:
    """Which machine programs are for.

    Attributes:
        domains: how many; privileged: there is one, and it is domain 0.
        guests: their own code makes the hypercalls.
    """

    domains: int = 2
    privileged: bool = False
    guests: bool = False

    @property
    def options(self) -> str:
        """As options of the command."""
        words = (("--privileged", self.privileged), ("--guests", self.guests))
        return "".join(f"{word} " for word, is_so in words if is_so)


class Theatre:
    """A stage on which one program after the other is run, each from the same beginning.

    Attributes:
        cycles: virtual time that the last program took.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        make = AgentStage if setting.guests else Stage
        self.stage = make(setting.domains, privileged=setting.privileged)
        self._invariants = Invariants(self.stage.machine, self.stage.puppets, remembers=False)
        self._leaks = LeakCheck(self.stage)
        self.cycles = 0

    def new_blocks(self) -> list[int]:
        """Addresses of blocks of guest code that have run since the last call; none where no guest runs."""
        if not isinstance(self.stage, AgentStage):
            return []
        found = sorted(self.stage.blocks)
        self.stage.blocks.clear()
        return found

    def play(self, program: Program) -> Failure | None:
        """Run a program's steps from the beginning; what goes wrong in one of them."""
        self.stage.reset()
        clock = self.stage.hypervisor.clock
        began = clock.now
        try:
            for step in program.steps:
                if step.message is not None and self.setting.privileged:
                    continue  # there is no xenstored beside domain 0
                witness = None if step.message is None else StoreWitness(self.stage)
                outcome = self.stage.take(step)
                check_outcome(self.stage, outcome)
                if witness is not None:
                    witness.check(outcome)
        except Exception as error:  # noqa: BLE001  whatever fails counts
            return failure_of(error)
        finally:
            self.cycles = clock.now - began
        return None

    def judge(self, *, leaks: bool) -> Failure | None:
        """What is wrong after a program: all invariants, and if asked for, the search for leaks."""
        try:
            self._invariants.check()
            if leaks:
                self._leaks.check()
        except Exception as error:  # noqa: BLE001  whatever fails counts
            return failure_of(error)
        return None

    def sources(self, program: Program) -> tuple[tuple[str, ...], str]:
        """A program as guestkit source, one file a domain, and the command that runs them."""
        return tuple(self.stage.sources(program)), self.stage.command(program)

    def failure(self, program: Program) -> Failure | None:
        """What goes wrong in a program or after it, with everything that is checked."""
        return self.play(program) or self.judge(leaks=True)

    def shortest(
        self, program: Program, failure: Failure, *, most_runs: int, each_time: Callable[[], None]
    ) -> Program:
        """The shortest program found that fails in the same way; `each_time` is called before it is run."""

        def fails(other: Program) -> bool:
            each_time()
            found = self.play(other) or self.judge(leaks=failure.kind == "leak")
            return found is not None and found.key == failure.key

        return shrink(program, fails, most_runs=most_runs)


@cache
def theatre_for(setting: Setting) -> Theatre:
    """One of each kind is kept: to make one takes a second."""
    return Theatre(setting)


def fitting(setting: Setting, program: Program) -> Setting:
    """The same setting with as many domains as a program has; raises PvemuError where that can't be."""
    if setting.privileged and program.domains != 1:
        raise PvemuError(
            f"there is a program of {program.domains} domains, and with --privileged there is only one: "
            "give another --corpus or program, or leave --privileged out"
        )
    return replace(setting, domains=program.domains)
