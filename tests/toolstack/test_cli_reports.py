"""`pvemu doctor` and `pvemu hypercalls`: what they tell is true, in words and as JSON."""

import json
from typing import Any

import pytest

from pvemu import __version__
from pvemu.abi.hypercalls import HYPERCALLS
from pvemu.cpu import binding, facts
from pvemu.cpu.calibration import Check, examine
from pvemu.cpu.errors import EngineError
from pvemu.hypervisor.families import supported
from pvemu.toolstack.verbs import doctor as doctor_verb
from tests.toolstack.conftest import Command


def told_by(command: Command, verb: str) -> Any:
    return json.loads(command(verb, "--json").out)


def test_the_doctor_finds_every_fact_true_on_a_supported_host(pvemu: Command) -> None:
    run = pvemu("doctor")
    text = run.out.decode()
    assert (run.status, run.err) == (0, "")
    assert "FAILS" not in text
    assert "Guests can run here." in text
    assert f"Unicorn {binding.KNOWN_VERSION} (known)" in text


def test_the_doctor_tells_every_check_as_json(pvemu: Command) -> None:
    told = told_by(pvemu, "doctor")
    claims = [check.claim for check in (*examine().checks, *facts.examine_facts())]
    assert [check["claim"] for check in told["checks"]] == claims
    assert all(check["holds"] for check in told["checks"])
    assert (told["healthy"], told["known"]) == (True, True)
    assert told["state_windows"] == {"live": True, "context": True}
    assert told["clocks"] == {"block": True, "count": True}


def test_the_doctor_says_which_fact_fails(pvemu: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor_verb, "examine_facts", lambda window: (Check("water is dry", False, "it was wet"),)
    )
    run = pvemu("doctor")
    assert run.status == 1
    for words in ("water is dry", "FAILS", "it was wet", "Guests can't run here"):
        assert words in run.out.decode()


def test_the_doctor_says_what_to_do_about_an_unknown_engine(
    pvemu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_window: str) -> None:
        raise EngineError("the CPU state was found 0 times")

    monkeypatch.setattr(doctor_verb, "examine", refuse)
    monkeypatch.setattr(doctor_verb, "library_version", lambda: "9.9.9")
    told = told_by(pvemu, "doctor")
    assert pvemu("doctor").status == 1
    assert (told["unicorn"], told["known"], told["healthy"]) == ("9.9.9", False, False)
    assert f"pip install unicorn=={binding.KNOWN_VERSION}" in told["verdict"]
    assert told["checks"][0]["seen"] == "the CPU state was found 0 times"


def test_an_unknown_engine_in_which_all_holds_is_used_with_a_warning(
    pvemu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_verb, "library_version", lambda: "9.9.9")
    assert pvemu("doctor").status == 0
    assert f"Only Unicorn {binding.KNOWN_VERSION} is tested" in told_by(pvemu, "doctor")["verdict"]


def test_the_list_of_hypercalls_is_the_table(pvemu: Command) -> None:
    told = told_by(pvemu, "hypercalls")
    assert [(row["number"], row["name"]) for row in told] == [(row.number, row.name) for row in HYPERCALLS]
    assert [row["name"] for row in told if row["supported"]] == supported()
    assert [[argument["name"] for argument in row["arguments"]] for row in told] == [
        [argument.name for argument in row.arguments] for row in HYPERCALLS
    ]


def test_the_list_of_hypercalls_is_readable(pvemu: Command) -> None:
    run = pvemu("hypercalls")
    lines = [line.split() for line in run.out.decode().splitlines()]
    assert ["17", "xen_version", "cmd,", "arg", "yes"] in [
        [word for word in line if word != "│"] for line in lines
    ]
    assert run.status == 0


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["doctor", "-h"]])
def test_help_is_on_stdout_and_no_mistake(pvemu: Command, words: list[str]) -> None:
    run = pvemu(*words)
    assert (run.status, run.err) == (0, "")
    assert b"Usage: pvemu" in run.out


def test_the_version_is_the_package_s(pvemu: Command) -> None:
    assert pvemu("--version") == (0, f"pvemu {__version__}\n".encode(), "")
