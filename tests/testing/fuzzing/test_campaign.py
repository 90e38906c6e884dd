"""A campaign finds bugs, survives the process's death, and does the same each time."""

from pathlib import Path

import pytest
from bugs import ENDLESS, LOST_UPCALLS, SEGFAULT, WILD_WRITES, ZERO_DIVISION, plant

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing import command, shard
from pvemu.testing.fuzzing.campaign import Campaign, Plan, Progress
from pvemu.testing.fuzzing.corpus import Corpus, read_file
from pvemu.testing.fuzzing.findings import PROGRAM, Findings
from pvemu.testing.fuzzing.local_jobs import LocalJobs
from pvemu.testing.fuzzing.shard import Report, Task, run_shard
from pvemu.testing.fuzzing.theatre import Setting
from pvemu.testing.program_text import read_program, write_program


def campaign(
    folder: Path, plan: Plan, extras: tuple[str, ...] = (), stuck: float = 60.0
) -> tuple[Progress, Findings, Corpus]:
    """Run one, whose files are below a folder."""
    corpus, findings = Corpus(folder / "corpus"), Findings(folder / "findings", plan.setting)
    jobs = LocalJobs(plan.jobs, extras, stuck=stuck)
    try:
        return Campaign(plan, jobs, corpus, findings).run(), findings, corpus
    finally:
        jobs.close()


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder. The line that runs a finding again has the folder's own name in it."""
    name = str(folder).encode()
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(name, b"")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_jobs_and_cases_give_the_same_files_whatever_the_hash_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = (plant(tmp_path, ZERO_DIVISION),)
    plan = Plan(families=("get_debugreg", "event_channel_op", "grant_table_op"), seed=3, jobs=2, cases=120)
    for number in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", number)
        progress, _, _ = campaign(tmp_path / number, plan, extras)
        assert progress.cases == 120
    first, second = files(tmp_path / "1"), files(tmp_path / "2")
    assert first == second
    assert any(name.startswith("corpus/") for name in first)
    assert any(name.endswith(PROGRAM) for name in first)


def test_another_seed_makes_other_programs(tmp_path: Path) -> None:
    for seed in (1, 2):
        campaign(tmp_path / str(seed), Plan(families=("event_channel_op",), seed=seed, cases=20))
    assert files(tmp_path / "1") != files(tmp_path / "2")


def test_a_bug_is_found_and_kept_with_all_that_is_needed_to_see_it_again(tmp_path: Path) -> None:
    plan = Plan(families=("xen_version",), seed=1, cases=250)
    _, findings, _ = campaign(tmp_path, plan, (plant(tmp_path, WILD_WRITES),))
    key, finding = next(
        (key, found)
        for key, found in findings.found.items()
        if "the_hypervisors_memory_is_untouched" in str(found.failure)
    )
    assert len(finding.program.steps) == 1
    place = tmp_path / "findings" / key
    assert {path.name for path in place.iterdir()} == {PROGRAM, "failure.txt", "d0.gk", "d1.gk"}
    assert read_file(place / PROGRAM) == finding.program
    assert f"pvemu fuzz --replay {place / PROGRAM}" in (place / "failure.txt").read_text()
    assert "memory was changed by a guest" in (place / "failure.txt").read_text()


def test_the_same_failure_is_kept_once(tmp_path: Path) -> None:
    plan = Plan(families=("get_debugreg",), seed=1, cases=10)
    _, findings, _ = campaign(tmp_path, plan, (plant(tmp_path, ZERO_DIVISION),))
    assert len(findings.found) == 1
    (key,) = findings.found
    assert key.startswith("exception-")
    assert len(findings.found[key].program.steps) == 1
    assert findings.times[key] > 1


def test_a_case_that_ends_the_process_is_a_finding_and_the_rest_goes_on(tmp_path: Path) -> None:
    plan = Plan(families=("get_debugreg",), seed=1, cases=2)
    progress, findings, _ = campaign(tmp_path, plan, (plant(tmp_path, SEGFAULT),))
    assert progress.cases == 2
    failures = [finding.failure for finding in findings.found.values()]
    assert {(failure.kind, failure.error) for failure in failures} == {("died", "SIGSEGV")}
    for finding in findings.found.values():
        assert [step.call for step in finding.program.steps] == ["get_debugreg"]


