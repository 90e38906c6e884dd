"""The devices of a PC that domain 0 emulates for an HVM guest: serial port, debug ports, and ways out."""

from collections.abc import Callable
from typing import Final

from pvemu.abi.sched import SHUTDOWN_poweroff, SHUTDOWN_reboot
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.services.device_model.debug_port import BOCHS_PORT, FIRMWARE_PORT, DebugPort
from pvemu.services.device_model.exit_port import EXIT_PORT, EXIT_PORTS, ExitPort
from pvemu.services.device_model.keyboard_controller import (
    COMMAND_PORT,
    CONTROL_PORT,
    DATA_PORT,
    KeyboardController,
)
from pvemu.services.device_model.serial import COM1, PORTS, Serial

Sink = Callable[[bytes], None]
_KEYBOARD_PORTS: Final = (DATA_PORT, COMMAND_PORT, CONTROL_PORT)


def add_debug_port(domctl: Domctl, domain: Domain, sink: Sink) -> None:
    """Give a guest the port that prints what is written to it; every HVM guest of Xen's has one."""
    domctl.hvm.map_io_ports(domain, BOCHS_PORT, BOCHS_PORT, DebugPort(BOCHS_PORT, sink))


def add_pc_devices(domctl: Domctl, domain: Domain, sink: Sink, tell: Callable[[str], None]) -> Serial:
    """Give a guest the rest of a small PC; its first serial port, for what is typed.

    Args:
        sink: takes what the guest prints.
        tell: takes, in one line, the number with which a guest leaves by the exit port.
    """

    def leave(status: int) -> None:
        tell(f"{domain} left by the exit port with status {status}")
        domain.shutdown(SHUTDOWN_poweroff)

    first_port, line = COM1
    serial = Serial(first_port, domctl.hvm.isa_irq(domain, line), sink)
    keyboard = KeyboardController(lambda: domain.shutdown(SHUTDOWN_reboot))
    ways = domctl.hvm.map_io_ports
    ways(domain, first_port, first_port + PORTS - 1, serial)
    ways(domain, FIRMWARE_PORT, FIRMWARE_PORT, DebugPort(FIRMWARE_PORT, sink))
    ways(domain, EXIT_PORT, EXIT_PORT + EXIT_PORTS - 1, ExitPort(leave))
    for port in _KEYBOARD_PORTS:
        ways(domain, port, port, keyboard)
    return serial
