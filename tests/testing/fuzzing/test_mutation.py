"""New programs and mutations are of what was asked for, fit to be written down, the same from one seed."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.vocabulary import structures
from pvemu.testing.fuzzing.deeds import DEEDS, MAKERS, label_of
from pvemu.testing.fuzzing.mutation import MOST_STEPS, Mutator, Vocabulary
from pvemu.testing.meanings import choices_for, meaning_of
from pvemu.testing.program import WORD, Program, Step
from pvemu.testing.program_text import read_program, write_program
from pvemu.testing.stage import stage_for
from pvemu.testing.values import Number


def made(seed: int, vocabulary: Vocabulary, generations: int = 3) -> list[Program]:
    """Programs from nothing, and what becomes of them."""
    mutator = Mutator(vocabulary, Random(seed))
    programs = [mutator.new_program()]
    for _ in range(generations):
        programs.append(mutator.mutate(programs[-1], programs))
        programs.append(mutator.new_program(programs))
    return programs


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_every_program_is_of_its_domains_and_can_be_written_down(seed: int, domains: int) -> None:
    for program in made(seed, Vocabulary(domains)):
        assert program.domains == domains
        assert 1 <= len(program.steps) <= MOST_STEPS
        assert all(step.domain < domains for step in program.steps)
        assert read_program(write_program(program)) == program


@given(st.integers(0, 10_000))
def test_every_value_of_a_mutation_can_be_worked_out(seed: int) -> None:
    stage = stage_for(2)
    for program in made(seed, Vocabulary(2)):
        for step in program.steps:
            assert len(step.words(stage.puppets[step.domain])) == 5
            assert all(record.size > 0 for record in step.records)


@given(st.integers(0, 10_000))
def test_only_the_families_asked_for_are_called(seed: int) -> None:
    families = ("vcpu_op", "event_channel_op")
    for program in made(seed, Vocabulary(2, families)):
        assert {step.call for step in program.steps} <= {*families, None}


def test_the_same_seed_makes_the_same_programs() -> None:
    assert made(7, Vocabulary(2)) == made(7, Vocabulary(2))
    assert made(7, Vocabulary(2)) != made(8, Vocabulary(2))


@given(st.integers(0, 10_000))
def test_a_changed_field_has_a_value_of_its_meaning_or_a_number_near_it(seed: int) -> None:
    """One step, of one structure: whatever differs after a change is of the kind that its name says."""
    mutator = Mutator(Vocabulary(1, ("event_channel_op",)), Random(seed))
    step = mutator.new_step(("event_channel_op",))
    for _ in range(5):
        changed = mutator.changed(step)
        for before, after in zip(step.records, changed.records, strict=True):
            for (path, old), (same_path, new) in zip(before.fields, after.fields, strict=True):
                assert path == same_path
                if old != new and before.structure is not None:
                    kinds = choices_for(meaning_of(before.structure, path))
                    assert isinstance(new, Number) or any(new in kind for kind in kinds)
        step = changed


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.name)
def test_every_deed_is_a_function_of_the_guest_library(deed: object) -> None:
    from importlib.resources import files

    source = (files("guestkit") / "lib" / "deeds.gk").read_text()
    name = deed.name  # type: ignore[attr-defined]
    assert f"deed_{name}:" in source or f"deed {name}," in source


def test_deeds_are_told_from_other_steps() -> None:
    class First:
        def index(self, size: int) -> int:
            return 0

    steps = [make(First(), 0) for make in MAKERS]
    assert all(label_of(step) is not None for step in steps)
    assert label_of(Step(0, "iret", title="deed read")) is None
    assert label_of(Step(0, None, title="mask")) is None


def test_the_table_still_has_what_mutation_is_told_by_name() -> None:
    """`cmd` and `interface_version` are left alone most of the time: they are the names of real fields."""
    assert "interface_version" in {leaf.path for leaf in structures()["xen_domctl"].paths(WORD)}
    assert {argument.name for argument in BY_NAME["event_channel_op"].arguments} >= {"cmd"}
