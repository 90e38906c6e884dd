"""There are strategies for every hypercall of the table, and for those that are added to it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvemu.abi import hypercalls
from pvemu.testing import strategies
from pvemu.testing.hypercall_machine import KNOWN_ERRORS
from pvemu.testing.meanings import choices_for, meaning_of, meanings
from pvemu.testing.program import Program, Step
from pvemu.testing.program_strategies import programs
from pvemu.testing.stage import stage_for
from pvemu.testing.strategies import FAMILIES, steps


def test_every_hypercall_that_a_32_bit_guest_can_make_has_a_family() -> None:
    callable_ones = {row.name for row in hypercalls.HYPERCALLS if hypercalls.PV32 in row.guests}
    assert callable_ones - {"iret"} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_hypercall_gives_a_known_result_whatever_is_said(family: str) -> None:
    stage = stage_for(2)

    @settings(max_examples=8)
    @given(steps(family, quality="mixed"))
    def make(step: Step) -> None:
        assert step.call == family
        outcome = stage.run(Program(2, (step,)))[0]
        assert outcome.result is None or outcome.result >= 0 or outcome.result in KNOWN_ERRORS

    make()


@pytest.mark.parametrize(
    "family",
    [
        "event_channel_op",
        "grant_table_op",
        "memory_op",
        "mmu_update",
        "mmuext_op",
        "update_va_mapping",
        "vcpu_op",
    ],
)
def test_well_formed_calls_often_succeed(family: str) -> None:
    stage, results = stage_for(2), Counter[bool]()

    @settings(max_examples=40)
    @given(steps(family, quality="good"))
    def make(step: Step) -> None:
        outcome = stage.run(Program(2, (step,)))[0]
        results[outcome.result is not None and outcome.result >= 0] += 1

    make()
    assert results[True] >= 5


def test_a_new_hypercall_has_strategies_without_more_code(monkeypatch: pytest.MonkeyPatch) -> None:
    row = hypercalls.Hypercall(
        60,
        "brand_new_op",
        (
            hypercalls.Argument("remote_port", "u32"),
            hypercalls.Argument("gref", "u32"),
            hypercalls.Argument("val", "pte64"),
            hypercalls.Argument("arg", "handle"),
        ),
        None,
        False,
        frozenset({hypercalls.PV32}),
    )
    monkeypatch.setitem(dict(strategies.BY_NAME), "brand_new_op", row)
    monkeypatch.setattr(strategies, "BY_NAME", dict(strategies.BY_NAME) | {"brand_new_op": row})
    seen: list[Step] = []

    @settings(max_examples=20)
    @given(steps("brand_new_op", quality="good"))
    def make(step: Step) -> None:
        seen.append(step)

    make()
    port, reference, entry, pointer = (
        set(map(repr, each)) for each in zip(*(step.arguments for step in seen), strict=True)
    )
    assert port <= set(map(repr, choices_for("port").good))
    assert reference <= set(map(repr, choices_for("reference").good))
    assert entry <= set(map(repr, choices_for("entry").good))
    assert pointer == {"list"}


def test_every_value_of_every_meaning_can_be_worked_out_and_written() -> None:
    for puppet in stage_for(2).puppets:
        for meaning in meanings():
            for kind in choices_for(meaning):
                for value in kind:
                    assert value.of(puppet) >= 0
                    for size in (1, 2, 4, 8):
                        assert value.store("request", size, puppet)


@pytest.mark.parametrize(
    ("owner", "name", "meaning"),
    [
        ("evtchn_bind_interdomain", "remote_port", "port"),
        ("evtchn_send", "port", "port"),
        ("gnttab_map_grant_ref", "ref", "reference"),
        ("gnttab_map_grant_ref", "host_addr", "mapping"),
        ("mmu_update", "ptr", "slot"),
        ("mmu_update", "val", "entry"),
        ("mmuext_op", "arg1.mfn", "frame"),
        ("xen_memory_reservation", "domid", "domid"),
        ("xen_memory_reservation", "extent_start", "pointer"),
    ],
)
def test_a_name_says_what_is_meant(owner: str, name: str, meaning: str) -> None:
    assert meaning_of(owner, name) == meaning


@settings(max_examples=30)
@given(st.data())
def test_programs_are_of_the_domains_and_families_asked_for(data: st.DataObject) -> None:
    program = data.draw(programs(("vcpu_op", "sched_op"), domains=3, most_steps=9))
    assert len(program.steps) <= 9
    assert {step.domain for step in program.steps} <= {0, 1, 2}
    assert {step.call for step in program.steps} <= {"vcpu_op", "sched_op", None}
