"""Whatever is pending when a guest ends or leaves the processor, the machine goes on, and nothing is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ending_guests import AS_IT_SHOULD, KINDS

WORKER = Path(__file__).with_name("ending_guests.py")
#: Seconds after which a process is taken for hung; it needs a few.
PATIENCE = 300


def played(kind: str, options: dict[str, str], first: int = 0, step: int = 1) -> list[str]:
    arguments = [kind, options["window"], options["clock"], str(first), str(step)]
    command = [sys.executable, "-X", "faulthandler", str(WORKER), *arguments]
    environment = os.environ | {"PYTHONPATH": str(WORKER.parents[2])}
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as hung:
        pytest.fail(f"it hangs: {(hung.stdout or b'').decode().splitlines()[-1:]}")
    assert ended.returncode == 0, ended.stdout[-200:] + ended.stderr[-3000:]
    return ended.stdout.splitlines()


def check(kind: str, lines: list[str], step: int = 1) -> None:
    assert [line for line in lines if not line.endswith(AS_IT_SHOULD)] == []
    assert len(lines) == len(KINDS[kind].pending) * len(KINDS[kind].endings) // step


# There is an odd number of endings: each pair is played under one paging, and each ending under both.
@pytest.mark.parametrize(
    ("kind", "first", "step"), [("hvm-nested", 0, 2), ("hvm-shadow", 1, 2), ("pv", 0, 2)]
)
def test_a_guest_may_end_whatever_is_pending(
    kind: str, first: int, step: int, machine_options: dict[str, str]
) -> None:
    check(kind, played(kind, machine_options, first, step), step)


@pytest.mark.nightly
@pytest.mark.parametrize("clock", ["block", "count"])
@pytest.mark.parametrize("window", ["live", "context"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_may_end_whatever_is_pending_with_every_engine(kind: str, window: str, clock: str) -> None:
    check(kind, played(kind, {"window": window, "clock": clock}))
