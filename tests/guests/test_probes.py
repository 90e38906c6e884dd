"""The probes print what they print on real Xen (recorded by record.py): frames of traps, ends of domains."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.toolstack.machine import Outcome

PROBES = Path(__file__).resolve().parent
GOLDEN = PROBES.parent / "golden/guests"
NAMES = sorted(
    str(path.relative_to(GOLDEN).with_suffix(""))
    for pattern in ("*.txt", "instructions/*.txt")
    for path in GOLDEN.glob(pattern)
)
# Where pvemu still differs; strict, so that the row goes when the difference does.
FATAL = [line.split("\t") for line in (GOLDEN / "fatal.tsv").read_text().splitlines()[1:]]


@pytest.mark.parametrize("privileged", [False, True], ids=["domU", "dom0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_probe_prints_what_it_prints_on_real_xen(
    name: str, privileged: bool, make_machine: Callable[..., Machine]
) -> None:
    machine = make_machine(assemble_file(PROBES / f"{name}.gk").elf, memory=16, privileged=privileged)
    result = machine.run(seconds=10)
    expected = (GOLDEN / f"{name}.txt").read_text().splitlines()
    assert machine.console_bytes.decode().splitlines() == expected
    assert result.outcome is Outcome.POWEROFF


@pytest.mark.parametrize(("case", "name"), [row[:2] for row in FATAL], ids=[row[1] for row in FATAL])
def test_what_ends_a_domain_on_real_xen_ends_it_here(
    case: str, name: str, make_machine: Callable[..., Machine]
) -> None:
    elf = assemble_file(PROBES / "fatal.gk", defines={"CASE": int(case)}).elf
    machine = make_machine(elf, memory=16)
    assert machine.run(seconds=10).outcome is Outcome.CRASH
    assert machine.console_bytes.decode() == name


def test_a_trap_that_nobody_handles_is_reported_and_ends_the_domain(
    make_machine: Callable[..., Machine],
) -> None:
    machine = make_machine(assemble_file(PROBES / "library.gk", defines={"CRASH": 1}).elf, memory=16)
    assert machine.run(seconds=10).outcome is Outcome.CRASH
    report = machine.console_bytes.decode().splitlines()[-1]
    assert report.startswith("A trap that nobody handles: vector 14, error code 0x2, at e019:")
    assert report.endswith(", cr2 00000000")
