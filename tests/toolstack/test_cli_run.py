"""`pvemu run`: what a person, a shell and a program learn of a guest's run."""

import gzip
import json
import re
from pathlib import Path

import pytest
from cli_guests import (
    BLOCK,
    EVIL,
    FAULT_WITHOUT_HANDLER,
    HELLO,
    LOOP,
    PRINT_AND_LOOP,
    TEXT_BYTES,
    TRAP_LOOP,
    guest,
    shutdown,
)

from guestkit import assemble
from pvemu.abi import sched
from tests.toolstack.conftest import Command

TRACE_LINE = re.compile(r"\d+ (int 0x[0-9a-f]{2}|[A-Za-z][\w .'-]*) eip=[0-9a-f]{8} eax=[0-9a-f]{8}")
STATUS_OF_REASON = {
    "SHUTDOWN_poweroff": 0,
    "SHUTDOWN_reboot": 4,
    "SHUTDOWN_suspend": 4,
    "SHUTDOWN_crash": 3,
    "SHUTDOWN_watchdog": 3,
    "SHUTDOWN_soft_reset": 4,
}


def test_the_console_goes_to_stdout_to_the_byte(pvemu_run: Command) -> None:
    assert pvemu_run(HELLO, "--dom0") == (0, TEXT_BYTES, "")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["ELF", "gzip"])
def test_a_kernel_file_runs_as_its_source_does(pvemu_run: Command, pack: type[bytes]) -> None:
    assert pvemu_run(pack(assemble(HELLO).elf), "--dom0") == (0, TEXT_BYTES, "")


def test_what_a_source_includes_is_found_beside_it(pvemu: Command, tmp_path: Path) -> None:
    (tmp_path / "beside.gk").write_text(HELLO)
    source = tmp_path / "guest.gk"
    source.write_text('include "beside.gk"\n')
    assert pvemu("run", "--dom0", source).out == TEXT_BYTES


def test_warnings_of_the_assembler_are_shown(pvemu_run: Command) -> None:
    run = pvemu_run(HELLO + '\nwarning "mind the gap"\n', "--dom0")
    assert (run.status, run.out) == (0, TEXT_BYTES)
    assert "mind the gap" in run.err


@pytest.mark.parametrize("dom0", [[], ["--dom0"]], ids=["domU", "dom0"])
@pytest.mark.parametrize("reason", STATUS_OF_REASON)
def test_the_status_tells_why_the_guest_ended(pvemu_run: Command, reason: str, dom0: list[str]) -> None:
    run = pvemu_run(guest(shutdown(reason)), *dom0)
    assert run.status == STATUS_OF_REASON[reason]
    assert run.out == b""
    if run.status == 0:
        assert run.err == ""
    else:
        assert len(run.lines) == 1
        assert reason in run.err


def test_a_reason_that_xen_does_not_name_is_told_by_its_number(pvemu_run: Command) -> None:
    run = pvemu_run(guest(shutdown("77")))
    assert (run.status, len(run.lines)) == (4, 1)
    assert "77" in run.err


@pytest.mark.parametrize("source", [LOOP, TRAP_LOOP], ids=["native code", "hypercalls"])
def test_a_guest_that_never_ends_is_stopped_at_the_time_limit(pvemu_run: Command, source: str) -> None:
    run = pvemu_run(source, "--max-time", "0.01")
    assert (run.status, len(run.lines)) == (5, 1)
    assert "time limit" in run.err


def test_the_console_before_the_time_limit_is_not_lost(pvemu_run: Command) -> None:
    run = pvemu_run(PRINT_AND_LOOP, "--dom0", "--max-time", "0.01")
    assert (run.status, run.out) == (5, TEXT_BYTES)


def test_a_guest_that_waits_for_nothing_ends_without_a_time_limit(pvemu_run: Command) -> None:
    run = pvemu_run(BLOCK)
    assert (run.status, len(run.lines)) == (5, 1)
    assert "waits" in run.err


@pytest.mark.parametrize("source", EVIL.values(), ids=EVIL.keys())
@pytest.mark.parametrize("dom0", [[], ["--dom0"]], ids=["domU", "dom0"])
def test_an_evil_guest_harms_only_itself(pvemu_run: Command, source: str, dom0: list[str]) -> None:
    run = pvemu_run(source, "--max-time", "0.1", *dom0)
    assert run.status in (3, 5)
    assert len(run.lines) == 1
    assert "Traceback" not in run.err


def test_a_crash_is_one_line_that_says_why_and_how_to_see_more(pvemu_run: Command) -> None:
    run = pvemu_run(FAULT_WITHOUT_HANDLER)
    assert (run.status, len(run.lines)) == (3, 1)
    assert "#PF" in run.err
    assert "-v" in run.err


