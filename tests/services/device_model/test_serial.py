"""The serial port from both ends: what a guest does with its registers, and what a person types and sees."""

from hypothesis import given
from hypothesis import strategies as st

from pvemu.services.device_model.serial import Serial

FIRST = 0x3F8
DATA, ENABLE, IDENTIFICATION, FIFO_CONTROL = 0, 1, 2, 2
LINE_CONTROL, MODEM_CONTROL, LINE_STATUS, MODEM_STATUS = 3, 4, 5, 6
DATA_READY = 1


class Wired:
    """A UART with its line, and what came out of it."""

    def __init__(self) -> None:
        self.printed = bytearray()
        self.line = False
        self.serial = Serial(FIRST, self._drive, self.printed.extend)

    def _drive(self, high: bool) -> None:
        self.line = high

    def __getitem__(self, register: int) -> int:
        return self.serial.read_byte(FIRST + register)

    def __setitem__(self, register: int, value: int) -> None:
        self.serial.write_byte(FIRST + register, value)

    def drain(self) -> bytes:
        received = bytearray()
        while self[LINE_STATUS] & DATA_READY:
            received.append(self[DATA])
        return bytes(received)


def test_what_a_guest_sends_is_printed_at_once() -> None:
    wired = Wired()
    for byte in b"hello":
        assert wired[LINE_STATUS] & 0x60 == 0x60
        wired[DATA] = byte
    assert wired.printed == b"hello"
    assert wired.serial.printed == 5


def test_the_divisor_is_not_printed() -> None:
    wired = Wired()
    wired[LINE_CONTROL] = 0x80
    wired[DATA], wired[ENABLE] = 0x01, 0x00
    assert (wired[DATA], wired[ENABLE]) == (0x01, 0x00)
    wired[LINE_CONTROL] = 0x03
    assert wired.printed == b""


@given(st.binary(max_size=100), st.booleans())
def test_all_that_is_typed_arrives_in_order_whatever_the_receiver_holds(keys: bytes, fifos: bool) -> None:
    wired = Wired()
    wired[FIFO_CONTROL] = 0xC1 if fifos else 0
    wired.serial.type(keys[:7])
    wired.serial.type(keys[7:])
    assert wired.serial.holds_keys == bool(keys)
    assert wired.drain() == keys
    assert not wired.serial.holds_keys
    assert not wired[LINE_STATUS] & 0x02


def test_typing_interrupts_until_everything_is_read() -> None:
    wired = Wired()
    wired[ENABLE] = 0x01
    wired.serial.type(b"ab")
    assert wired.line and wired[IDENTIFICATION] == 0x04
    assert wired[DATA] == ord("a") and wired.line
    assert wired[DATA] == ord("b") and not wired.line
    assert wired[IDENTIFICATION] == 0x01


def test_fewer_bytes_than_the_trigger_are_told_as_a_timeout() -> None:
    wired = Wired()
    wired[FIFO_CONTROL] = 0x81
    wired[ENABLE] = 0x01
    wired.serial.type(b"1234567")
    assert wired.line and wired[IDENTIFICATION] == 0xCC
    wired.serial.type(b"8")
    assert wired[IDENTIFICATION] == 0xC4


def test_the_transmitters_interrupt_is_taken_back_by_its_identification_and_comes_with_each_byte() -> None:
    wired = Wired()
    wired[ENABLE] = 0x02
    assert wired.line
    assert wired[IDENTIFICATION] == 0x02 and not wired.line
    wired[DATA] = ord("x")
    assert wired.line


def test_in_loop_back_nothing_gets_out_or_in() -> None:
    wired = Wired()
    wired[MODEM_CONTROL] = 0x10
    wired[DATA] = ord("z")
    wired.serial.type(b"k")
    assert wired.printed == b""
    assert wired.drain() == b"z"
    wired[MODEM_CONTROL] = 0x00
    assert wired.drain() == b"k"


def test_somebody_is_at_the_other_end() -> None:
    assert Wired()[MODEM_STATUS] & 0xF0 == 0xB0


def test_more_keys_than_anybody_types_are_lost_and_not_kept_for_ever() -> None:
    wired = Wired()
    for _ in range(5):
        wired.serial.type(bytes(1 << 19))
    assert len(wired.drain()) <= (1 << 20) + 16


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.one_of(st.none(), st.integers(0, 255))),
        max_size=80,
    )
)
def test_whatever_a_guest_does_a_register_reads_as_a_byte(accesses: list[tuple[int, int | None]]) -> None:
    wired = Wired()
    wired.serial.type(b"0123456789" * 5)
    for register, value in accesses:
        if value is None:
            assert 0 <= wired.serial.read_byte(FIRST + register) < 256
        else:
            wired.serial.write_byte(FIRST + register, value)
