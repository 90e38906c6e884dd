"""The switch by itself, what it shows to a capture, and its port to the host."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from net_front import CSUM_BLANK, TCP, TCPV4, UDP, NetFront, World, checksums_hold, ethernet, ip_packet, mac

from pvemu.abi.errors import PvemuError
from pvemu.services.net.frame import Frame
from pvemu.services.net.pcap import PcapWriter
from pvemu.services.net.switch import MAX_ADDRESSES, MAX_AGE, Switch
from pvemu.services.net.tap import Tap
from pvemu.services.outside import Source

EVERYBODY = b"\xff" * 6


class Recorder:
    """A port that keeps what it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def deliver(self, frame: Frame) -> None:
        self.frames.append(frame.data)

    def took(self, data: bytes) -> bool:
        taken, self.frames = self.frames, []
        return taken == [data]


class Clock:
    """Virtual nanoseconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def three_ports() -> tuple[Clock, Switch, list[Recorder]]:
    clock = Clock()
    switch = Switch(clock)
    ports = [Recorder() for _ in range(3)]
    for port in ports:
        switch.attach(port)
    return clock, switch, ports


def heard(switch: Switch, ports: list[Recorder], source: int, data: bytes) -> list[int]:
    """Send from a port; who heard it."""
    switch.forward(ports[source], Frame(data))
    return [number for number, port in enumerate(ports) if port.took(data)]


def test_a_frame_goes_to_all_until_its_receiver_has_spoken() -> None:
    _, switch, ports = three_ports()
    assert heard(switch, ports, 0, ethernet(mac(2), mac(0))) == [1, 2]
    assert heard(switch, ports, 2, ethernet(mac(0), mac(2))) == [0]
    assert heard(switch, ports, 0, ethernet(mac(2), mac(0))) == [2]


def test_a_frame_never_returns_to_where_it_came_from() -> None:
    _, switch, ports = three_ports()
    heard(switch, ports, 0, ethernet(mac(9), mac(0)))
    assert heard(switch, ports, 0, ethernet(mac(0), mac(5))) == []


def test_groups_and_everybody_are_all() -> None:
    _, switch, ports = three_ports()
    assert heard(switch, ports, 1, ethernet(EVERYBODY, mac(1))) == [0, 2]
    assert heard(switch, ports, 1, ethernet(bytes.fromhex("333300000001"), mac(1))) == [0, 2]


def test_frames_for_switches_are_not_passed_on() -> None:
    _, switch, ports = three_ports()
    assert heard(switch, ports, 1, ethernet(bytes.fromhex("0180c2000000"), mac(1))) == []


def test_a_group_is_never_learnt_as_somebodys_address() -> None:
    _, switch, ports = three_ports()
    heard(switch, ports, 0, ethernet(mac(1), EVERYBODY))
    assert heard(switch, ports, 1, ethernet(EVERYBODY, mac(1))) == [0, 2]


def test_an_address_that_moves_is_found_at_its_new_port() -> None:
    _, switch, ports = three_ports()
    heard(switch, ports, 0, ethernet(EVERYBODY, mac(7)))
    heard(switch, ports, 1, ethernet(EVERYBODY, mac(7)))
    assert heard(switch, ports, 2, ethernet(mac(7), mac(2))) == [1]


def test_an_address_is_forgotten_with_time_and_with_its_port() -> None:
    clock, switch, ports = three_ports()
    heard(switch, ports, 0, ethernet(EVERYBODY, mac(7)))
    clock.now = MAX_AGE
    assert heard(switch, ports, 1, ethernet(mac(7), mac(1))) == [0]
    clock.now = MAX_AGE + 1
    assert heard(switch, ports, 1, ethernet(mac(7), mac(1))) == [0, 2]
    heard(switch, ports, 0, ethernet(EVERYBODY, mac(7)))
    switch.detach(ports[0])
    assert heard(switch, ports, 1, ethernet(mac(7), mac(1))) == [2]


def test_a_flood_of_addresses_does_not_fill_the_table() -> None:
    _, switch, ports = three_ports()
    for number in range(MAX_ADDRESSES + 1):
        heard(switch, ports, 0, ethernet(EVERYBODY, struct.pack(">HI", 2, number)))
    assert heard(switch, ports, 1, ethernet(struct.pack(">HI", 2, MAX_ADDRESSES), mac(1))) == [0]
    assert heard(switch, ports, 1, ethernet(struct.pack(">HI", 2, 0), mac(1))) == [0, 2]


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    content = path.read_bytes()
    magic, major, minor, _, _, longest, link = struct.unpack_from("<IHHiIII", content)
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 1)
    packets, at = [], 24
    while at < len(content):
        seconds, micros, size, whole = struct.unpack_from("<4I", content, at)
        assert size == whole <= longest
        packets.append((seconds + micros / 1e6, content[at + 16 : at + 16 + size]))
        at += 16 + size
    return packets


def capture_of_offloads(path: Path) -> list[str]:
    """Two guests talk with all offloads on; what was warned of."""
    world = World(1, 2)
    warnings: list[str] = []
    writer = PcapWriter(path, lambda: world.time, warnings.append)
    world.switch.observe(writer.capture)
    sender = NetFront(world, 1)
    NetFront(world, 2, **{"feature-gso-tcpv4": 1})
    world.time = 1_500_000_000
    sender.send(ip_packet(4, UDP, b"question"), CSUM_BLANK)
    world.time = 2_000_001_999
    sender.send(ip_packet(4, TCP, bytes(3000)), CSUM_BLANK, (TCPV4, 1448))
    writer.close()
    return warnings


def test_a_capture_has_what_a_wire_would_carry_at_the_virtual_time(tmp_path: Path) -> None:
    path = tmp_path / "net.pcap"
    assert capture_of_offloads(path) == []
    packets = packets_of(path)
    assert [time for time, _ in packets] == [1.5, 2.000001, 2.000001, 2.000001]
    assert [len(data) for _, data in packets] == [50, 1502, 1502, 158]
    assert all(checksums_hold(data) for _, data in packets)


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump to judge the capture")
def test_tcpdump_finds_no_fault_with_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "net.pcap"
    capture_of_offloads(path)
    command = ["tcpdump", "-nvv", "-r", "-"]
    run = subprocess.run(command, input=path.read_bytes(), capture_output=True, timeout=60, check=True)
    text = run.stdout.decode()
    assert text.count("(correct)") == 3
    assert text.count("[udp sum ok]") == 1
    assert "incorrect" not in text and "bad" not in text


def test_a_capture_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "such", tmp_path / "a\0b"):
        with pytest.raises(PvemuError, match="can't write packets to"):
            PcapWriter(path, lambda: 0, print)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_capture_on_a_full_disk_is_refused() -> None:
    with pytest.raises(PvemuError, match="No space left"):
        PcapWriter(Path("/dev/full"), lambda: 0, print)


def test_a_capture_whose_disk_fills_ends_with_a_warning(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "net.pcap"
    warnings: list[str] = []
    writer = PcapWriter(path, lambda: 0, warnings.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        for _ in range(3):
            writer.capture(Frame(ethernet(mac(1), mac(2), bytes(100))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(warnings) == 1
    assert str(path) in warnings[0]


class FakeOutside:
    """Keeps what is asked for; a test calls it."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}

    def watch(
        self,
        source: Source,
        *,
        on_readable: Callable[[], None] | None = None,
        on_writable: Callable[[], None] | None = None,
    ) -> None:
        assert on_readable is not None and on_writable is None
        self.readers[source.fileno()] = on_readable

    def forget(self, source: Source) -> None:
        self.readers.pop(source.fileno(), None)


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "a b", "..", "tap%d", "ä"])
def test_a_tap_needs_a_name_of_an_interface(name: str) -> None:
    with pytest.raises(PvemuError, match="no name of an interface"):
        Tap(name, Switch(Clock()), FakeOutside())


