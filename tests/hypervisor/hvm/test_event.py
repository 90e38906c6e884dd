"""Two events at once: what is delivered, by the rules of double and triple faults (APM volume 2, 8.2.9)."""

from hypothesis import given
from hypothesis import strategies as st

from pvemu.cpu import exits
from pvemu.hypervisor.hvm.event import DOUBLE_FAULT, Event, Source, combine

_CONTRIBUTORY = (exits.DE, exits.TS, exits.NP, exits.SS, exits.GP)
_BENIGN = (exits.DB, exits.BP, exits.OF, exits.BR, exits.UD, exits.NM, exits.MF, exits.AC, exits.XF)
#: What the delivery of an event can raise.
_ON_THE_WAY = st.sampled_from((exits.TS, exits.NP, exits.SS, exits.GP, exits.PF)).map(
    lambda vector: Event(vector, error_code=0)
)


@given(st.sampled_from(_CONTRIBUTORY), st.sampled_from(_CONTRIBUTORY))
def test_two_contributory_exceptions_make_a_double_fault(first: int, second: int) -> None:
    assert combine(Event(first), Event(second)) == DOUBLE_FAULT


@given(_ON_THE_WAY)
def test_a_page_fault_makes_a_double_fault_of_whatever_follows(second: Event) -> None:
    assert combine(Event(exits.PF, error_code=0), second) == DOUBLE_FAULT


@given(st.sampled_from(_CONTRIBUTORY))
def test_a_page_fault_on_the_way_of_a_contributory_exception_is_delivered_itself(first: int) -> None:
    second = Event(exits.PF, error_code=2, address=0x1000)
    assert combine(Event(first), second) == second


@given(st.sampled_from(_BENIGN), _ON_THE_WAY)
def test_what_follows_a_benign_exception_is_delivered_itself(first: int, second: Event) -> None:
    assert combine(Event(first), second) == second


@given(st.integers(0, 255), st.sampled_from([Source.EXTERNAL, Source.SOFTWARE, Source.ICEBP]), _ON_THE_WAY)
def test_interrupts_are_benign_whatever_their_vector(vector: int, source: Source, second: Event) -> None:
    assert combine(Event(vector, source), second) == second


@given(_ON_THE_WAY)
def test_nothing_can_follow_a_double_fault(second: Event) -> None:
    assert combine(DOUBLE_FAULT, second) is None
