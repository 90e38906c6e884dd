"""The file of a run: it says all, is read back as it was, and what is none is refused with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from small import results

from benchmarks.compare import differences, movements
from benchmarks.costs import profile_names, read_profile
from benchmarks.results import read_results
from benchmarks.routes import Route
from benchmarks.timing import ratios, spread, undisturbed
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.cli import main


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(results().to_json())
    assert read_results(tmp_path / "a.json") == results()


def test_the_file_has_machine_versions_seed_and_every_sample() -> None:
    data = json.loads(results().to_json())
    assert (data["format"], data["version"]) == ("pvemu-bench", 1)
    assert {"machine", "versions", "settings", "cells", "curves", "reference"} <= set(data)
    assert data["settings"]["seed"] == 5
    assert [len(cell["samples"]) for cell in data["cells"]] == [3, 3, 0, 1]
    assert data["cells"][2]["absent"] == "there is no such hypercall"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": "other"}, "is not from"),
        ({"version": 99}, "has version 99"),
        ({"cells": [{}]}, "is damaged"),
        ({"cells": 5}, "is damaged"),
        ({"curves": [{"curve": "ports"}]}, "is damaged"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(json.loads(results().to_json()) | change))
    with pytest.raises(PvemuError, match=complaint):
        read_results(path)


@pytest.mark.parametrize("text", ["", "[]", "7", "\x00"])
def test_what_is_no_result_at_all_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(PvemuError, match=r"a\.json is no"):
        read_results(tmp_path / "a.json")


def test_a_ratio_is_of_samples_of_the_same_turns() -> None:
    assert ratios([10, 40, 40], [10, 20, 10]) == [1, 4, 2]
    found = results()
    ratio = found.ratio(found.cells[1])
    assert ratio is not None and ratio.middle == 10
    assert found.ratio(found.cells[3]) is None  # its operation has no native route here


def test_slow_moments_change_neither_a_time_nor_a_ratio() -> None:
    quiet, busy = [10.0, 11.0, 10.0, *[11.0] * 9], [10.0, 17.0, 16.0, 11.0, 11.0, 10.0, *[19.0] * 6]
    assert spread(undisturbed(quiet)) == spread(undisturbed(busy))
    assert ratios([10 * each for each in busy], quiet) == [10] * 3
    assert undisturbed([3, 2, 1]) == [1, 2, 3]


def test_a_spread_has_the_quartiles() -> None:
    assert spread([1, 2, 3, 4, 5]) == (spread([5, 4, 3, 2, 1]))
    assert (spread([1, 2, 3, 4, 5]).low, spread([1, 2, 3, 4, 5]).high) == (2, 4)
    assert (spread([7]).low, spread([7]).middle, spread([7]).high) == (7, 7, 7)


def test_the_same_counts_do_not_differ_however_long_they_took() -> None:
    assert differences(results(), results(slower=3)) == []
    assert [each.change for each in movements(results(), results(slower=3))] == [pytest.approx(3)]


@pytest.mark.parametrize(
    ("slower", "is_close"), [(1.0, True), (1.09, True), (0.92, True), (1.12, False), (0.9, False)]
)
def test_a_ratio_that_has_moved_by_more_than_a_tenth_is_said_to_have(slower: float, is_close: bool) -> None:
    assert [each.is_close for each in movements(results(), results(slower=slower))] == [is_close]


def test_one_exit_more_is_a_difference() -> None:
    found = differences(results(), results(exits=3))
    assert {(each.operation, each.route, each.figure) for each in found} == {
        ("interrupts", "trap", "exits"),
        ("interrupts", "trap", "page fault"),
    }


def test_the_command_says_by_its_status_whether_counts_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, exits in (("a", 2), ("b", 2), ("c", 3)):
        (tmp_path / name).write_text(results(exits=exits).to_json())
    assert main(["bench", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    shown = capsys.readouterr().out
    assert "are the same in both" in shown and "1 of 1 ratios are within 10%" in shown
    assert main(["bench", "--compare", str(tmp_path / "a"), str(tmp_path / "c")]) == 1
    assert "exact figures that differ" in capsys.readouterr().out


@pytest.mark.parametrize("name", profile_names())
def test_every_number_of_a_profile_has_a_source(name: str) -> None:
    profile = read_profile(name)
    costs = [profile.instruction, *profile.exits.values()]
    assert all(cost.source and cost.cycles >= 0 for cost in costs)
    assert profile.routes and profile.title


def test_modelled_cycles_are_the_sum_of_what_was_counted() -> None:
    profile = read_profile("xen-4.17-qemu")
    counts = results().cells[1].counts
    assert counts is not None
    fault, instruction = profile.exits["page fault"].cycles, profile.instruction.cycles
    assert profile.cycles(Route.TRAP, counts) == (2 * fault + 8 * instruction) / 2
    assert profile.cycles(Route.NESTED, counts) is None


def test_a_profile_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "interrupts", "--profile", "abacus"]) == 2
    assert "there is no cost profile abacus: take one of" in capsys.readouterr().err
