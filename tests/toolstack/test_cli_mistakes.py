"""Mistakes of the person: status 2, one line that says what to do, never a traceback."""

import errno
import os
from pathlib import Path

import pytest
from cli_guests import HELLO, TRAP_LOOP

from tests.toolstack.conftest import Command, Outcome


def is_one_helpful_line(run: Outcome) -> bool:
    return run.status == 2 and run.out == b"" and len(run.lines) == 1 and run.err.startswith("pvemu: ")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["run"],
        ["--frobnicate"],
        ["run", "--frobnicate", "x"],
        ["doctor", "now"],
        ["hypercalls", "--xml"],
    ],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_a_wrong_command_is_told_in_one_line(pvemu: Command, words: list[str]) -> None:
    assert is_one_helpful_line(pvemu(*words))


@pytest.mark.parametrize(
    "options",
    [
        ["--memory", "much"],
        ["--memory", "0"],
        ["--memory", "-5"],
        ["--memory", "1.5"],
        ["--memory="],
        ["--memory", "99999999999999999999999"],
        ["--memory", "1"],
        ["--memory", "512", "--machine-memory", "256"],
        ["--machine-memory", "1023"],
        ["--machine-memory", "-2"],
        ["--max-time", "soon"],
        ["--max-time", "0"],
        ["--max-time", "-1"],
        ["--max-time", "nan"],
        ["--max-time", "inf"],
        ["--clock", "sundial"],
        ["--state-window", "dead"],
        ["--trace", "/"],
        ["--trace", "/dev/full"],
        ["--trace", "/nonexistent/trace"],
        ["--input", "/nonexistent/keys"],
        ["--input", "/"],
        ["--input", "/dev/zero"],
        ["--disk", "x.img,xvda,w,backend=nobody"],
        ["--cmdline", "x" * 5000],
        ["--cmdline"],
        ["one too many"],
    ],
    ids=lambda options: " ".join(options)[:40],
)
def test_a_wrong_value_is_told_in_one_line(pvemu_run: Command, options: list[str]) -> None:
    assert is_one_helpful_line(pvemu_run(HELLO, *options))


@pytest.mark.parametrize(
    "path",
    ["missing", ".", "a\nname", "/proc/self/mem", "/dev/null", "/dev/zero"],
    ids=["missing", "folder", "newline in a name", "unreadable", "empty", "endless"],
)
def test_a_file_that_is_no_guest_is_told_in_one_line(
    pvemu: Command, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_one_helpful_line(pvemu("run", path))


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF",
        b"\x7fELF" + bytes(100),
        b"\x1f\x8b\x08",
        bytes(range(256)),
        b"\0",
        b"\xff\xfe",
        bytes(5000),
    ],
    ids=["ELF magic", "empty ELF", "gzip magic", "all bytes", "a NUL", "no UTF-8", "zeros"],
)
def test_a_file_of_noise_is_told_in_one_line(pvemu_run: Command, data: bytes) -> None:
    assert is_one_helpful_line(pvemu_run(data))


def test_text_that_is_no_source_is_told_in_one_line_however_long_it_is(pvemu: Command) -> None:
    run = pvemu("run", "/etc/passwd")
    assert is_one_helpful_line(run)
    assert "is text, but no guestkit source" in run.err


@pytest.mark.parametrize(
    "options",
    [
        ["--trace", "guest"],
        ["--pcap", "link"],
        ["--pcap", "./disk"],
        ["--trace", "keys"],
        ["--trace", "new", "--pcap", "new"],
        ["--trace", "new", "--pcap", "./new"],
    ],
    ids=" ".join,
)
def test_nothing_that_a_run_reads_or_writes_is_overwritten(
    pvemu_run: Command, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("disk").write_bytes(bytes(4096))
    Path("keys").write_text("keys")
    Path("link").symlink_to("guest")
    run = pvemu_run(HELLO, "--disk", "disk", "--input", "keys", *options)
    assert is_one_helpful_line(run)
    assert "would overwrite" in run.err
    assert Path("guest").read_text() == HELLO
    assert not Path("new").exists()


def test_two_outputs_may_go_to_one_device(pvemu_run: Command) -> None:
    assert pvemu_run(HELLO, "--trace", "/dev/null", "--pcap", "/dev/null").status == 0


def test_a_program_for_another_system_is_refused(pvemu: Command) -> None:
    assert is_one_helpful_line(pvemu("run", "/proc/self/exe"))


def test_a_mistake_in_source_is_shown_with_its_place(pvemu: Command, tmp_path: Path) -> None:
    source = tmp_path / "wrong.gk"
    source.write_text(HELLO.replace("jmp", "jump").replace("push", "bush"))
    run = pvemu("run", source)
    assert (run.status, run.out) == (2, b"")
    line = next(number for number, text in enumerate(source.read_text().splitlines(), 1) if "bush" in text)
    assert run.err.startswith(f"{source}:{line}:")


def test_source_without_a_guest_line_is_refused(pvemu_run: Command) -> None:
    assert is_one_helpful_line(pvemu_run("section .text\nstart: jmp start\n"))


@pytest.mark.parametrize(
    "options",
    [
        ["--disk", "x.img,xvda,w"],
        ["--net", "auto"],
        ["--pcap", "packets"],
        ["--tap", "tap7"],
        ["--xenstore-socket", "socket"],
        ["--paging", "nested"],
    ],
    ids=lambda options: options[0],
)
def test_what_domain_0_as_a_guest_can_not_have_is_told_in_one_line(
    pvemu_run: Command, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_one_helpful_line(pvemu_run(HELLO, "--dom0", *options))


def test_a_trace_that_fills_the_disk_is_told_in_one_line(pvemu_run: Command) -> None:
    run = pvemu_run(TRAP_LOOP, "--max-time", "0.1", "--trace", "/dev/full")
    assert is_one_helpful_line(run)
    assert "/dev/full" in run.err


def test_a_system_without_pseudo_terminals_is_told_in_one_line(
    pvemu_run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "openpty", refuse)
    assert is_one_helpful_line(pvemu_run(HELLO, "--pty"))
