"""Random machine code in every mode and ring of an HVM guest leaves the process, and all counts, in order."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("random_hvm_guests.py")
#: Seconds after which a run is taken for hung; it needs a few.
PATIENCE = 600
GUESTS = 14


def run_guests(paging: str, first: int, count: int, options: dict[str, str]) -> Counter[str]:
    arguments = [paging, str(first), str(count), options["window"], options["clock"]]
    environment = os.environ | {"PYTHONPATH": str(WORKER.parents[3])}
    command = [sys.executable, "-X", "faulthandler", str(WORKER), *arguments]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0, ended.stdout[-200:] + ended.stderr[-3000:]
    return Counter(line.rpartition(": ")[2] for line in ended.stdout.splitlines())


@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_the_process_survives_random_code(machine_options: dict[str, str], paging: str) -> None:
    outcomes = run_guests(paging, 0, GUESTS, machine_options)
    assert outcomes.total() == GUESTS
    # Guests that all ended alike, at their first instruction, would prove nothing.
    assert len(outcomes) > 1


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(1000, 11000, 500))
@pytest.mark.parametrize("paging", ["nested", "shadow"])
def test_the_process_survives_much_random_code(
    machine_options: dict[str, str], paging: str, first: int
) -> None:
    assert run_guests(paging, first, 500, machine_options).total() == 500
