"""The 8259s against a model that keeps its lines in a list, the most urgent first."""

from bench import Bench
from hypothesis import given
from hypothesis import strategies as st

from pvemu.hypervisor.hvm.vpic import Vpic

BASES = (0x20, 0x28)


class ModelController:
    """Eight lines in order of priority. Fully nested: what is in service stops itself and all behind it."""

    def __init__(self) -> None:
        self.order = list(range(8))
        self.high: set[int] = set()
        self.requested: set[int] = set()
        self.serving: set[int] = set()
        self.masked: set[int] = set()

    def drive(self, line: int, high: bool) -> None:
        if high and line not in self.high:
            self.requested.add(line)
        if not high:
            self.requested.discard(line)
        (self.high.add if high else self.high.discard)(line)

    def next(self) -> int | None:
        for line in self.order:
            if line in self.serving:
                return None
            if line in self.requested - self.masked:
                return line
        return None

    def serve(self, line: int) -> None:
        self.requested.discard(line)
        self.serving.add(line)

    def end(self, line: int | None, *, rotate: bool) -> None:
        if line is None:
            line = next((each for each in self.order if each in self.serving), None)
        if line is not None:
            self.serving.discard(line)
            if rotate:
                self.make_lowest(line)

    def make_lowest(self, line: int) -> None:
        at = self.order.index(line) + 1
        self.order = self.order[at:] + self.order[:at]


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.sampled_from([0, 1, 6, 7, 8, 9, 15]), st.booleans()),
        st.tuples(st.just("mask"), st.integers(0, 1), st.integers(0, 255)),
        st.tuples(st.just("end"), st.integers(0, 1), st.booleans()),
        st.tuples(st.just("end of"), st.integers(0, 15), st.booleans()),
        st.tuples(st.just("lowest"), st.integers(0, 15), st.just(0)),
        st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


def initialized(kicks: list[int]) -> Vpic:
    vpic = Vpic(lambda: kicks.append(1))
    for port, words in ((0x20, (0x11,)), (0x21, (0x20, 4, 1)), (0xA0, (0x11,)), (0xA1, (0x28, 2, 1))):
        for word in words:
            vpic.write_byte(port, word)
    return vpic


@given(_STEPS)
def test_requests_come_in_the_order_of_their_priorities(steps: list[tuple[str, int, int]]) -> None:
    kicks: list[int] = []
    vpic = initialized(kicks)
    lines = [vpic.line(number) for number in range(16)]
    first, second = ModelController(), ModelController()
    commands, data = (0x20, 0xA0), (0x21, 0xA1)
    for what, which, value in steps:
        controller = (first, second)[which >> 3 if what in ("line", "end of", "lowest") else which]
        if what == "line":
            lines[which](bool(value))
            controller.drive(which & 7, bool(value))
        elif what == "mask":
            vpic.write_byte(data[which], value)
            controller.masked = {line for line in range(8) if value >> line & 1}
        elif what == "end":
            vpic.write_byte(commands[which], 0xA0 if value else 0x20)
            controller.end(None, rotate=bool(value))
        elif what == "end of":
            vpic.write_byte(commands[which >> 3], (0xE0 if value else 0x60) | which & 7)
            controller.end(which & 7, rotate=bool(value))
        elif what == "lowest":
            vpic.write_byte(commands[which >> 3], 0xC0 | which & 7)
            controller.make_lowest(which & 7)
        # The cascade is no edge: it asks as long as the second controller has something to ask for.
        first.requested.discard(2)
        if second.next() is not None:
            first.requested.add(2)
        line = first.next()
        assert vpic.pending() == (line is not None)
        if what == "acknowledge" and line is not None:
            first.serve(line)
            expected = BASES[0] + line
            if line == 2:
                inner = second.next()
                assert inner is not None
                second.serve(inner)
                expected = BASES[1] + inner
                first.requested.discard(2)
                if second.next() is not None:
                    first.requested.add(2)
            assert vpic.acknowledge() == expected
            assert vpic.pending() == (first.next() is not None)


def test_a_line_in_service_does_not_interrupt_itself() -> None:
    vpic = initialized([])
    line = vpic.line(3)
    line(True)
    assert vpic.acknowledge() == BASES[0] + 3
    line(False)
    line(True)
    assert not vpic.pending()
    vpic.write_byte(0x20, 0x20)
    assert vpic.acknowledge() == BASES[0] + 3


def test_an_end_with_rotation_makes_its_line_the_least_urgent() -> None:
    vpic = initialized([])
    for number in (3, 4, 6):
        vpic.line(number)(True)
    for end, expected in ((0xA0, 3), (0x20, 4), (0x20, 6)):
        assert vpic.acknowledge() == BASES[0] + expected
        vpic.write_byte(0x20, end)
    for number in (3, 4):
        vpic.line(number)(False)
        vpic.line(number)(True)
    assert vpic.acknowledge() == BASES[0] + 4


def test_the_output_kicks_when_it_rises_and_not_before_it_has_fallen() -> None:
    kicks: list[int] = []
    vpic = initialized(kicks)
    vpic.line(4)(True)
    vpic.line(3)(True)
    assert len(kicks) == 1
    vpic.acknowledge()
    vpic.line(0)(True)
    assert len(kicks) == 2


def test_a_request_that_has_gone_is_answered_with_line_7_and_is_not_in_service() -> None:
    vpic = initialized([])
    vpic.line(4)(True)
    vpic.line(4)(False)
    assert not vpic.pending()
    assert vpic.acknowledge() == BASES[0] + 7
    vpic.write_byte(0x20, 0x0B)
    assert vpic.read_byte(0x20) == 0


def test_in_special_fully_nested_mode_a_more_urgent_line_of_the_second_controller_gets_through() -> None:
    vpic = initialized([])
    vpic.write_byte(0x20, 0x11)
    for word in (0x20, 0x04, 0x11):
        vpic.write_byte(0x21, word)
    vpic.line(12)(True)
    assert vpic.acknowledge() == BASES[1] + 4
    vpic.line(9)(True)
    assert vpic.acknowledge() == BASES[1] + 1


def test_while_it_is_being_initialized_it_interrupts_nobody() -> None:
    vpic = initialized([])
    vpic.write_byte(0x20, 0x11)
    vpic.line(1)(True)
    assert not vpic.pending()
    for word in (0x20, 0x04, 0x01):
        vpic.write_byte(0x21, word)
    assert vpic.acknowledge() == BASES[0] + 1


def test_the_masked_timer_asks_as_soon_as_it_is_unmasked_although_no_timer_was_set() -> None:
    bench = Bench()
    bench.clock.pass_(60_000_000)
    assert bench.clock.timers.next_expiry() is None
    assert not bench.platform.vpic.pending()
    bench.out(0x20, 0x0A)
    assert bench.in_(0x20) == 1
    bench.out(0x21, 0xFE)
    assert bench.platform.acknowledge(0) == 8
    assert bench.clock.timers.next_expiry() is not None
