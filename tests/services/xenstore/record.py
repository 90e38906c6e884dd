"""Asks real xenstored about every scenario and writes its answers to the golden files; no test runs this.

    sh tests/services/xenstore/judge/build XEN-SOURCE XENSTORED
    python -m tests.services.xenstore.record XENSTORED [--new SEED...]

XENSTORED is the daemon of Xen 4.17, built to run without Xen. A scenario is those lines of its file that
begin with the name of a client; the answers are written anew. With --new, random scenarios are made up from
seeds.
"""

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.services.xenstore.random_scenarios import Author
from tests.services.xenstore.scenario import SOCKETS, Step, play, read_scenario
from tests.services.xenstore.xenstore_clients import Client, RingPipe, SocketPipe
from tests.services.xenstore.xenstore_stage import DOMAINS

GOLDEN = Path(__file__).with_name("golden")
_A_MOMENT = 0.0003


class Judge:
    """Real xenstored on a stage of its own."""

    def __init__(self, xenstored: Path) -> None:
        self._room = Path(tempfile.mkdtemp(prefix="xenstored-"))
        fifo = self._room / "events0"
        os.mkfifo(fifo)
        self._events = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        for domid in DOMAINS:
            (self._room / f"dom{domid}").write_bytes(bytes(mmap.PAGESIZE))
        environment = os.environ | {"JUDGE": str(self._room), "XENSTORED_RUNDIR": str(self._room)}
        self._process = subprocess.Popen([xenstored, "-N"], env=environment, stderr=subprocess.DEVNULL)
        while not (self._room / "socket").exists():
            self.turn()
        time.sleep(0.05)
        self.clients = {name: Client(SocketPipe(str(self._room / "socket")), self.turn) for name in SOCKETS}

    def turn(self) -> None:
        """Let the daemon run."""
        if self._process.poll() is not None:
            raise SystemExit("xenstored has died")
        time.sleep(_A_MOMENT)

    def introduced(self, name: str) -> None:
        with (self._room / f"dom{name[1:]}").open("r+b") as file:
            page = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE))
        self.clients[name] = Client(RingPipe(page, lambda: self._kick()), self.turn)

    def _kick(self) -> None:
        os.write(self._events, b"\2")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._events)
        shutil.rmtree(self._room)


def record(xenstored: Path, steps: Iterable[Step]) -> Iterator[list[str]]:
    """The lines of each step, as real xenstored answers it."""
    judge = Judge(xenstored)
    try:
        yield from play(judge, steps)
    finally:
        judge.close()


def _rewrite(xenstored: Path, path: Path) -> None:
    text = path.read_text()
    answers = record(xenstored, read_scenario(text))
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            lines.append(line)
        elif line and not line.startswith(" "):
            lines += next(answers)
    list(answers)
    path.write_text("".join(f"{line}\n" for line in lines))


def main(xenstored: Path, seeds: list[int]) -> None:
    """Record all golden files."""
    for seed in seeds:
        lines = [f"# Made up from the seed {seed}.", *(step.text() for step in Author(seed).steps())]
        (GOLDEN / f"random{seed:03}.txt").write_text("".join(f"{line}\n" for line in lines))
    for path in sorted(GOLDEN.glob("*.txt")):
        _rewrite(xenstored, path)
        print(path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[3:]])
