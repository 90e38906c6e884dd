"""Edges are of the hypervisor alone, the same for the same program, and new only once."""

import sys

import pytest

from pvemu.testing.fuzzing.edges import MonitoringTracer, SettraceTracer, Tracer, make_tracer
from pvemu.testing.program_text import read_program
from pvemu.testing.stage import stage_for

VERSION = 'program of 2 domains\nd0 "v" xen_version(XENVER_version, 0)\n'
GRANT = 'program of 2 domains\nd0 "g" grant_table_op(GNTTABOP_query_size, &request, 1)\n'


def seen(tracer: Tracer, text: str) -> list[str]:
    stage = stage_for(2)
    with tracer.watching():
        stage.run(read_program(text))
    return tracer.new()


def tracers() -> list[type[Tracer]]:
    return [SettraceTracer, MonitoringTracer] if hasattr(sys, "monitoring") else [SettraceTracer]


@pytest.mark.parametrize("kind", tracers())
def test_edges_are_of_the_code_that_a_program_reaches(kind: type[Tracer]) -> None:
    tracer = kind()
    first = seen(tracer, VERSION)
    assert any(edge.startswith("hypervisor/version.py:") for edge in first)
    assert all(edge.startswith(("hypervisor/", "memory/", "services/")) for edge in first)
    assert seen(tracer, VERSION) == []
    second = seen(tracer, GRANT)
    assert any(edge.startswith("hypervisor/grant_") for edge in second)
    assert not set(first) & set(second)


@pytest.mark.parametrize("kind", tracers())
def test_what_is_seen_depends_on_the_program_alone(kind: type[Tracer]) -> None:
    tracer = kind()
    tracer.forget(())
    first = seen(tracer, GRANT)
    seen(tracer, VERSION)
    tracer.forget(())
    assert seen(tracer, GRANT) == first
    tracer.forget(first)
    assert seen(tracer, GRANT) == []


def test_nothing_is_seen_outside_the_block() -> None:
    tracer = make_tracer()
    tracer.forget(())
    stage_for(2).run(read_program(VERSION))
    assert tracer.new() == []


@pytest.mark.parametrize("kind", tracers())
def test_any_number_of_tracers_see_the_same_by_turns(kind: type[Tracer]) -> None:
    several = [kind() for _ in range(8)]
    version = seen(several[0], VERSION)
    assert version
    assert [seen(tracer, VERSION) for tracer in several[1:]] == [version] * 7
    assert [seen(tracer, VERSION) for tracer in several] == [[]] * 8
