"""The frame allocator against a model: a set of free frames, lowest first."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pvemu.memory.frames import NO_OWNER, Frames
from pvemu.memory.heap import Heap, OutOfFrames
from pvemu.memory.ram import PAGE_SIZE, Ram

FIRST, END, FRAMES = 5, 41, 48
DOMAIN = 7


class HeapMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ram = Ram(FRAMES * PAGE_SIZE)
        self.frames = Frames(FRAMES)
        self.heap = Heap(self.ram, self.frames, FIRST, END)
        self.free = set(range(FIRST, END))
        self.taken: list[int] = []

    @rule(order=st.integers(0, 4))
    def allocate(self, order: int) -> None:
        size = 1 << order
        runs = [at for at in range(0, FRAMES, size) if set(range(at, at + size)) <= self.free]
        if not runs:
            with pytest.raises(OutOfFrames):
                self.heap.allocate(DOMAIN, order)
            return
        first = self.heap.allocate(DOMAIN, order)
        assert first == runs[0]
        for mfn in range(first, first + size):
            assert not any(self.ram.frame(mfn))
            assert (self.frames.owner[mfn], self.frames.count[mfn]) == (DOMAIN, 1)
            self.ram.u8[mfn * PAGE_SIZE + mfn] = 0xAA
            self.free.discard(mfn)
            self.taken.append(mfn)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        mfn = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.heap.free(mfn)
        self.free.add(mfn)

    @invariant()
    def free_frames_are_counted_and_nobodys(self) -> None:
        assert self.heap.free_frames == len(self.free)
        assert all(self.frames.owner[mfn] == NO_OWNER and not self.frames.count[mfn] for mfn in self.free)


TestHeap = HeapMachine.TestCase
TestHeap.settings = settings(stateful_step_count=60)


def test_a_heap_is_used_up_from_its_lowest_frame_to_its_last() -> None:
    heap = Heap(Ram(FRAMES * PAGE_SIZE), Frames(FRAMES), FIRST, END)
    assert [heap.allocate(1) for _ in range(END - FIRST)] == list(range(FIRST, END))
    with pytest.raises(OutOfFrames):
        heap.allocate(1)
