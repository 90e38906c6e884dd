"""A machine that has gone back to a snapshot is the machine of the snapshot: the same things happen again."""

import itertools
from collections import deque

import pytest
from hypothesis import given, settings

from guestkit import assemble
from pvemu import Machine
from pvemu.testing.object_image import ObjectImage
from pvemu.testing.program import Program
from pvemu.testing.program_strategies import programs
from pvemu.testing.snapshot import Snapshot
from pvemu.testing.stage import Stage, stage_for

TICKING = """
guest "ticking"
include "start.gk"
include "print.gk"
include "time.gk"
section .text
main:   mov ebx, 400
.next:  print "."
        call system_time
        add [sum], eax
        fld1
        fstp qword [number]
        cpuid
        mov ebx, [left]
        dec dword [left]
        jnz .next
        ret
section .data
align 8
number: dq 0
sum:    dd 0
left:   dd 400
"""


def trace_of(stage: Stage, program: Program) -> tuple[object, ...]:
    """Everything that can be seen of a program: results, times, memory, registers, log."""
    results = [(outcome.result, outcome.told) for outcome in stage.run(program)]
    hypervisor = stage.hypervisor
    frames = hypervisor.frames
    columns = (frames.owner, frames.count, frames.type, frames.type_count, bytes(frames.pinned))
    return (
        results,
        hypervisor.tsc(),
        hypervisor.counters.copy(),
        bytes(hypervisor.ram.u8),
        hypervisor.cpu.save(),
        stage.machine.log_lines.copy(),
        [repr(domain.channels) for domain in hypervisor.domains.values()],
        repr(columns),
    )


@settings(max_examples=25)
@given(programs(most_steps=12), programs(most_steps=12))
def test_a_program_does_the_same_after_a_reset_whatever_was_done_between(
    program: Program, other: Program
) -> None:
    stage = stage_for(2)
    first = trace_of(stage, program)
    stage.run(other)
    assert trace_of(stage, program) == first


def test_a_guest_runs_on_from_the_snapshot_exit_by_exit() -> None:
    with Machine(assemble(TICKING).elf, memory=8, machine_memory=24) as machine:
        exits: list[tuple[int, int]] = []
        machine.hypervisor.cpu.trace(lambda number: exits.append((number, machine.hypervisor.tsc())))
        machine.run(0.001)
        snapshot = Snapshot(machine)
        runs = []
        for _ in range(3):
            del exits[:]
            result = machine.run(2)
            runs.append((result, list(exits), bytes(machine.console_bytes), bytes(machine.hypervisor.ram.u8)))
            snapshot.reset()
        assert runs[0][2].count(b".") == 400
        assert runs[1:] == runs[:1] * 2


def test_a_domain_that_has_died_is_back_after_a_reset() -> None:
    stage = stage_for(2)
    stage.puppets[1].domain.shutdown(0)
    stage.settle()
    assert not stage.puppets[1].is_alive
    assert 2 not in stage.hypervisor.domains
    stage.reset()
    assert stage.puppets[1].is_alive
    assert stage.puppets[1].call("sched_op", 0, 0) == 0


def test_an_older_snapshot_can_be_gone_back_to_after_a_newer_one() -> None:
    with Machine(assemble(TICKING).elf, memory=8, machine_memory=24) as machine:
        first, start = Snapshot(machine), machine.hypervisor.tsc()
        machine.run(0.0005)
        second, at = Snapshot(machine), machine.hypervisor.tsc()
        memory = bytes(machine.hypervisor.ram.u8)
        first.reset()
        assert machine.hypervisor.tsc() == start
        machine.run(0.003)
        second.reset()
        assert (machine.hypervisor.tsc(), bytes(machine.hypervisor.ram.u8)) == (at, memory)


class Held:
    """Objects of each kind that can be kept; its module counts as a foreign one with attributes."""

    __slots__ = ("count", "entries", "later", "names", "number", "queue", "raw")

    def __init__(self) -> None:
        self.number = 1
        self.entries = {"b": 1, "a": [2]}
        self.names = {3, 4}
        self.queue = deque([5])
        self.raw = bytearray(b"six")


class Owner:
    def __init__(self) -> None:
        self.held = Held()
        self.count = itertools.count(7)
        calls = 0

        def called() -> int:
            nonlocal calls
            calls += 1
            return calls

        self.called = called


def test_objects_keep_their_identity_and_get_back_what_they_held() -> None:
    # Only objects of pvemu's are looked into.
    Owner.__module__ = Held.__module__ = "pvemu.testing.test"
    owner = Owner()
    image = ObjectImage(owner)
    held, inner = owner.held, owner.held.entries["a"]
    for _ in range(2):
        owner.called()
        next(owner.count)
        held.number = 9
        held.later = 1
        held.entries.clear()
        inner.append(10)  # type: ignore[attr-defined]
        held.names.add(11)
        held.queue.append(12)
        held.raw += b"!"
        owner.held = Held()
        owner.more = 13  # type: ignore[attr-defined]
        image.restore()
        assert owner.held is held and held.entries["a"] is inner
        assert (held.number, held.entries, held.names) == (1, {"b": 1, "a": [2]}, {3, 4})
        assert (list(held.queue), held.raw) == ([5], b"six")
        assert not hasattr(held, "later") and not hasattr(owner, "more")
        assert list(held.entries) == ["b", "a"]
    assert owner.called() == 1
    assert next(owner.count) == 7


def test_what_can_not_be_kept_is_refused_with_its_place() -> None:
    owner = Owner()
    owner.held.number = (each for each in range(3))  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"generator, found at Owner\.held\.number"):
        ObjectImage(owner)
