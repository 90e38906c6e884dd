"""The back half of a ring against a front half that does as io/ring.h says, and against one that doesn't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from split_devices import PAGE, FrontRing

from pvemu.services.ring import BackRing, RingBroken

shapes = st.tuples(st.sampled_from([1, 2, 4, 16]), st.sampled_from([8, 12, 108, 112]))
counters = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0xFFFFFF00, 0xFFFFFFFF))


def both_ends(pages: int, slot_size: int, begin: int) -> tuple[FrontRing, BackRing]:
    memory = [bytearray(PAGE) for _ in range(pages)]
    front = FrontRing(memory, slot_size)
    front.start(begin)
    return front, BackRing([memoryview(page) for page in memory], slot_size)


@given(shape=shapes, begin=counters, batches=st.lists(st.integers(0, 40), max_size=12))
def test_requests_arrive_and_responses_return_in_order(
    shape: tuple[int, int], begin: int, batches: list[int]
) -> None:
    front, back = both_ends(*shape, begin)
    assert back.size == front.size
    number = 0
    for batch in batches:
        sent = []
        for _ in range(min(batch, front.size)):
            sent.append(number.to_bytes(4, "little") * (shape[1] // 4))
            front.put(sent[-1])
            number += 1
        # A back end that has looked asks for the next request: it is told of every first one.
        assert front.push() == bool(sent)
        got = list(back.take_all())
        assert got == sent
        for slot in got:
            back.respond(bytes(reversed(slot)))
        assert front.responses() == []
        assert back.push() == bool(sent)
        assert front.responses() == [bytes(reversed(slot)) for slot in sent]
        assert not back.ask_for_event()


@given(wanted=st.integers(1, 20), sent=st.integers(1, 32))
def test_the_front_end_rings_when_as_much_is_there_as_was_asked_for(wanted: int, sent: int) -> None:
    front, back = both_ends(1, 108, 0)
    assert not back.ask_for_event(wanted)
    rings = 0
    for _ in range(sent):
        front.put(bytes(108))
        rings += front.push()
    assert rings == (sent >= wanted)
    assert back.ask_for_event(wanted) == (sent >= wanted)


@given(wanted=st.integers(1, 20), answered=st.integers(1, 20))
def test_the_back_end_rings_when_as_many_responses_are_there_as_was_asked_for(
    wanted: int, answered: int
) -> None:
    front, back = both_ends(1, 108, 0xFFFFFFF8)
    for _ in range(answered):
        front.put(bytes(108))
    front.push()
    front.set_word(3, (front.rsp_cons + wanted) & 0xFFFFFFFF)
    rings = 0
    for slot in back.take_all():
        back.respond(slot)
        rings += back.push()
    assert rings == (answered >= wanted)


@given(begin=counters, ahead=st.integers(0, 0xFFFFFFFF))
def test_a_producer_may_be_a_ring_ahead_and_no_further(begin: int, ahead: int) -> None:
    front, back = both_ends(1, 108, begin)
    front.set_word(0, (begin + ahead) & 0xFFFFFFFF)
    if ahead <= back.size:
        assert back.waiting() == ahead
    else:
        with pytest.raises(RingBroken):
            back.waiting()
        with pytest.raises(RingBroken):
            list(back.take_all())


@given(taken=st.integers(1, 32), back_by=st.integers(1, 32))
def test_a_producer_can_not_go_behind_what_was_taken(taken: int, back_by: int) -> None:
    front, back = both_ends(1, 108, 0)
    for _ in range(taken):
        front.put(bytes(108))
    front.push()
    assert len(list(back.take_all())) == taken
    front.set_word(0, (taken - back_by) & 0xFFFFFFFF)
    with pytest.raises(RingBroken):
        back.waiting()


def test_a_ring_that_begins_overfull_is_refused() -> None:
    memory = bytearray(PAGE)
    front = FrontRing([memory], 108)
    front.set_word(0, 33)
    with pytest.raises(RingBroken):
        BackRing([memoryview(memory)], 108)


def test_a_request_that_changes_under_our_hands_was_copied_before() -> None:
    front, back = both_ends(1, 108, 0)
    front.put(b"\1" * 108)
    front.push()
    slot = back.take()
    front.pages[0][64 : 64 + 108] = bytes(108)
    assert slot == b"\1" * 108


@given(words=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 0xFFFFFFFF)), max_size=20))
def test_no_counters_make_the_back_end_write_outside_its_slots(words: list[tuple[int, int]]) -> None:
    front, back = both_ends(1, 108, 0)
    used = 64 + 32 * 108
    front.pages[0][used:] = b"\xaa" * (PAGE - used)
    front.pages[0][16:64] = b"\xaa" * 48
    for index, value in words:
        front.set_word(index, value)
        try:
            for slot in back.take_all():
                back.respond(slot)
            back.push()
            back.ask_for_event()
        except RingBroken:
            pass
    assert front.pages[0][used:] == b"\xaa" * (PAGE - used)
    assert front.pages[0][16:64] == b"\xaa" * 48
