"""Two kernels that ask Xen what it does, run here: their answers against those of real Xen 4.17.5."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from pvemu import Machine
from pvemu.toolstack.machine import Outcome

HERE = Path(__file__).parent
MACHINE_MEMORY: Final = 1024

_CASE: Final = re.compile(
    r"([A-Za-z][\w./()+?~-]*) "
    r"(ret=-?\d+$|vec=.*|no-trap.*|DOMAIN-CRASH.*|pending=.*|trapped=.*|upcall-.*)"
)
_FAMILY: Final = re.compile(r"[^-.]*")


class Run(NamedTuple):
    """One kernel in one kind of domain."""

    kernel: str
    recorded: str
    memory: int
    privileged: bool


RUNS: Final = {
    run.recorded: run
    for run in (
        Run("behav32", "behav32-dom0", 256, True),
        Run("behav32", "behav32-domu", 128, False),
        Run("conf32", "pv32-dom0", 256, True),
        Run("conf32", "pv32-domu", 128, False),
    )
}

#: Families in which not every case is matched yet: least matches as dom0 and as domU. Every other
#: family is matched whole. Numbers here only ever go up.
LEAST: Final[Mapping[str, tuple[int, int]]] = {}


def cases(text: str) -> dict[str, str]:
    """Name -> the rest of its line, with white space folded; what is no case is left out."""
    found = (_CASE.match(line.strip()) for line in text.replace("\r", "").splitlines())
    return {match[1]: " ".join(match[2].split()) for match in found if match}


def family(name: str) -> str:
    """The part of a case's name before its first `-` or dot."""
    return _FAMILY.match(name)[0]  # type: ignore[index]


UNSTABLE: Final = {line.split("\t")[0] for line in (HERE / "unstable.txt").read_text().splitlines()}
EXPECTED: Final = {
    name: {
        case: answer
        for case, answer in cases((HERE / f"{name}.txt").read_text()).items()
        if case not in UNSTABLE
    }
    for name in RUNS
}
FAMILIES: Final = sorted({(name, family(case)) for name, answers in EXPECTED.items() for case in answers})


@pytest.fixture(scope="session")
def answers(machine_options: dict[str, str]) -> Callable[[str], dict[str, str]]:
    """What a kernel answers here; each is run once."""
    known: dict[str, dict[str, str]] = {}

    def run(name: str) -> dict[str, str]:
        if name not in known:
            plan = RUNS[name]
            kernel = (HERE / f"{plan.kernel}.elf").read_bytes()
            options = {"memory": plan.memory, "machine_memory": MACHINE_MEMORY, "privileged": plan.privileged}
            with Machine(kernel, **options, **machine_options) as machine:  # type: ignore[arg-type]
                assert machine.run(60).outcome is Outcome.POWEROFF, machine.log_lines
                known[name] = cases(machine.console_bytes.decode(errors="replace"))
        return known[name]

    return run


@pytest.mark.parametrize(("name", "kind"), FAMILIES)
def test_a_family_of_cases_answers_as_real_xen_did(
    answers: Callable[[str], dict[str, str]], name: str, kind: str
) -> None:
    expected = {case: answer for case, answer in EXPECTED[name].items() if family(case) == kind}
    got = answers(name)
    different = {
        case: (answer, got.get(case)) for case, answer in expected.items() if got.get(case) != answer
    }
    matched = len(expected) - len(different)
    least = LEAST.get(kind, (len(expected),) * 2)[not RUNS[name].privileged]
    assert matched >= least, "case: (real Xen, pvemu) " + repr(different)


def test_the_table_of_what_is_missing_names_only_families_that_miss_something() -> None:
    sizes = Counter(kind for name in ("pv32-dom0", "pv32-domu") for kind in map(family, EXPECTED[name]))
    assert all(sum(least) < sizes[kind] for kind, least in LEAST.items())
