"""The guestkit command, as a person starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent.parent


def guestkit(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m guestkit`` and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "guestkit", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "kernel.asm"
    path.write_text('guest "k"\nstart: mov eax, NUMBER\nwarning "careful"\n')
    return path


def test_build_writes_the_kernel_the_listing_and_a_summary(source: Path, tmp_path: Path) -> None:
    kernel, listing = tmp_path / "kernel", tmp_path / "kernel.lst"
    ended = guestkit(
        "build", source, "-o", kernel, "--listing", listing, "--define", "NUMBER=0x1234", "--json"
    )
    assert ended.returncode == 0
    assert kernel.read_bytes()[:4] == b"\x7fELF"
    assert "c0100000 b8 34 12 00 00" in listing.read_text()
    summary = json.loads(ended.stdout)
    assert summary["bits"] == 32
    assert summary["entry"] == summary["symbols"]["start"] == 0xC0100000
    assert summary["segments"][0]["physical"] == 0x100000
    assert ended.stderr.startswith(f"{source}:3:1: warning: careful\n")


def test_without_json_a_success_says_nothing_on_standard_output(source: Path, tmp_path: Path) -> None:
    assert guestkit("build", source, "-o", tmp_path / "k", "--define", "NUMBER").stdout == ""


def test_a_mistake_ends_with_status_2_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    ended = guestkit("build", source, "-o", tmp_path / "k")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"{source}:2:17: NUMBER is not defined\n")
    assert not (tmp_path / "k").exists()


def test_include_folders_are_searched(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "part.asm").write_text("nop\n")
    (tmp_path / "main.asm").write_text('include "part.asm"\n')
    arguments = ("build", tmp_path / "main.asm", "-o", tmp_path / "k")
    assert guestkit(*arguments).returncode == 2
    assert guestkit(*arguments, "--include", library).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frob"],
        ["build"],
        ["build", "/nowhere/x.asm", "-o", "/tmp/never"],
        ["build", "SOURCE", "-o", "/nowhere/k", "--define", "NUMBER=1"],
        ["build", "SOURCE", "-o", "/dev/null", "--define", "NUMBER=x"],
        ["build", "SOURCE", "-o", "/dev/null", "--define", "NUMBER=08"],
        ["build", "SOURCE", "-o", "/dev/null", "--define", "NUMBER", "--define", "eax=1"],
    ],
)
def test_wrong_use_ends_with_status_2_and_no_traceback(words: list[str], source: Path) -> None:
    ended = guestkit(*(str(source) if word == "SOURCE" else word for word in words))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    # Without any word it is the help that is shown.
    assert len(ended.stderr.splitlines()) == (1 if words else 0)
    assert bool(ended.stdout) == (not words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["SOURCE", "-o", "SOURCE"], "would overwrite"),
        (["SOURCE", "-o", "LINK"], "would overwrite"),
        (["SOURCE", "-o", "NEW", "--listing", "NEW"], "would overwrite"),
        (["SOURCE", "-o", "/dev/full"], "/dev/full can't be written: No space left"),
        (["SOURCE", "-o", "/"], "/ can't be written: Is a directory"),
        (["SOURCE", "-o", "/dev/null", "--listing", "/"], "/ can't be written: Is a directory"),
        (["/dev/zero", "-o", "NEW"], "/dev/zero: is larger than 64 MiB"),
        (["/", "-o", "NEW"], "/: can't be read: Is a directory"),
        (["x" * 300, "-o", "NEW"], "can't be read: File name too long"),
        (["/proc/self/mem", "-o", "NEW"], "/proc/self/mem: can't be read"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_file_that_can_not_be_used_is_told_in_one_line_and_nothing_is_lost(
    words: list[str], said: str, source: Path, tmp_path: Path
) -> None:
    text = source.read_text()
    names = {"SOURCE": source, "LINK": tmp_path / "link", "NEW": tmp_path / "new"}
    names["LINK"].symlink_to(source)
    ended = guestkit("build", *(names.get(word, word) for word in words), "--define", "NUMBER")
    assert ended.returncode == 2
    assert said in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert source.read_text() == text


@pytest.mark.parametrize(
    "words", [["--help"], ["build", "SOURCE", "-o", "/dev/null", "--define", "NUMBER", "--json"]]
)
def test_output_that_nobody_reads_or_that_has_no_room_is_told_by_the_status(
    words: list[str], source: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "guestkit",
        *(str(source) if word == "SOURCE" else word for word in words),
    ]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, env=environment)
    os.close(writer)
    assert ended.returncode == 141
    assert b"Traceback" not in ended.stderr
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, env=environment)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(b"guestkit: the output can't be written")
