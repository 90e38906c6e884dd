"""Random requests about memory get the answers that real Xen gave (recorded by record_requests.py)."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from random_requests import image

from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.machine import Outcome

GOLDEN = Path(__file__).resolve().parents[1] / "golden/guests/requests"
SEEDS = sorted({int(path.stem.partition("-")[0]) for path in GOLDEN.glob("*.txt")})

elf_of = cache(image)


@pytest.mark.parametrize(("kind", "memory"), [("dom0", 256), ("domu", 128)], ids=["dom0", "domU"])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests_get_the_answers_of_real_xen(
    seed: int, kind: str, memory: int, make_machine: Callable[..., Machine]
) -> None:
    machine = make_machine(elf_of(seed), memory=memory, machine_memory=1024, privileged=kind == "dom0")
    result = machine.run(seconds=20)
    expected = (GOLDEN / f"{seed}-{kind}.txt").read_text().splitlines()
    assert machine.console_bytes.decode().splitlines() == expected
    assert result.outcome is Outcome.POWEROFF
    Auditor(machine.hypervisor).audit()