@pytest.mark.parametrize(
    "setting", [Setting(1, privileged=True), Setting(2, guests=True)], ids=["puppets", "guests that run"]
)
def test_an_event_that_is_lost_is_found_soon_among_any_hypercalls(tmp_path: Path, setting: Setting) -> None:
    """Without xenstored, whose answers are events, too."""
    plan = Plan(setting, seed=1, cases=100)
    _, findings, _ = campaign(tmp_path, plan, (plant(tmp_path, LOST_UPCALLS),))
    (finding,) = findings.found.values()
    assert "no_event_is_lost" in str(finding.failure) and "no upcall is" in finding.failure.message
    assert len(finding.program.steps) <= 4


def test_a_case_that_never_ends_is_one_finding_and_what_else_was_found_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, extras = Corpus(tmp_path / "corpus"), (plant(tmp_path, ENDLESS),)
    for call in ("get_debugreg(0)", "fpu_taskswitch(0)"):
        corpus.add(read_program(f'program of 2 domains\nd0 "x" {call}\n'))
    progress, findings, _ = campaign(tmp_path, Plan(families=("xen_version",), cases=1), extras, stuck=2.0)
    assert progress.cases == 3
    ((key, finding),) = findings.found.items()
    assert (finding.failure.kind, findings.times[key]) == ("stuck", 1)
    assert [step.call for step in finding.program.steps] == ["get_debugreg"]
    assert progress.corpus > 0 and len(corpus.programs()) >= 2
    assert command.replay(tmp_path / "findings" / key / PROGRAM, Setting(), extras=extras, stuck=2.0) == 1
    assert "stuck: no sign of life" in capsys.readouterr().out


def test_a_job_that_can_not_begin_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PvemuError, match=r"ended before its first case.*no module of this name"):
        campaign(tmp_path, Plan(cases=1), (plant(tmp_path, "raise SystemExit('no module of this name')"),))


def test_what_was_found_until_an_interrupt_is_kept(tmp_path: Path) -> None:
    corpus, findings = Corpus(tmp_path / "corpus"), Findings(tmp_path / "findings", Setting())
    jobs, interrupts = LocalJobs(1), list[int]()

    def interrupt_once(progress: Progress) -> None:
        if progress.cases >= 10 and not interrupts:
            interrupts.append(progress.cases)
            raise KeyboardInterrupt

    plan = Plan(families=("event_channel_op",), cases=100_000)
    progress = Campaign(plan, jobs, corpus, findings, interrupt_once).run()
    assert 10 <= interrupts[0] <= progress.cases < 100_000
    assert len(corpus.programs()) == progress.corpus > 0


def test_what_is_in_the_corpus_is_run_first(tmp_path: Path) -> None:
    plan = Plan(families=("event_channel_op",), seed=1, cases=20)
    before, _, corpus = campaign(tmp_path, plan)
    kept = len(corpus.programs())
    after, _, _ = campaign(tmp_path, Plan(families=("event_channel_op",), seed=2, cases=1))
    assert after.cases == kept + 1
    assert after.edges >= before.edges


def test_a_program_that_takes_long_is_not_kept_to_make_others_of(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'program of 2 domains\nd0 "x" get_debugreg(0)\n'
    task = Task(Setting(2), ("get_debugreg",), False, "1", 0, unread=(text,))
    assert [kept for kept, _ in run_shard(task).kept] == [text]
    monkeypatch.setattr(shard, "_MOST_CYCLES", 10)
    report = run_shard(task)
    assert report.kept == [] and report.edges


def test_guests_that_run_reach_blocks_of_their_code_and_ways_that_hypercalls_do_not(tmp_path: Path) -> None:
    def edges(setting: Setting) -> set[str]:
        report = run_shard(Task(setting, ("event_channel_op", "set_timer_op"), False, "1", 40))
        assert report.findings == []
        return {edge for _, new in report.kept for edge in new} | set(report.edges)

    alone, running = edges(Setting(2)), edges(Setting(2, guests=True))
    assert not any(edge.startswith("guest:") for edge in alone)
    assert sum(edge.startswith("guest:") for edge in running) > 50
    for module in ("pv/bounce", "pv/inject", "pv/traps", "pv/iret"):
        assert any(edge.startswith(f"hypervisor/{module}.py") for edge in running), module


def test_a_report_can_be_repeated_from_its_task() -> None:
    task = Task(Setting(2), ("event_channel_op", "memory_op"), True, "x", 40)

    def told(report: Report) -> list[tuple[str, list[str]]]:
        return report.kept

    first = told(run_shard(task))
    run_shard(Task(Setting(2), ("grant_table_op",), True, "y", 10))
    assert told(run_shard(task)) == first
    assert all(write_program is not None and text.startswith("program of 2") for text, _ in first)
