"""`pvemu fuzz` as people call it: statuses, mistakes, one program again, and an end before its time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bugs import CONTINUED, ZERO_DIVISION, Begins, plant

ROOT = Path(__file__).parents[3]
FAILS_WITH_A_BUG = 'program of 2 domains\nd0 "x" get_debugreg(0)\n'


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pvemu", "fuzz", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fuzz(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_finding_is_shown_with_the_command_that_runs_it_again(tmp_path: Path) -> None:
    bug = plant(tmp_path, ZERO_DIVISION)
    status, out, err = fuzz(tmp_path, "--families", "get_debugreg", "--cases", "6", "--extra", bug)
    assert (status, err) == (1, "")
    command = next(
        line.split() for line in out.splitlines() if line.strip().startswith("pvemu fuzz --replay")
    )
    status, out, err = fuzz(tmp_path, *command[2:], "--extra", bug)
    assert (status, err) == (1, "")
    assert "ZeroDivisionError" in out and "get_debugreg" in out and 'include "steps.gk"' in out
    status, out, err = fuzz(tmp_path, *command[2:])
    assert (status, err) == (0, "")
    assert "nothing goes wrong" in out


def test_nothing_found_is_status_0_and_the_figures_are_shown(tmp_path: Path) -> None:
    status, out, err = fuzz(tmp_path, "--families", "xen_version", "--cases", "6", "--seed", "2")
    assert (status, err) == (0, "")
    assert out.startswith("6 cases, ")
    assert "0 findings" in out and "edges seen by s" in out
    assert list((tmp_path / "fuzz-corpus").glob("*.steps"))
    assert not (tmp_path / "fuzz-findings").exists()


def test_sigterm_ends_it_early_and_keeps_what_was_found(tmp_path: Path) -> None:
    second = Begins(tmp_path, round=1)
    words = ("--families", "event_channel_op", "--cases", "1000000", "--extra", second.extra)
    process = start(tmp_path, *words)
    second.wait()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "corpus" in out and list((tmp_path / "fuzz-corpus").glob("*.steps"))
    second.close()


def test_a_hypercall_that_is_continued_for_ever_is_one_finding_that_can_be_seen_again(tmp_path: Path) -> None:
    bug = plant(tmp_path, CONTINUED)
    status, out, err = fuzz(
        tmp_path, "--families", "get_debugreg,event_channel_op", "--cases", "12", "--extra", bug
    )
    assert (status, err) == (1, "")
    assert "1 findings" in out and "\nhang: NeverDone" in out
    (finding,) = (tmp_path / "fuzz-findings").iterdir()
    assert finding.name.startswith("hang-")
    assert list((tmp_path / "fuzz-corpus").glob("*.steps"))
    program = str(finding / "program.steps")
    status, out, err = fuzz(tmp_path, "--replay", program, "--extra", bug)
    assert (status, err) == (1, "")
    assert out.startswith("hang: NeverDone") and "get_debugreg" in out


def test_a_corpus_is_made_small_and_reaches_the_same(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "--families", "event_channel_op", "--cases", "30")[0] == 0
    before = len(list((tmp_path / "fuzz-corpus").iterdir()))
    status, out, _ = fuzz(tmp_path, "--minimise-corpus")
    assert status == 0
    after = len(list((tmp_path / "fuzz-corpus").iterdir()))
    assert f"{after} programs reach" in out and f"{before - after} were removed" in out
    assert 0 < after <= before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--families", "no_such_op"], "there is no hypercall 'no_such_op'"),
        (["no_such_op"], "no_such_op"),
        (["--time", "soon"], "is no time"),
        (["--time", "-5"], "is no time"),
        (["--time", "nan"], "is no time"),
        (["--jobs", "0"], "--jobs is from 1"),
        (["--cases", "0"], "--cases is at least 1"),
        (["--domains", "9"], "--domains is from 1 to 4"),
        (["--replay", "none.steps"], "none.steps can't be read"),
        (["--replay", "damaged.steps"], "damaged.steps is no program"),
        (["--replay", "two.steps", "--privileged"], "with --privileged there is only one"),
        (["--merge", "nowhere"], "there is no corpus nowhere"),
        (["--extra", "nothing.py"], "there is no file nothing.py"),
        (["--corpus", "two.steps"], "is no directory"),
        (["--findings", "two.steps"], "is no directory"),
        (["--scheduler", "nowhere"], "'nowhere' is no address of a scheduler"),
        (["--corpus", "folder"], "0.steps is no program"),
        (["--corpus", "of_two", "--privileged"], "with --privileged there is only one"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "damaged.steps").write_text("nonsense")
    (tmp_path / "two.steps").write_text(FAILS_WITH_A_BUG)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0.steps").write_text("nonsense")
    (tmp_path / "of_two").mkdir()
    (tmp_path / "of_two" / "1.steps").write_text(FAILS_WITH_A_BUG)
    status, out, err = fuzz(tmp_path, *words)
    assert status == 2
    assert out == ""
    assert err.startswith("pvemu: ") and err.count("\n") == 1
    assert said in err
