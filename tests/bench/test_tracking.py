"""MLflow as a mirror: everything arrives once, reads back equal, and its absence loses nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import tracking
from bench.specs import JobGraph, JobResult, Metric, PlannedJob
from bench.store import Store

pytestmark = [pytest.mark.ordinary, pytest.mark.xdist_group("mlflow")]


@pytest.fixture
def suite(
    tmp_path: Path,
    make_job: Callable[..., PlannedJob],
    make_graph: Callable[..., JobGraph],
    make_result: Callable[..., JobResult],
) -> tuple[Store, JobGraph, dict[str, JobResult]]:
    """A work folder with two done jobs, one failed one and one skipped one."""
    store = Store(tmp_path / "runs")
    store.create()
    jobs = [make_job(f"job {seed}", seed=seed) for seed in range(4)]
    many = Metric(name="many", value=0.5, n=9, samples=tuple(i / 7 for i in range(1000)))
    for job in jobs[:2]:
        with store.claim(job.spec) as claim:
            for step in (1, 2, 3):
                claim.report({"step": step, "loss": 1.0 / step, "lr": 0.1, "num_steps": 3})
            result = make_result(job, value=0.25)
            # More samples than one of MLflow's tags can hold.
            claim.commit(result.model_copy(update={"metrics": {**result.metrics, "many": many}}))
    store.record_failure(JobResult(job_id=jobs[2].job_id, status="failed", error="boom <b>"))
    store.record_failure(JobResult(job_id=jobs[3].job_id, status="skipped", error="input failed"))
    return store, make_graph(tuple(jobs)), store.outcomes(job.job_id for job in jobs)


def carry(store: Store, graph: JobGraph, outcomes: dict[str, JobResult]) -> list[str]:
    mirror = tracking.Mirror(graph, store)
    for job in graph.jobs:
        mirror.record(job, outcomes[job.job_id])
    page = store.workdir / "reports" / "tables" / "comparison.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("| a |\n")
    return mirror.finish(outcomes=outcomes, files=[page], root=store.workdir / "reports")


def test_what_arrives_reads_back_equal_and_only_once(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    assert carry(store, graph, outcomes) == []
    assert tracking.read_results(store.workdir, graph) == outcomes
    assert tracking.missing(graph, outcomes, store.workdir) == []

    # a second driver, and one whose ledger was lost, add no second copy
    assert carry(store, graph, outcomes) == []
    (store.workdir / "mirrored" / "toy.jsonl").unlink()
    assert carry(store, graph, outcomes) == []
    client = tracking.connect(store.workdir)
    experiment = client.get_experiment_by_name("toy")
    jobs = client.search_runs([experiment.experiment_id], "tags.`vitbench.role` = 'job'")
    assert sorted(run.info.run_name for run in jobs) == ["job 0", "job 1", "job 2", "job 3"]


def test_a_run_shows_what_a_person_looks_for(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    carry(store, graph, outcomes)
    client = tracking.connect(store.workdir)
    experiment = client.get_experiment_by_name("toy")
    found = client.search_runs([experiment.experiment_id])
    runs = {run.info.run_name: run for run in found}
    parent = next(run for run in found if run.data.tags.get("vitbench.role") == "suite")
    done, failed = runs["job 0"], runs["job 2"]
    assert done.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert done.info.status == "FINISHED"
    assert failed.info.status == "FAILED"
    assert failed.data.tags["vitbench.error"] == "boom <b>"
    assert done.data.params["system"] == "vit-toy"
    assert done.data.metrics["train_loss"] == 0.25
    curve = client.get_metric_history(done.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert [item.path for item in client.list_artifacts(parent.info.run_id, "tables")] == [
        "tables/comparison.md"
    ]
    assert parent.data.metrics["jobs_failed"] == 1


def test_what_a_killed_driver_left_open_is_closed(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    killed = tracking.Mirror(graph, store)
    killed._queue.put(None)
    killed._thread.join()
    assert carry(store, graph, outcomes) == []
    client = tracking.connect(store.workdir)
    experiment = client.get_experiment_by_name("toy")
    parents = client.search_runs([experiment.experiment_id], "tags.`vitbench.role` = 'suite'")
    assert sorted(run.info.status for run in parents) == ["FAILED", "KILLED"]


def test_a_locked_store_is_told_and_caught_up_later(
    suite: tuple[Store, JobGraph, dict[str, JobResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, graph, outcomes = suite
    tracking.connect(store.workdir)
    blocker = sqlite3.connect(store.workdir / "mlflow.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    mirror = tracking.Mirror(graph, store)
    for job in graph.jobs:
        mirror.record(job, outcomes[job.job_id])
    problems = mirror.finish(outcomes=outcomes, timeout_s=0.5)
    assert problems
    blocker.execute("ROLLBACK")
    blocker.close()
    mirror._thread.join()
    carry(store, graph, outcomes)
    assert tracking.read_results(store.workdir, graph) == outcomes


def test_a_broken_store_is_told_and_loses_no_result(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    (store.workdir / "mlflow.db").write_text("not a database, long enough to be looked at" * 9)
    problems = carry(store, graph, outcomes)
    assert problems
    assert problems[0].startswith("MLflow: ")
    assert len(tracking.missing(graph, outcomes, store.workdir)) == 4
    assert store.outcomes(job.job_id for job in graph.jobs) == outcomes


def test_the_database_is_created_once_by_many(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, pathlib; from bench import tracking; "
        "print(len(tracking.connect(pathlib.Path(sys.argv[1])).search_experiments()))"
    )
    many = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in many] == ["1"] * 3
    mode = sqlite3.connect(tmp_path / "mlflow.db").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)
