"""`pvemu run --exits`: how often and why guests left the processor, told without changing what they do."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli_guests import FAULT_WITHOUT_HANDLER, HELLO, LOOP, TEXT_BYTES, TRAP_LOOP, guest

from tests.toolstack.conftest import Command

#: Everything that exits here does so once; the port is refused, and that ends the guest.
SEVERAL_EXITS = guest(
    """
        mov eax, cr0
        rdtsc
        hypercall xen_version, XENVER_version, 0
        mov eax, 1000
        int 0x82
        mov edx, 0x3f8
        in al, dx
"""
)


def told(run: bytes) -> Any:
    return json.loads(run)["exits"]


def counts(run: bytes) -> dict[str, int]:
    return {row["exit"]: row["count"] for row in told(run)["by_reason"]}


def test_the_table_is_on_stderr_and_the_console_is_left_alone(pvemu_run: Command) -> None:
    run = pvemu_run(HELLO, "--dom0", "--exits")
    assert (run.status, run.out) == (0, TEXT_BYTES)
    words = [[word for word in line.split() if word != "│"] for line in run.lines]
    assert ["hypercall", "console_io", "1"] in [line[:3] for line in words]
    assert ["hypercall", "sched_op", "1"] in [line[:3] for line in words]
    assert ["all", "exits", "2"] in [line[:3] for line in words]


@pytest.mark.parametrize(
    ("source", "status"),
    [(LOOP, 5), (TRAP_LOOP, 5), (FAULT_WITHOUT_HANDLER, 3)],
    ids=["loop", "traps", "crash"],
)
def test_the_table_is_shown_however_the_run_ends(pvemu_run: Command, source: str, status: int) -> None:
    run = pvemu_run(source, "--exits", "--max-time", "0.001")
    assert run.status == status
    assert "all exits" in run.err


def test_every_line_of_the_trace_is_counted(pvemu_run: Command, tmp_path: Path) -> None:
    run = pvemu_run(TRAP_LOOP, "--max-time", "0.001", "--json", "--exits", "--trace", tmp_path / "trace")
    lines = Counter(line.split(" ", 1)[1].split(" eip=")[0] for line in (tmp_path / "trace").open())
    assert counts(run.out) == {"hypercall xen_version": lines.pop("int 0x82")}
    assert not lines


def test_exits_are_told_by_what_they_were_for(pvemu_run: Command) -> None:
    run = pvemu_run(SEVERAL_EXITS, "--json", "--exits")
    assert run.status == 3
    assert counts(run.out) == {
        "general protection fault": 2,
        "RDTSC": 1,
        "hypercall xen_version": 1,
        "hypercall that does not exist": 1,
        "port in 0x3f8": 1,
    }


@pytest.mark.parametrize("source", [HELLO, TRAP_LOOP, FAULT_WITHOUT_HANDLER], ids=["hello", "traps", "fault"])
def test_the_table_changes_nothing(pvemu_run: Command, tmp_path: Path, source: str) -> None:
    """Not the trace with all its times, and nothing else of the report."""
    reports, traces = [], []
    for name, options in (("without", []), ("with", ["--exits"])):
        trace = tmp_path / name
        run = pvemu_run(source, "--dom0", "--max-time", "0.001", "--json", "--trace", trace, *options)
        reports.append(json.loads(run.out))
        traces.append(trace.read_bytes())
    assert traces[0] == traces[1]
    assert reports[1].pop("exits")["by_reason"]
    assert reports[0] == reports[1]


def test_times_add_up(pvemu_run: Command) -> None:
    found = told(pvemu_run(TRAP_LOOP, "--max-time", "0.01", "--json", "--exits").out)
    whole = found["host_nanoseconds"]
    inside = [row["host_nanoseconds"] for row in found["by_reason"]]
    assert 0 < sum(inside) < whole
    for row in found["by_reason"]:
        assert row["share"] == pytest.approx(row["host_nanoseconds"] / whole, abs=1e-6)
