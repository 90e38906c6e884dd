"""The examples that want services of domain 0, or another guest, do what they say."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from company import Played, plan, play

from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
EXPECTED = EXAMPLES / "expected"
SECTOR = 512
PATTERN_START, PATTERN_SECTORS = 8, 2000


def expected(*names: str) -> list[str]:
    return [(EXPECTED / f"{name}.txt").read_text() for name in names]


def assert_well(played: Played, *names: str) -> None:
    assert played.texts == expected(*names)
    assert played.result.outcome is Outcome.POWEROFF


def pattern() -> bytes:
    """What the example writes: each dword is its number times the golden ratio."""
    words = PATTERN_SECTORS * SECTOR // 4
    return b"".join(struct.pack("<I", number * 0x9E3779B1 & 0xFFFFFFFF) for number in range(words))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty disk of 1 MiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


def assert_was_written(image: Path, starts: int) -> None:
    data = image.read_bytes()
    assert int.from_bytes(data[:4], "little") == starts
    assert data[PATTERN_START * SECTOR :][: PATTERN_SECTORS * SECTOR] == pattern()


def test_xenbus_reads_watches_and_counts(machine_options: Any) -> None:
    assert_well(play(plan(EXAMPLES / "xenbus.gk"), machine_options=machine_options), "xenbus")


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
def test_pvhvm_is_a_pc_with_the_disk_of_a_pv_guest(paging: Paging, image: Path, machine_options: Any) -> None:
    guest = plan(EXAMPLES / "pvhvm.gk", disks=[f"{image},xvda,w"], paging=paging)
    assert_well(play(guest, machine_options=machine_options), "pvhvm")


def test_disk_writes_what_it_says_into_the_image(image: Path, machine_options: Any) -> None:
    guest = plan(EXAMPLES / "disk.gk", disks=[f"{image},xvda,w"])
    assert_well(play(guest, machine_options=machine_options), "disk")
    assert_was_written(image, starts=1)


def test_disk_finds_what_an_earlier_run_has_written(image: Path) -> None:
    command = [sys.executable, "-m", "pvemu", "run", EXAMPLES / "disk.gk", "--disk", f"{image},xvda,w"]
    runs = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [run.stdout.splitlines()[1] for run in runs] == [
        "This is start number 1.",
        "This is start number 2.",
    ]
    assert_was_written(image, starts=2)


def test_disk_notices_what_is_wrong(image: Path, machine_options: Any) -> None:
    guest = plan(EXAMPLES / "disk.gk", disks=[f"{image},xvda,r"])
    played = play(guest, machine_options=machine_options)
    assert played.texts[0].endswith("Panic: The disk has refused something.\n")
    assert played.result.outcome is Outcome.CRASH
    assert image.read_bytes() == bytes(1 << 20)


def test_ping_and_pong_share_a_page_and_a_port(machine_options: Any) -> None:
    folder = EXAMPLES / "ping-pong"
    played = play(plan(folder / "ping.gk"), plan(folder / "pong.gk"), machine_options=machine_options)
    assert_well(played, "ping-pong/ping", "ping-pong/pong")


def test_driver_domain_serves_a_guest_that_can_not_tell(image: Path, machine_options: Any) -> None:
    driver = plan(EXAMPLES / "driver-domain/driver.gk", disks=[f"{image},xvda,w"], driver_domain=True)
    guest = plan(EXAMPLES / "disk.gk", disks=["vdev=xvda,access=rw,backend=driver"])
    played = play(driver, guest, machine_options=machine_options)
    assert_well(played, "driver-domain/driver", "driver-domain/guest")
    assert played.texts[1] == expected("disk")[0]
    assert_was_written(image, starts=1)


def test_driver_domain_runs_from_its_configuration_files(tmp_path: Path) -> None:
    folder = tmp_path / "driver-domain"
    folder.mkdir()
    for path in (EXAMPLES / "driver-domain").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "disk.gk").write_bytes((EXAMPLES / "disk.gk").read_bytes())
    (folder / "disk.img").write_bytes(bytes(1 << 20))
    command = [sys.executable, "-m", "pvemu", "run", folder / "driver.cfg", folder / "guest.cfg"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    for number, name in ((1, "driver"), (2, "guest")):
        label = f"(d{number}) "
        text = [line.removeprefix(label) for line in lines if line.startswith(label)]
        assert text == expected(f"driver-domain/{name}")[0].splitlines()
    assert_was_written(folder / "disk.img", starts=1)


def checksum(data: bytes) -> int:
    """The internet's checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def frames_of(capture: Path) -> list[bytes]:
    """The frames in a classic pcap file."""
    data = capture.read_bytes()
    at, frames = 24, []
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return frames


def test_net_asks_by_arp_and_pings(tmp_path: Path, machine_options: Any) -> None:
    capture = tmp_path / "net.pcap"
    guests = [plan(EXAMPLES / f"net/{name}.gk", network=True) for name in ("ask", "answer")]
    played = play(*guests, machine_options=machine_options, pcap=capture)
    assert_well(played, "net/ask", "net/answer")
    frames = frames_of(capture)
    arps = [frame for frame in frames if frame[12:14] == b"\x08\x06"]
    pings = [frame for frame in frames if frame[12:14] == b"\x08\x00"]
    assert len(arps) + len(pings) == len(frames)
    # The last question is the one that was answered: who has 10.0.0.2?
    question, answer = arps[-2:]
    assert question[:6] == b"\xff" * 6
    assert question[20:22] + question[38:42] == b"\x00\x01\x0a\x00\x00\x02"
    assert answer[20:22] + answer[28:32] == b"\x00\x02\x0a\x00\x00\x02"
    assert answer[22:28] == answer[6:12]
    assert answer[:6] == question[6:12]
    kinds = [(frame[34], int.from_bytes(frame[40:42], "big")) for frame in pings]
    assert kinds == [(kind, number) for number in range(1, 5) for kind in (8, 0)]
    for frame in pings:
        assert checksum(frame[14:34]) == 0
        assert checksum(frame[34 : 14 + int.from_bytes(frame[16:18], "big")]) == 0


def test_net_says_when_nobody_answers(machine_options: Any) -> None:
    """The one that asks goes on asking, for the other one may yet come."""
    played = play(plan(EXAMPLES / "net/ask.gk", network=True), machine_options=machine_options)
    assert played.result.outcome is Outcome.DEADLINE
    assert played.texts[0] == expected("net/ask")[0].splitlines(keepends=True)[0]
