"""Gives every section and fragment its address, letting jumps grow until each reaches its target."""

from collections.abc import Iterable, Iterator, Sequence

from guestkit.assembly import Assembly, belongs
from guestkit.code import Code
from guestkit.errors import Mistake
from guestkit.evaluator import Stage
from guestkit.program import LARGEST_IMAGE, PAGE, Fragment, Section

# Families of sections in the order of the image; sections of no family come where None stands.
_FAMILIES = (".text", ".rodata", ".data", None, ".bss")
_MOST_RESTLESS_PASSES = 16
"""Rounds that sizes may go on changing in after the last jump has grown."""


def lay_out(assembly: Assembly) -> tuple[Section, ...]:
    """Settle all sizes and addresses, and return the sections in the order of these.

    Raises AssemblyError when a fragment can't be encoded or placed.
    """
    sections = tuple(_in_order(assembly.sections.values()))
    guest = assembly.guest
    base = guest.virt_base + guest.paddr if guest else 0
    fragments = [fragment for section in sections for fragment in section.fragments]
    for fragment in fragments:
        try:
            fragment.settle(assembly.evaluator)
        except Mistake as mistake:
            assembly.report(mistake, fragment.place.line)
    assembly.fail_if_wrong()
    end = _relax(assembly, sections, base, fragments)
    bits = guest.bits if guest else assembly.bits
    if end > 1 << bits:
        line = guest.place.line if guest else assembly.line
        assembly.report(
            Mistake(f"the image would end at {end:#x}, beyond the {bits}-bit address space"), line
        )
    assembly.fail_if_wrong()
    return sections


def _in_order(sections: Iterable[Section]) -> Iterator[Section]:
    sections = list(sections)
    named = [family for family in _FAMILIES if family is not None]
    for family in _FAMILIES:
        for section in sections:
            if family is None:
                is_member = not any(belongs(section.name, other) for other in named)
            else:
                is_member = belongs(section.name, family)
            if is_member:
                yield section


def _assign(sections: Sequence[Section], base: int) -> int:
    """Place sections and fragments one behind the other, and return the address behind the last."""
    address, flags = base, ""
    for section in sections:
        offset = 0
        for fragment in section.fragments:
            fragment.offset = offset
            offset += fragment.size
        section.size = offset
        # Each kind of access begins on a page of its own; an empty section needs none.
        alignment = PAGE if flags and offset and flags != section.flags else 1
        alignment = max(alignment, section.alignment)
        address = section.address = -(-address // alignment) * alignment
        address += offset
        flags = section.flags if offset else flags
    return address


def _relax(assembly: Assembly, sections: Sequence[Section], base: int, fragments: Sequence[Fragment]) -> int:
    """Let sizes follow addresses until nothing changes. Jumps only grow, so there is an end to it.

    A size that depends on addresses which it moves itself may never settle: that is a mistake.
    """
    elastic = [fragment for fragment in fragments if type(fragment).resize is not Fragment.resize]
    restless = 0
    while True:
        end = assembly.end.address = _assign(sections, base)
        assembly.evaluator.addresses_moved()
        if end - base > LARGEST_IMAGE:
            largest = max(fragments, key=lambda fragment: fragment.size)
            assembly.report(
                Mistake(f"the program is larger than {LARGEST_IMAGE >> 20} MiB"), largest.place.line
            )
            assembly.fail_if_wrong()
        assembly.evaluator.stage = Stage.SIZING
        changed, mistakes = _resize(assembly, elastic)
        if not changed:
            # Once more for those who were lenient with provisional addresses.
            assembly.evaluator.stage = Stage.SETTLED
            assembly.evaluator.addresses_moved()
            changed, mistakes = _resize(assembly, elastic)
        if not changed:
            for mistake, fragment in mistakes:
                assembly.report(mistake, fragment.place.line)
            assembly.fail_if_wrong()
            return end
        if not any(isinstance(fragment, Code) for fragment in changed):
            restless += 1
        if restless > _MOST_RESTLESS_PASSES:
            mistake = Mistake("this size depends on addresses that it moves itself, and never settles")
            assembly.report(mistake, changed[0].place.line)
            assembly.fail_if_wrong()


def _resize(
    assembly: Assembly, elastic: Sequence[Fragment]
) -> tuple[list[Fragment], list[tuple[Mistake, Fragment]]]:
    """Let every fragment look at the present addresses; return those that changed, and mistakes.

    The mistakes count only when nothing changed: a provisional address may give a negative size, say.
    """
    changed, mistakes = [], []
    for fragment in elastic:
        before = fragment.size
        try:
            fragment.resize(assembly.evaluator)
        except Mistake as mistake:
            mistakes.append((mistake, fragment))
        if fragment.size != before:
            changed.append(fragment)
    return changed, mistakes
