"""The examples print what they print on real Xen, in both kinds of domain."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.toolstack.machine import Outcome

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.gk"))
# Where pvemu still differs; strict, so that the row goes when the difference does.


@pytest.fixture(params=[False, True], ids=["domU", "dom0"])
def privileged(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_what_it_prints_on_real_xen(
    name: str, privileged: bool, make_machine: Callable[..., Machine]
) -> None:
    machine = make_machine(assemble_file(EXAMPLES / f"{name}.gk").elf, memory=16, privileged=privileged)
    result = machine.run(seconds=10)
    assert machine.console_bytes.decode() == (EXAMPLES / "expected" / f"{name}.txt").read_text()
    assert result.outcome is Outcome.POWEROFF


def test_every_example_has_its_expected_output() -> None:
    assert sorted(path.stem for path in (EXAMPLES / "expected").glob("*.txt")) == NAMES
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_example_tells_what_it_shows(name: str) -> None:
    assert (EXAMPLES / f"{name}.gk").read_text().startswith(f"; {name}.gk - ")
