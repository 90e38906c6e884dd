"""Guests that take many programs one after the other, and tell at once what came of each step."""

from collections.abc import Sequence
from typing import Final

from guestkit import assemble
from pvemu.testing.differential.portable import Elsewhere
from pvemu.testing.program import Program

_HEAD: Final = """\
guest "programs"
include "observed_steps.gk"

section .text
main:   call steps_open
        call observe_open
"""
_END: Final = """\
        call observe_end
        ret
"""


def observing_source(programs: Sequence[Program]) -> str:
    """The guest's source."""
    place = Elsewhere()
    lines = []
    for number, program in enumerate(programs):
        lines.append(f"observe_program {number}")
        for count, step in enumerate(program.steps):
            lines += ["call observe_clear", *step.writing(place)]
            if step.call is not None:
                lines += [f"observe_step {count}", step.calling(place), "call observed"]
    return "".join([_HEAD, *(f"        {line}\n" for line in lines), _END])


def observing_guest(programs: Sequence[Program]) -> bytes:
    """The guest as an ELF file."""
    return assemble(observing_source(programs)).elf