def test_verbose_shows_the_log_with_the_registers(pvemu_run: Command) -> None:
    run = pvemu_run(FAULT_WITHOUT_HANDLER, "-v")
    assert run.status == 3
    log = [line for line in run.lines if line.startswith("(XEN) ")]
    assert any("RIP:" in line for line in log)
    assert any("eax:" in line and "ebx:" in line for line in log)
    assert any("cr2: deadbeef" in line for line in log)


def test_verbose_leaves_the_console_alone(pvemu_run: Command) -> None:
    assert pvemu_run(HELLO, "--dom0", "--verbose").out == TEXT_BYTES


def test_json_tells_everything_in_one_object(pvemu_run: Command) -> None:
    run = pvemu_run(HELLO, "--dom0", "--json")
    told = json.loads(run.out)
    nanoseconds = told.pop("virtual_nanoseconds")
    assert told == {
        "outcome": "poweroff",
        "reason": None,
        "shutdown_reason": sched.SHUTDOWN_poweroff,
        "exit_status": 0,
        "hypercalls": {"console_io": 1, "sched_op": 1},
        "console": TEXT_BYTES.decode(errors="backslashreplace"),
        "guests": [
            {
                "name": "guest",
                "outcome": "poweroff",
                "shutdown_reason": sched.SHUTDOWN_poweroff,
                "boots": 1,
                "console": TEXT_BYTES.decode(errors="backslashreplace"),
            }
        ],
    }
    assert nanoseconds > 0
    assert (run.status, run.err) == (0, "")


@pytest.mark.parametrize(
    ("source", "outcome", "status"),
    [(FAULT_WITHOUT_HANDLER, "crash", 3), (LOOP, "deadline", 5), (BLOCK, "idle", 5)],
    ids=["crash", "deadline", "idle"],
)
def test_json_tells_a_bad_end_as_the_line_does(
    pvemu_run: Command, source: str, outcome: str, status: int
) -> None:
    run = pvemu_run(source, "--json", "--max-time", "0.01")
    told = json.loads(run.out)
    assert (told["outcome"], told["exit_status"], run.status) == (outcome, status, status)
    assert told["reason"] in run.err


@pytest.mark.parametrize("source", [HELLO, TRAP_LOOP, FAULT_WITHOUT_HANDLER], ids=["hello", "traps", "fault"])
def test_two_traces_of_a_guest_are_the_same_bytes(pvemu_run: Command, tmp_path: Path, source: str) -> None:
    traces = []
    for name in ("first", "second"):
        pvemu_run(source, "--dom0", "--max-time", "0.001", "--trace", tmp_path / name)
        traces.append((tmp_path / name).read_bytes())
    assert traces[0] == traces[1]
    lines = traces[0].decode().splitlines()
    assert lines
    assert all(TRACE_LINE.fullmatch(line) for line in lines)


def test_a_trace_has_a_line_for_every_hypercall(pvemu_run: Command, tmp_path: Path) -> None:
    pvemu_run(HELLO, "--dom0", "--trace", tmp_path / "trace")
    assert (tmp_path / "trace").read_text().count(" int 0x82 ") == 2


def test_a_trace_changes_nothing_else(pvemu_run: Command, tmp_path: Path) -> None:
    plain, traced = (
        pvemu_run(HELLO, "--dom0", "--json", *options) for options in ([], ["--trace", tmp_path / "trace"])
    )
    assert plain == traced


def test_the_command_line_reaches_the_guest(pvemu_run: Command) -> None:
    source = guest(
        f"""
        lea esi, [esi + start_info.cmd_line]
        hypercall console_io, CONSOLEIO_write, 9, esi
        {shutdown("SHUTDOWN_poweroff")}
"""
    )
    assert pvemu_run(source, "--dom0", "--cmdline", "console=x and more").out == b"console=x"


@pytest.mark.parametrize(
    ("options", "mebibytes"),
    [([], 128), (["--dom0"], 256), (["--memory", "32"], 32), (["--memory", "0x20"], 32)],
)
def test_memory_is_what_was_asked_for(pvemu_run: Command, options: list[str], mebibytes: int) -> None:
    source = guest(
        f"""
        cmp dword [esi + start_info.nr_pages], {mebibytes} * 256
        jne .other
        {shutdown("SHUTDOWN_poweroff")}
.other: {shutdown("SHUTDOWN_reboot")}
"""
    )
    assert pvemu_run(source, *options).status == 0


@pytest.mark.parametrize("window", ["live", "context"])
@pytest.mark.parametrize("clock", ["auto", "block", "count"])
def test_every_form_of_the_engine_runs_a_guest(
    pvemu: Command, tmp_path: Path, window: str, clock: str
) -> None:
    options = ("--state-window", window, "--clock", clock)
    (tmp_path / "hello").write_text(HELLO)
    (tmp_path / "loop").write_text(LOOP)
    assert pvemu("run", tmp_path / "hello", "--dom0", *options) == (0, TEXT_BYTES, "")
    assert pvemu("run", tmp_path / "loop", "--max-time", "0.001", *options).status == 5
