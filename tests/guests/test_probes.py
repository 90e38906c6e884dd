"""The probes print what they print on real Xen (recorded by record.py): frames of traps, ends of domains."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu import Machine
from pvemu.toolstack.machine import Outcome

PROBES = Path(__file__).resolve().parent
GOLDEN = PROBES.parent / "golden/guests"
# Where pvemu still differs; strict, so that the row goes when the difference does.
DIFFERS = {
    "bad_handlers": "a data selector is taken for a handler's CS; RF is set for a refused selector",
    "fast_calls": "SYSCALL in ring 1 shows ring 1 in its frame, and a callback for it is never entered",
    "iret_frames": "RF is set for a refused selector; bits 15, 19, 20 and 22 to 31 of EFLAGS are kept",
    "single_step": "no #DB behind the forced-emulation cpuid, but one behind an emulated cli",
    "software_interrupts": "RF is set in the frame of int 0x80 without a handler",
    "virtual_iopl": "rdpmc is #UD; with an architectural IOPL the kernel's level is not 0",
    "gp-handler-cs-e021": "a data selector is taken for a handler's CS",
    "kernel-ss-e019-code": "a code selector is taken for the kernel's SS",
}
FATAL = [line.split("\t") for line in (GOLDEN / "fatal.tsv").read_text().splitlines()[1:]]


@pytest.fixture(autouse=True)
def known_difference(request: pytest.FixtureRequest) -> None:
    """Expect the failure of a case that is in DIFFERS."""
    callspec = getattr(request.node, "callspec", None)
    name = callspec.params["name"] if callspec is not None else ""
    if name in DIFFERS:
        request.applymarker(pytest.mark.xfail(reason=DIFFERS[name], strict=True))


@pytest.mark.parametrize("privileged", [False, True], ids=["domU", "dom0"])
@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.txt")))
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
