"""Whatever an HVM guest asks in whatever mode, it gets a number, and all counts stay right."""

from contextlib import suppress

import pytest
from hoard import Hoard
from hypothesis import given, settings
from hypothesis import strategies as st
from translated import PAGES, REQUESTS_GFN, Translated

from pvemu.abi.hypercalls import HVM, HYPERCALLS
from pvemu.memory.guest import GuestFault

NAMES = [row.name for row in HYPERCALLS if HVM in row.guests]
_REQUESTS = REQUESTS_GFN << 12
_WORDS = st.one_of(
    st.integers(0, 40),
    st.sampled_from([_REQUESTS, _REQUESTS + 64, _REQUESTS + 4090, 0x7FF0, PAGES << 12, 1 << 31, 1 << 32]),
    st.sampled_from([0xFFFFFFFF, 0xFFFFFFF0, 1 << 47, (1 << 64) - 1, (1 << 64) - 16]),
    st.integers(0, (1 << 64) - 1),
)
_CALLS = st.tuples(
    st.sampled_from(NAMES),
    st.lists(_WORDS, min_size=5, max_size=5),
    st.lists(st.one_of(st.integers(0, 255), st.just(0)), max_size=96).map(bytes),
)


@pytest.mark.parametrize("word", [4, 8])
@settings(max_examples=80)
@given(calls=st.lists(_CALLS, min_size=1, max_size=12), without_memory=st.booleans())
def test_every_hypercall_answers_with_a_number(
    word: int, calls: list[tuple[str, list[int], bytes]], without_memory: bool
) -> None:
    mask = (1 << 8 * word) - 1
    with Translated(word=word, vcpus=2) as machine:
        hoard = Hoard(machine.hypervisor) if without_memory else None
        guest = machine[1]
        for name, words, request in calls:
            with suppress(GuestFault):
                guest.put(request)
            assert isinstance(guest.call(name, *(each & mask for each in words)), int)
            if guest.domain.has_shut_down:
                break
        machine.audit()
        if hoard is not None:
            hoard.give_back()
        for domid in (1, 2):
            machine.destroy(domid)
        assert machine.hypervisor.heap.free_frames == machine.free_frames
