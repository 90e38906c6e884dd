"""Handles of mappings: each belongs to one mapping at a time, and there is an end of them."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.maptrack import Maptrack

MOST: Final = 1024 * 256

#: Which vCPU takes a handle, or which of the handles that are taken is given back.
steps = st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 999)), max_size=900)


@given(steps)
def test_a_handle_is_taken_once_until_it_is_given_back(wanted: list[tuple[bool, int, int]]) -> None:
    maptrack, taken = Maptrack(), list[int]()
    for takes, vcpu, number in wanted:
        if takes or not taken:
            handle = maptrack.allocate(vcpu)
            assert handle is not None
            assert handle not in taken
            taken.append(handle)
        else:
            maptrack.release(taken.pop(number % len(taken)))


def test_a_vcpu_without_handles_takes_those_of_another_when_there_are_no_more_pages() -> None:
    maptrack = Maptrack()
    taken = [maptrack.allocate(0) for _ in range(MOST - 1)]
    assert None not in taken
    assert len(set(taken)) == MOST - 1
    assert maptrack.allocate(0) is None
    assert maptrack.allocate(1) is None
    for handle in (5, 6, 7):
        maptrack.release(handle)
    # Four are free now. The other vCPU keeps one in its list, and so does the one that takes.
    stolen = [maptrack.allocate(1) for _ in range(3)]
    assert [handle is None for handle in stolen] == [False, False, True]
