"""`pvemu` as a process: signals, closed pipes and the start of the interpreter."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cli_guests import BLOCK, HELLO, LOOP, PRINT_AND_LOOP, PRINT_FOR_EVER, TEXT_BYTES

from pvemu.abi.xs_wire import XS_READ, xsd_sockmsg

ROOT = Path(__file__).parents[2]
SECONDS = 60
# A shell that runs the tests in the background makes them, and what they start, ignore ^C.
COMMAND = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from pvemu.toolstack.cli import main; sys.exit(main())",
    "run",
]


def start(path: Path, source: str, *options: str) -> subprocess.Popen[bytes]:
    path.write_text(source)
    return subprocess.Popen(
        [*COMMAND, *options, str(path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out, err


FORMS: Sequence[Sequence[str]] = ([], ["--state-window", "context"], ["--clock", "count"])


@pytest.mark.parametrize("form", FORMS, ids=["fast", "context", "count"])
@pytest.mark.parametrize("source", [PRINT_AND_LOOP, PRINT_FOR_EVER], ids=["native code", "hypercalls"])
def test_control_c_ends_a_run_cleanly(tmp_path: Path, source: str, form: Sequence[str]) -> None:
    process = start(tmp_path / "guest", source, "--dom0", *form)
    assert process.stdout is not None
    assert process.stdout.readline() == TEXT_BYTES
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert (status, err) == (130, b"")


def test_control_c_leaves_a_whole_trace(tmp_path: Path) -> None:
    process = start(tmp_path / "guest", PRINT_FOR_EVER, "--dom0", "--trace", str(tmp_path / "trace"))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert (tmp_path / "trace").read_bytes().endswith(b"\n")


@pytest.mark.parametrize("options", [["--dom0"], ["--dom0", "-v"]], ids=["console", "with the log"])
def test_a_closed_pipe_ends_a_run_quietly(tmp_path: Path, options: list[str]) -> None:
    process = start(tmp_path / "guest", PRINT_FOR_EVER, *options)
    assert process.stdout is not None
    assert process.stdout.readline() == TEXT_BYTES
    process.stdout.close()
    process.stdout = None
    status, _, err = finish(process)
    assert (status, err) == (141, b"")


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "guest").write_text(HELLO)
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [*COMMAND, "--dom0", str(tmp_path / "guest")],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=SECONDS,
        )  # fmt: skip
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["--help"], ["hypercalls"], ["doctor"], ["bench", "--list"]], ids=" ".join)
def test_tables_that_nobody_reads_or_that_have_no_room_are_told_by_the_status(words: list[str]) -> None:
    command = [*COMMAND[:-1], *words]
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=SECONDS)
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, b"")
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, timeout=SECONDS)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1


def test_a_process_without_stdout_and_stderr_still_has_a_status(tmp_path: Path) -> None:
    (tmp_path / "guest").write_text(HELLO)
    closing = (
        "import os, sys; os.close(1); os.close(2); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    words = [*COMMAND[1:], "--dom0", str(tmp_path / "guest")]
    run = subprocess.run([sys.executable, "-c", closing, *words], cwd=ROOT, timeout=SECONDS)
    assert run.returncode == 0


def test_the_module_and_the_command_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "guest").write_text(HELLO)
    run = subprocess.run(
        [sys.executable, "-m", "pvemu", "run", "--dom0", str(tmp_path / "guest")],
        cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"}, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, TEXT_BYTES, b"")


def test_two_processes_see_the_same_run(tmp_path: Path) -> None:
    traces = []
    for name in ("first", "second"):
        process = start(
            tmp_path / "guest", LOOP, "--max-time", "0.05", "--json", "--trace", str(tmp_path / name)
        )
        traces.append((finish(process), (tmp_path / name).read_bytes()))
    assert traces[0] == traces[1]


def test_xenstore_answers_at_its_socket_while_the_guest_runs(tmp_path: Path) -> None:
    path, wanted = tmp_path / "socket", b"/local/domain/1/name\0"
    process = start(tmp_path / "guest", BLOCK, "--xenstore-socket", str(path))
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            while client.connect_ex(str(path)):
                assert process.poll() is None
                os.sched_yield()
            client.sendall(xsd_sockmsg.pack(4, type=XS_READ, req_id=7, len=len(wanted)) + wanted)
            answer = b""
            while len(answer) < xsd_sockmsg.size(4) + len("guest"):
                answer += client.recv(1000)
        header = xsd_sockmsg.unpack(4, answer[: xsd_sockmsg.size(4)])
        assert (header.type, header.req_id, answer[xsd_sockmsg.size(4) :]) == (XS_READ, 7, b"guest")
    finally:
        process.send_signal(signal.SIGINT)
        status, _, err = finish(process)
    assert (status, err) == (130, b"")
    assert not path.exists()
