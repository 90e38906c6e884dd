"""The devices of a PC that domain 0 emulates for an HVM guest: serial port, debug ports, ways out, disks."""

from collections.abc import Callable, Mapping
from typing import Final

from pvemu.abi.sched import SHUTDOWN_poweroff, SHUTDOWN_reboot
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.services.block.image import Image
from pvemu.services.device_model import ata_channel, unplug_ports
from pvemu.services.device_model.ata_channel import AtaChannel
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
_ATA_PLACES: Final = (ata_channel.PRIMARY, ata_channel.SECONDARY)
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


def add_disks(
    domctl: Domctl, domain: Domain, images: Mapping[int, Image], warn: Callable[[str], None]
) -> None:
    """Give a guest ATA disks, and the ports by which it can take them away.

    Args:
        images: by the drive's place, 0 to 3: the first two are on the primary channel.
        warn: told, in one line, when an image fails.
    """
    drives = range(len(_ATA_PLACES) * ata_channel.DRIVES)
    channels: list[AtaChannel] = []
    for number, place in enumerate(_ATA_PLACES):
        own = drives[number * ata_channel.DRIVES :][: ata_channel.DRIVES]
        channel = AtaChannel(
            place,
            domctl.hvm.isa_irq(domain, place.line),
            [images.get(drive) for drive in own],
            [f"PV{drive + 1:05}" for drive in own],
            lambda line: warn(f"{domain}: disk {line}"),
        )
        channels.append(channel)
        if images.keys() & set(own):
            domctl.hvm.map_io_ports(domain, place.first, place.first + ata_channel.PORTS - 1, channel)
            domctl.hvm.map_io_ports(domain, place.control, place.control, channel)
            domctl.hvm.map_string_port(domain, place.first, channel)

    def unplug(keeps_first: bool) -> None:
        for drive in drives[int(keeps_first) :]:
            channels[drive // ata_channel.DRIVES].unplug(drive % ata_channel.DRIVES)

    ports = unplug_ports.UnplugPorts(unplug)
    domctl.hvm.map_io_ports(domain, unplug_ports.FIRST_PORT, unplug_ports.LAST_PORT, ports)
