"""Hundreds of programs of hypercalls say of every step what they said on real Xen 4.17.5."""

import pytest

from pvemu.testing.differential.comparison import compare
from pvemu.testing.differential.judges import Ourselves
from pvemu.testing.differential.observing_guest import observing_guest
from pvemu.testing.differential.transcript import read_transcript
from tests.golden.recorded_programs import recorded


@pytest.mark.parametrize("name", ["domu", "dom0", "padding"])
def test_each_step_says_what_it_said_on_real_xen(name: str) -> None:
    judge = Ourselves(256, privileged=True) if name == "dom0" else Ourselves()
    compared = 0
    for programs, text in recorded(name):
        ours, theirs = read_transcript(judge.run(observing_guest(programs))), read_transcript(text)
        for number, program in enumerate(programs):
            found = compare(program, ours.get(number), theirs.get(number))
            assert found.is_told, program
            assert not found.differences, (program.steps, found.differences)
            compared += len(program.steps)
    assert compared > (5 if name == "padding" else 500)
