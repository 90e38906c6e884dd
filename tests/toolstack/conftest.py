"""The `pvemu` command inside the test's process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pvemu.toolstack.cli import main


class Outcome(NamedTuple):
    """What a command left behind; `lines` are those of stderr."""

    status: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


Command = Callable[..., Outcome]


@pytest.fixture
def pvemu(capsysbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Run the command with these words, in this process."""

    def command(*words: object) -> Outcome:
        status = main([str(word) for word in words])
        captured = capsysbinary.readouterr()
        return Outcome(status, captured.out, captured.err.decode())

    return command


@pytest.fixture
def pvemu_run(pvemu: Command, pytestconfig: pytest.Config, tmp_path: Path) -> Command:
    """`pvemu run` with a guest (source or kernel) and options, on the engine's form that was asked for."""
    forms = [
        "--state-window",
        pytestconfig.getoption("--state-window"),
        "--clock",
        pytestconfig.getoption("--clock"),
    ]

    def run(guest: str | bytes, *options: object) -> Outcome:
        path = tmp_path / "guest"
        path.write_bytes(guest.encode() if isinstance(guest, str) else guest)
        return pvemu("run", path, *forms, *options)

    return run
