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
        ["build", "SOURCE", "-o", "/dev/null", "--define", "eax=1"],
    ],
)
def test_wrong_use_ends_with_status_2_and_no_traceback(words: list[str], source: Path) -> None:
    ended = guestkit(*(str(source) if word == "SOURCE" else word for word in words))
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr + ended.stdout
