"""A campaign on a cluster does what it does here, and loses nothing with a worker."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from bugs import Begins
from test_campaign import files
from test_fuzz_command import start

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing import cluster
from pvemu.testing.fuzzing.campaign import Campaign, Plan
from pvemu.testing.fuzzing.cluster import ClusterJobs
from pvemu.testing.fuzzing.corpus import Corpus
from pvemu.testing.fuzzing.findings import Findings
from pvemu.testing.fuzzing.local_jobs import Jobs, LocalJobs
from pvemu.testing.grammar import named_families

pytest.importorskip("distributed", reason="pip install 'pvemu[cluster]'")
FAMILIES = "grant_table_op,event_channel_op"
PLAN = Plan(families=named_families(FAMILIES), seed=5, jobs=2, cases=40)
#: Cases of a campaign's first round, for each job.
FIRST_ROUND = 50


@dataclass
class Scheduler:
    """A scheduler with two workers, each a process."""

    address: str
    process: "subprocess.Popen[str]"


def dask(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "dask", *words, "--no-dashboard"]
    # What a worker says of its own end is nothing of ours.
    errors = subprocess.PIPE if words[0] == "scheduler" else subprocess.DEVNULL
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    process = dask("scheduler", "--host", "127.0.0.1", "--port", "0")
    assert process.stderr is not None
    address = next(line.split()[-1] for line in process.stderr if "Scheduler at:" in line)
    workers = [dask("worker", address, "--nthreads", "1", "--no-nanny") for _ in range(2)]
    yield Scheduler(address, process)
    for each in (*workers, process):
        each.kill()
        each.wait()
    process.stderr.close()


def run(jobs: Jobs, folder: Path, plan: Plan = PLAN) -> dict[str, bytes]:
    try:
        findings = Findings(folder / "findings", plan.setting)
        Campaign(plan, jobs, Corpus(folder / "corpus"), findings).run()
    finally:
        jobs.close()
    return files(folder)


def test_a_lost_worker_loses_nothing_and_the_corpus_is_the_same_as_here(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    here = run(LocalJobs(2), tmp_path / "here")
    assert here
    first = Begins(tmp_path, round=0)
    lost = list[int]()

    def lose_one() -> None:
        lost.append(first.wait())
        os.kill(lost[0], signal.SIGKILL)

    murderer = threading.Thread(target=lose_one)
    murderer.start()
    there = run(ClusterJobs(scheduler.address, 2, (first.extra,)), tmp_path / "there")
    murderer.join()
    first.close()
    assert lost and there == here


def test_a_lost_scheduler_ends_the_campaign_with_one_line_and_all_rounds_before_are_kept(
    scheduler: Scheduler, tmp_path: Path
) -> None:
    one_job = replace(PLAN, jobs=1, cases=FIRST_ROUND)
    here = run(LocalJobs(1), tmp_path / "here", one_job)
    second = Begins(tmp_path, round=1)
    process = start(
        tmp_path,
        *("--scheduler", scheduler.address, "--jobs", "1", "--families", FAMILIES),
        *("--seed", str(PLAN.seed), "--cases", "1000000", "--extra", second.extra),
        *("--corpus", "there/corpus", "--findings", "there/findings"),
    )
    second.wait()
    scheduler.process.kill()
    _, err = process.communicate(timeout=60)
    second.close()
    assert process.returncode == 2
    assert err == "pvemu: the scheduler does not answer any more; all rounds before this one are kept\n"
    assert files(tmp_path / "there") == here


def test_a_scheduler_that_does_not_answer_is_a_clear_error_soon() -> None:
    with pytest.raises(PvemuError, match=r"no scheduler answers at tcp://127.0.0.1:9"):
        ClusterJobs("tcp://127.0.0.1:9", 1, patience=0.5)


def test_an_address_that_is_none_is_a_clear_error() -> None:
    for address in ("nonsense://", "nonsense", "tcp://", "tcp://somewhere", ":8786", "tcp://a b:1"):
        with pytest.raises(PvemuError, match="is no address of a scheduler"):
            ClusterJobs(address, 1, patience=0.5)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(cluster, "import_module", missing)
    with pytest.raises(PvemuError, match=r"pip install 'pvemu\[cluster\]'"):
        ClusterJobs("tcp://127.0.0.1:9", 1)
