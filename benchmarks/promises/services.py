"""What domain 0's services and the switch between vCPUs get done in a second, and how soon GRUB is there."""

import socket
import struct
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.promises.measuring import Benchmark, seconds_of
from guestkit import assemble_file
from pvemu import Machine, Outcome
from pvemu.abi.xs_wire import XS_READ
from pvemu.cpu.clock import CountClock
from pvemu.services.block.disk import DiskSpec
from pvemu.services.net.nic import NicSpec
from pvemu.toolstack.guest_config import DiskRequest, GuestConfig

_HERE: Final = Path(__file__).parent
_GRUB: Final = Path("/usr/lib/grub-xen/grub-i386-xen.bin")
_PROMPT: Final = b"grub> "
_MEMORY: Final = 16
_IMAGE_SIZE: Final = 8 << 20
#: What the guests do, as their sources say.
_MEBIBYTES, _PAGES, _READS, _YIELDS, _FRAMES = 32, 2000, 3000, 20_000, 5000
_SOCKET_READS: Final = 1000
_HEADER: Final = struct.Struct("<4I")


def _guest(source: str, **settings: object) -> GuestConfig:
    return GuestConfig(assemble_file(_HERE / source).elf, memory=_MEMORY, **settings)  # type: ignore[arg-type]


def _run(*guests: GuestConfig) -> float:
    """Seconds until all guests have powered off."""
    with Machine(guests) as machine:

        def run() -> None:
            outcome = machine.run().outcome
            assert outcome is Outcome.POWEROFF, machine.log_lines

        return seconds_of(run)


def _read_disk(how: str) -> float:
    with tempfile.NamedTemporaryFile() as image:
        image.truncate(_IMAGE_SIZE)
        disk = DiskRequest(DiskSpec(image.name, "xvda", writable=False))
        return _run(_guest("disk.gk", command_line=how, disks=(disk,)))


def _ask_over_socket(path: Path, machine: Machine) -> None:
    request = _HEADER.pack(XS_READ, 0, 0, len(b"/local/domain/1/name\0")) + b"/local/domain/1/name\0"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        for _ in range(_SOCKET_READS):
            client.sendall(request)
            answer = client.recv(_HEADER.size, socket.MSG_WAITALL)
            client.recv(_HEADER.unpack(answer)[3], socket.MSG_WAITALL)
    machine.interrupt(_Done)


class _Done(BaseException):
    """What was to be measured has happened."""


def _read_over_socket() -> float:
    """A guest that only waits, and a client that asks about it."""
    with tempfile.TemporaryDirectory() as folder, Machine([_guest("wait.gk")]) as machine:
        path = Path(folder) / "socket"
        machine.listen(path)
        client = threading.Thread(target=_ask_over_socket, args=(path, machine))

        def run() -> None:
            client.start()
            try:
                machine.run()
            except _Done:
                client.join()

        return seconds_of(run)


def _boot_grub(clock: str = "auto") -> tuple[float, Machine]:
    seen = bytearray()
    machine: Machine

    def console(data: bytes) -> None:
        seen.extend(data)
        if _PROMPT in seen:
            machine.interrupt(_Done)

    machine = Machine(_GRUB.read_bytes(), memory=64, console=console, clock=clock)  # type: ignore[arg-type]

    def run() -> None:
        try:
            machine.run(100)
        except _Done:
            return
        raise AssertionError("GRUB has no prompt")

    with machine:
        return seconds_of(run), machine


def _grub_instructions() -> float:
    """How many instructions GRUB takes to its prompt, as millions of them for the table."""
    clock = _boot_grub("count")[1].hypervisor.clock
    assert isinstance(clock, CountClock)
    return clock.instructions / 1e6


def benchmarks() -> list[Benchmark]:
    """Rates, and the way to GRUB's prompt where GRUB is installed."""
    rows = [
        Benchmark(
            "disk read, 1 MiB at a time", "MB/s", partial(_read_disk, "m"), per_second=_MEBIBYTES * 1.048576
        ),
        Benchmark("disk read, 4 KiB at a time", "a second", partial(_read_disk, "i"), per_second=_PAGES),
        Benchmark(
            "network frames sent",
            "a second",
            partial(_run, _guest("frames.gk", interfaces=(NicSpec(),))),
            per_second=_FRAMES,
        ),
        Benchmark(
            "xenstore reads over the ring", "a second", partial(_run, _guest("store.gk")), per_second=_READS
        ),
        Benchmark("xenstore reads over a socket", "a second", _read_over_socket, per_second=_SOCKET_READS),
        Benchmark(
            "switches between two vCPUs",
            "a second",
            partial(_run, _guest("yield.gk", name="one"), _guest("yield.gk", name="two")),
            per_second=2 * _YIELDS,
        ),
    ]
    if _GRUB.exists():
        rows += [
            Benchmark("GRUB to its prompt", "ms", lambda: _boot_grub()[0], scale=1e3),
            Benchmark("GRUB to its prompt", "million instructions", _grub_instructions),
        ]
    return rows
