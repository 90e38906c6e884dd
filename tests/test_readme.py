"""What README.md shows is true: its guest prints what is printed below it, and its Python runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUEST, PROGRAM = (
    re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[0] for language in ("asm", "python")
)
COMMAND, OUTPUT = re.findall(r"    \$ \.venv/bin/(pvemu .*)\n    (.*)\n", README)[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.gk").write_text(GUEST)
    return tmp_path


def run(folder: Path, *words: str) -> str:
    finished = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return finished.stdout


def test_the_guest_prints_what_is_shown(folder: Path) -> None:
    assert run(folder, "-m", *COMMAND.split()) == OUTPUT + "\n"


def test_the_guest_is_ten_lines() -> None:
    assert len(GUEST.splitlines()) == 10


def test_the_program_runs_the_guest(folder: Path) -> None:
    console = f"{OUTPUT}\n".encode()
    assert run(folder, "-c", PROGRAM) == f"Outcome.POWEROFF {console!r}\n"


def test_every_file_that_is_linked_exists() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
