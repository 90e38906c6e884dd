"""Two guests' own drivers on one switch, through the machine's grants, event channels and xenstore."""

from pathlib import Path
from typing import Any

from guestkit import assemble
from pvemu import Machine
from pvemu.services.net.nic import NicSpec
from pvemu.toolstack.guest_config import GuestConfig

KERNEL = Path(__file__).with_name("net_guest.gk")


def run_two(directory: Path, options: dict[str, Any]) -> tuple[list[str], bytes]:
    """What two guests print, and the capture of what they said."""
    image = assemble(KERNEL.read_text()).elf
    guests = [GuestConfig(image, name=name, memory=32, interfaces=(NicSpec(),)) for name in ("one", "two")]
    heard = [bytearray(), bytearray()]
    capture = directory / "net.pcap"
    sinks = [each.extend for each in heard]
    with Machine(guests, consoles=sinks, pcap=capture, **options) as machine:
        assert machine.run(seconds=5).outcome.value == "poweroff"
    return [each.decode().strip() for each in heard], capture.read_bytes()


def test_two_guests_hear_each_other_and_every_run_is_the_same(
    tmp_path: Path, machine_options: dict[str, Any]
) -> None:
    heard, capture = run_two(tmp_path, machine_options)
    assert heard == [f"43 bytes, flags 0: Greetings from domain no. {number}." for number in (2, 1)]
    assert capture.count(b"Greetings") >= 3
    assert run_two(tmp_path, machine_options) == (heard, capture)
