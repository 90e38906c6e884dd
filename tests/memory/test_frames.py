"""What is kept of each frame, and who may take a reference."""

from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.xen import DOMID_XEN
from pvemu.memory.frames import Frames, FrameType

NUMBER = 16


def test_a_fresh_frame_has_one_reference_and_no_type() -> None:
    frames = Frames(NUMBER)
    frames.assign(3, 7)
    assert (frames.owner[3], frames.count[3], frames.type[3], frames.type_count[3]) == (
        7,
        1,
        FrameType.NONE,
        0,
    )


@given(st.integers(0, 1 << 40), st.sampled_from([7, 8, DOMID_XEN]))
def test_a_reference_is_given_only_on_a_used_frame_of_the_domain(mfn: int, domid: int) -> None:
    frames = Frames(NUMBER)
    frames.assign(3, 7)
    frames.assign(4, DOMID_XEN)
    expected = (mfn, domid) in ((3, 7), (4, DOMID_XEN))
    assert frames.get_page(mfn, domid) is expected
    if mfn < NUMBER:
        assert frames.count[mfn] == (1 if mfn in (3, 4) else 0) + expected


def test_a_released_frame_can_be_referred_to_no_more() -> None:
    frames = Frames(NUMBER)
    frames.assign(3, 7)
    frames.release(3)
    assert not frames.get_page(3, 7)
    assert frames.count[3] == 0


def test_a_shared_frame_is_writable_for_its_domain_for_good() -> None:
    frames = Frames(NUMBER)
    frames.share(3, 7)
    assert frames.get_page(3, 7)
    assert (frames.type[3], frames.type_count[3], frames.validated[3]) == (FrameType.WRITABLE, 1, 1)


@given(st.integers(0, 2 * NUMBER))
def test_any_frame_can_be_described_in_one_line(mfn: int) -> None:
    frames = Frames(NUMBER)
    frames.assign(3, 7)
    assert "\n" not in frames.describe(mfn)
