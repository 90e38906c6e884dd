"""Phrases are what they are meant to be: steps of which one opens what the next ones use."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.testing import phrases
from pvemu.testing.fuzzing.mutation import RandomChooser
from pvemu.testing.grammar import FAMILIES
from pvemu.testing.phrases import PHRASES, phrase
from pvemu.testing.program import Program
from pvemu.testing.program_text import read_program, write_program
from pvemu.testing.stage import stage_for


class Plainest:
    """Always the first of what there is to choose from."""

    def index(self, size: int) -> int:
        return 0


@pytest.mark.parametrize("words", PHRASES, ids=" ".join)
def test_a_phrase_said_plainly_does_what_it_says(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phrases, "_phrases_of", lambda families: (words,))
    steps = phrase(Plainest(), FAMILIES, 0, 1)
    assert [step.domain for step in steps] == [int(word.startswith("their ")) for word in words]
    outcomes = stage_for(2).run(Program(2, tuple(steps)))
    assert [outcome.result for outcome in outcomes if outcome.step.call] == [0 for step in steps if step.call]
    grants = [outcome.told for outcome in outcomes if outcome.step.call == "grant_table_op"]
    assert all(0 <= told < 1 << 31 for told in grants), "a status below 0 is an error"


def test_a_phrase_speaks_of_the_port_that_its_domain_gets_next() -> None:
    before = [phrase(Plainest(), ("event_channel_op",), 1, 0)[0] for _ in range(2)]
    opens, sends = phrase(Plainest(), ("event_channel_op",), 1, 0, before)
    assert (opens.title, sends.title) == ("EVTCHNOP_bind_ipi", "EVTCHNOP_send")
    outcomes = stage_for(2).run(Program(2, (*before, opens, sends)))
    assert outcomes[-1].result == 0
    assert outcomes[-1].told == 5


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_every_phrase_is_of_the_hypercalls_asked_for_and_can_be_written_down(seed: int, domains: int) -> None:
    steps = phrase(RandomChooser(Random(seed)), ("event_channel_op", "vcpu_op"), 0, domains - 1)
    assert steps
    assert {step.call for step in steps} <= {"event_channel_op", "vcpu_op", None}
    program = Program(domains, tuple(steps))
    assert read_program(write_program(program)) == program


def test_hypercalls_without_a_phrase_have_none() -> None:
    assert phrase(Plainest(), ("xen_version",)) == []
