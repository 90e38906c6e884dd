"""Debug ports, the exit port, and the keyboard controller that resets the machine."""

import pytest

from pvemu.services.device_model.debug_port import BOCHS_PORT, FIRMWARE_PORT, DebugPort
from pvemu.services.device_model.exit_port import EXIT_PORT, ExitPort
from pvemu.services.device_model.keyboard_controller import (
    COMMAND_PORT,
    CONTROL_PORT,
    DATA_PORT,
    KeyboardController,
)


@pytest.mark.parametrize("port", [BOCHS_PORT, FIRMWARE_PORT])
def test_a_debug_port_prints_each_byte_and_says_that_it_is_there(port: int) -> None:
    printed = bytearray()
    device = DebugPort(port, printed.extend)
    for byte in b"now":
        device.write_byte(port, byte)
    assert printed == b"now" and device.printed == 3
    assert device.read_byte(port) == 0xE9


def test_the_exit_status_is_an_odd_number() -> None:
    statuses: list[int] = []
    ExitPort(statuses.append).write(EXIT_PORT, 1, 16)
    assert statuses == [33]


class Keyboard:
    """A keyboard controller and how often it has reset the machine."""

    def __init__(self) -> None:
        self.resets = 0
        self.device = KeyboardController(self._reset)

    def _reset(self) -> None:
        self.resets += 1

    def command(self, value: int) -> None:
        self.device.write_byte(COMMAND_PORT, value)

    def data(self, value: int) -> None:
        self.device.write_byte(DATA_PORT, value)

    @property
    def status(self) -> int:
        return self.device.read_byte(COMMAND_PORT)

    def answer(self) -> int:
        return self.device.read_byte(DATA_PORT)


@pytest.mark.parametrize(("command", "resets"), [(0xFE, 1), (0xF0, 1), (0xFF, 0), (0xFD, 0), (0xAA, 0)])
def test_a_pulse_on_the_reset_line_resets(command: int, resets: int) -> None:
    keyboard = Keyboard()
    keyboard.command(command)
    assert keyboard.resets == resets


def test_the_output_port_and_control_port_a_reset_too() -> None:
    keyboard = Keyboard()
    keyboard.command(0xD1)
    keyboard.data(0xDE)
    keyboard.device.write_byte(CONTROL_PORT, 0x03)
    assert keyboard.resets == 2


def test_control_port_a_keeps_the_gate_of_the_21st_address_line() -> None:
    keyboard = Keyboard()
    keyboard.device.write_byte(CONTROL_PORT, 0x00)
    assert keyboard.device.read_byte(CONTROL_PORT) == 0
    keyboard.device.write_byte(CONTROL_PORT, 0x02)
    assert keyboard.device.read_byte(CONTROL_PORT) == 2
    assert keyboard.resets == 0


def test_the_input_buffer_is_never_full_and_the_output_buffer_only_with_an_answer() -> None:
    keyboard = Keyboard()
    assert keyboard.status & 3 == 0
    keyboard.command(0xAA)
    assert keyboard.status & 3 == 1
    assert keyboard.answer() == 0x55
    assert keyboard.status & 3 == 0


def test_the_configuration_is_kept_and_shows_what_is_switched_off() -> None:
    keyboard = Keyboard()
    keyboard.command(0x60)
    keyboard.data(0x45)
    keyboard.command(0xAD)
    keyboard.command(0x20)
    assert keyboard.answer() == 0x55
    keyboard.command(0xAE)
    keyboard.command(0x20)
    assert keyboard.answer() == 0x45


def test_a_byte_for_the_keyboard_that_is_not_there_is_answered_by_a_timeout() -> None:
    keyboard = Keyboard()
    keyboard.data(0xFF)
    assert keyboard.status & 0x41 == 0x41
    assert keyboard.answer() == 0xFE
    assert not keyboard.status & 0x40


def test_the_output_port_reads_as_it_was_written() -> None:
    keyboard = Keyboard()
    keyboard.command(0xD1)
    keyboard.data(0xDF)
    keyboard.command(0xD0)
    assert keyboard.answer() == 0xDF
    assert keyboard.resets == 0


@pytest.mark.parametrize("command", [0xD2, 0xD3])
def test_a_byte_can_be_read_as_if_it_came_from_a_device(command: int) -> None:
    keyboard = Keyboard()
    keyboard.command(command)
    keyboard.data(0x5A)
    assert keyboard.status & 0x41 == 0x01
    assert keyboard.answer() == 0x5A
