"""Programs as guestkit source: one guest for each domain, for `pvemu run`, `guestkit build` and real Xen."""

from collections.abc import Callable, Sequence
from typing import Final

from pvemu.testing.program import Program, Step
from pvemu.testing.values import Surroundings

#: MiB of a guest that runs a program.
GUEST_MEMORY: Final = 6

_HEAD: Final = """\
guest "{name}"
include "steps.gk"

section .text
main:   call steps_open
"""
_END: Final = """\
        call report
        ret
"""
#: Says that it is ready, and waits for a test to make its hypercalls.
_PUPPET: Final = """\
        mov dword [is_ready], 1
.wait:  jmp .wait

section .data
align 4
is_ready: dd 0
"""


def puppet_source() -> str:
    """The guest that has prepared itself for a program, and takes no step of it."""
    return _HEAD.format(name="puppet") + _PUPPET


def source(
    program: Program,
    domain: int,
    place: Surroundings,
    *,
    more: Callable[[Step], Sequence[str]] = lambda step: (),
    opening: tuple[str, str] | None = None,
) -> str:
    """The guest that takes a domain's steps, each at its time when other domains take some, too.

    Args:
        more: lines behind those of a step.
        opening: an include, and what is called first, for those lines.
    """
    head = _HEAD.format(name=f"steps of d{domain}")
    if any(step.message is not None for _, step in program.of_domain(domain)):
        head = head.replace("steps.gk", "store_steps.gk", 1)
    parts = [head if opening is None else _with_opening(head, *opening)]
    for number, step in program.of_domain(domain):
        lines = [f"wait_for {number}"] if program.domains > 1 else []
        lines += [*step.lines(place), *more(step)]
        parts += [f"; {number}: {step!r}\n", *(f"        {line}\n" for line in lines)]
    if program.domains > 1:
        parts.append(f"        wait_for {len(program.steps)}    ; the others may still need this one\n")
    return "".join([*parts, _END])


def _with_opening(head: str, include: str, call: str) -> str:
    return head.replace("\n\nsection", f"\n{include}\n\nsection", 1) + f"        {call}\n"


def commands(program: Program, machine_memory: int, *, privileged: bool) -> str:
    """How to run the sources, kept as d0.gk, d1.gk and so on."""
    files = " ".join(f"d{number}.gk" for number in range(program.domains))
    kind = "--dom0 " if privileged else ""
    return f"pvemu run {kind}--memory {GUEST_MEMORY} --machine-memory {machine_memory} {files}"


def listing(program: Program, places: Sequence[Surroundings], command: str) -> str:
    """All sources in one text, each with its file's name, and the command that runs them."""
    parts = [f"; {command}\n"]
    for domain in range(program.domains):
        parts.append(f"\n; ---- d{domain}.gk\n{source(program, domain, places[domain])}")
    return "".join(parts)
