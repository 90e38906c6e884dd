"""`pvemu run --exits`: how often and why guests left the processor, told without changing what they do."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli_guests import FAULT_WITHOUT_HANDLER, HELLO, LOOP, TEXT_BYTES, TRAP_LOOP, guest, shutdown

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


PORTS = 5000
#: The virtual IOPL lets it read port after port.
MANY_PORTS = guest(
    f"""
        hypercall physdev_op, PHYSDEVOP_set_iopl, level
        xor edx, edx
.next:  in al, dx
        inc edx
        cmp edx, {PORTS}
        jb .next
{shutdown("SHUTDOWN_poweroff")}
""",
    "level: dd 1",
)
#: A program tries what is the kernel's to do.
CALL_OF_A_PROGRAM = """
guest "program"
include "start.gk"
include "program.gk"
include "traps.gk"
section .program, align=PAGE_SIZE, flags="rwx"
pages:  mov eax, __HYPERVISOR_xen_version
        int 0x82
        ud2
        reserve PAGE_SIZE, 0
stack:
section .text
main:   call traps_open
        mov dword [trap_handlers + 6*4], done
        mov dword [trap_handlers + 13*4], done
        mov eax, pages
        mov ecx, PAGE_SIZE * 2
        call open_to_programs
        push FLAT_USER_SS
        push stack
        push EFLAGS_ALWAYS | EFLAGS_IF
        push FLAT_USER_CS
        push pages
        hypercall iret
done:   mov eax, SHUTDOWN_poweroff
        jmp shutdown
"""


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


def test_a_guest_with_thousands_of_reasons_gets_a_table_that_can_be_read(pvemu_run: Command) -> None:
    shown = pvemu_run(MANY_PORTS, "--exits")
    assert shown.status == 0
    assert len(shown.lines) < 60
    assert any("other reasons" in line for line in shown.lines)
    found = counts(pvemu_run(MANY_PORTS, "--exits", "--json").out)
    assert len(found) < PORTS
    assert sum(found.values()) == PORTS + 2


def test_a_hypercall_of_a_program_is_none(pvemu_run: Command) -> None:
    run = pvemu_run(CALL_OF_A_PROGRAM, "--json", "--exits")
    found = counts(run.out)
    assert run.status == 0, run.err
    assert found["int 0x82"] == 1
    assert "hypercall xen_version" not in found


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