def test_a_tap_that_the_host_refuses_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PvemuError, match="tap7: only root"):
        Tap("tap7", Switch(Clock()), FakeOutside())


class Rig(NamedTuple):
    """A TAP interface on a switch."""

    device: Tap
    switch: Switch
    ports: list[Recorder]
    outside: FakeOutside


@pytest.fixture
def tap() -> Iterator[Rig]:
    _, switch, ports = three_ports()
    outside = FakeOutside()
    try:
        tap = Tap("pvemutest0", switch, outside)
    except PvemuError as refusal:
        pytest.skip(f"needs a TAP interface: {refusal}")
    yield Rig(tap, switch, ports, outside)
    tap.close()
    assert outside.readers == {}


def test_a_tap_carries_frames_between_host_and_guests(tap: Rig) -> None:
    device, switch, ports, outside = tap
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as host:
        host.settimeout(20)
        request = bytearray(struct.pack("16sH14x", b"pvemutest0", 0))
        fcntl.ioctl(host, 0x8913, request)  # SIOCGIFFLAGS
        flags = struct.unpack_from("<H", request, 16)[0]
        fcntl.ioctl(host, 0x8914, struct.pack("16sH14x", b"pvemutest0", flags | 1))  # SIOCSIFFLAGS: up
        host.bind(("pvemutest0", 0))
        out = ip_packet(4, UDP, b"to the host", destination=EVERYBODY)
        switch.forward(ports[0], Frame(out, checksum_blank=True))
        while (seen := host.recv(2000))[:12] != out[:12]:
            pass
        assert checksums_hold(seen)
        inward = ethernet(mac(1), mac(2), b"from the host" + bytes(40))
        host.send(inward)
        outside.readers[device.fileno()]()
        # It was a frame of port 0's that taught the switch where this receiver is.
        assert inward in ports[0].frames
        assert inward not in ports[1].frames


def test_an_interface_that_is_down_takes_nothing_and_stops_nobody(tap: Rig) -> None:
    _, switch, ports, _ = tap
    switch.forward(ports[0], Frame(ethernet(EVERYBODY, mac(1), bytes(60))))
    assert [len(port.frames) for port in ports] == [0, 1, 1]


@pytest.mark.skipif(shutil.which("ip") is None, reason="needs the program ip, of iproute2")
def test_an_interface_that_the_host_takes_away_is_looked_at_no_more(tap: Rig) -> None:
    device, switch, ports, outside = tap
    subprocess.run(["ip", "link", "delete", "pvemutest0"], check=True)
    outside.readers[device.fileno()]()
    assert outside.readers == {}
    switch.forward(ports[0], Frame(ethernet(EVERYBODY, mac(1), bytes(60))))
    assert [len(port.frames) for port in ports] == [0, 1, 1]
