"""A campaign on a cluster does what it does here, and loses nothing with a worker."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_campaign import files

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing import cluster
from pvemu.testing.fuzzing.campaign import Campaign, Plan
from pvemu.testing.fuzzing.cluster import ClusterJobs
from pvemu.testing.fuzzing.corpus import Corpus
from pvemu.testing.fuzzing.findings import Findings
from pvemu.testing.fuzzing.local_jobs import Jobs, LocalJobs

distributed: Any = pytest.importorskip("distributed", reason="pip install 'pvemu[cluster]'")
PLAN = Plan(families=("event_channel_op", "grant_table_op"), seed=5, jobs=2, cases=40)


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """Two workers, each a process that is started again when it is lost."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as workers:
        yield workers


def run(jobs: Jobs, folder: Path) -> dict[str, bytes]:
    try:
        findings = Findings(folder / "findings", PLAN.setting)
        Campaign(PLAN, jobs, Corpus(folder / "corpus"), findings).run()
    finally:
        jobs.close()
    return files(folder)


def test_a_lost_worker_loses_nothing_and_the_corpus_is_the_same_as_here(workers: Any, tmp_path: Path) -> None:
    here = run(LocalJobs(2), tmp_path / "here")
    assert here
    processes = [worker.pid for worker in workers.workers.values()]

    def lose_one() -> None:
        time.sleep(1)
        os.kill(processes[0], signal.SIGKILL)

    murderer = threading.Thread(target=lose_one)
    murderer.start()
    there = run(ClusterJobs(workers.scheduler_address, 2), tmp_path / "there")
    murderer.join()
    assert there == here


def test_a_scheduler_that_does_not_answer_is_a_clear_error_soon() -> None:
    with pytest.raises(PvemuError, match=r"no scheduler answers at tcp://127.0.0.1:9"):
        ClusterJobs("tcp://127.0.0.1:9", 1, patience=0.5)


def test_an_address_that_is_none_is_a_clear_error() -> None:
    with pytest.raises(PvemuError, match="no scheduler answers at nonsense"):
        ClusterJobs("nonsense://", 1, patience=0.5)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(cluster, "import_module", missing)
    with pytest.raises(PvemuError, match=r"pip install 'pvemu\[cluster\]'"):
        ClusterJobs("tcp://127.0.0.1:9", 1)
