"""No guest, whatever its code does and whatever it asks for, ends the process, hangs it or escapes."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("random_guests.py")
#: Seconds after which a run is taken for hung; it needs a few.
PATIENCE = 300
COUNTS = {"code": 60, "calls": 40, "translated-code": 40, "translated-calls": 40}


def run_guests(kind: str, first: int, count: int, options: dict[str, str]) -> Counter[str]:
    arguments = [kind, str(first), str(count), options["window"], options["clock"]]
    environment = os.environ | {"PYTHONPATH": str(WORKER.parents[2])}
    command = [sys.executable, "-X", "faulthandler", str(WORKER), *arguments]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0, ended.stdout[-200:] + ended.stderr[-3000:]
    return Counter(line.rpartition(": ")[2] for line in ended.stdout.splitlines())


@pytest.mark.parametrize("kind", COUNTS)
def test_the_process_survives_random_guests(machine_options: dict[str, str], kind: str) -> None:
    outcomes = run_guests(kind, 0, COUNTS[kind], machine_options)
    assert outcomes.total() == COUNTS[kind]
    # Guests that all ended alike, at their first instruction, would prove nothing.
    assert outcomes["poweroff"] and outcomes["crash"]


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(1000, 21000, 500))
@pytest.mark.parametrize("kind", COUNTS)
def test_the_process_survives_many_random_guests(
    machine_options: dict[str, str], kind: str, first: int
) -> None:
    assert run_guests(kind, first, 500, machine_options).total() == 500
