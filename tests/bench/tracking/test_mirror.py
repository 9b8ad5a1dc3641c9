"""MLflow as a mirror: everything arrives once, reads back equal, and its absence loses nothing."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import tracking
from bench.data import catalog
from bench.errors import BenchError
from bench.plan import plan, suites
from bench.plan.spec import JobGraph
from bench.specs import JobResult, Metric, PlannedJob
from bench.store import Store
from bench.tracking import reading, sql, view

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPOSITORY = Path(__file__).resolve().parents[3]
FORK = multiprocessing.get_context("fork")

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


def test_a_run_of_a_limited_suite_says_so(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    data = graph.jobs[0].spec.data
    assert data is not None
    few = graph.jobs[0].spec.model_copy(
        update={"data": data.model_copy(update={"num_evaluated": 512})}
    )
    first = graph.jobs[0].model_copy(update={"spec": few})
    limited = graph.suite.model_copy(update={"limit_steps": 2})
    graph = graph.model_copy(update={"suite": limited, "jobs": (first, *graph.jobs[1:])})
    carry(store, graph, outcomes)
    client = tracking.connect(store.workdir)
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id], "tags.`vitbench.role` = 'job'")
    tags = {run.info.run_name: run.data.tags["limited"] for run in runs}
    assert tags["job 0"] == "at most 2 steps, 512 images of a split"
    assert tags["job 1"] == "at most 2 steps"


def drive(store: Store, graph: JobGraph, outcomes: dict[str, JobResult], step: str) -> None:
    """Carry results as a driver of its own, up to a step, and stay there."""
    mirror = tracking.Mirror(graph, store)
    if step == "half a run":

        def stop(client: MlflowClient, *_: object) -> str:
            client.create_run(mirror._experiment_id, tags={"vitbench.role": "job"})
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(600)  # another thread may take the signal, and this one goes on for a moment
            raise AssertionError

        mirror._create = stop  # type: ignore[method-assign]
    for job in graph.jobs:
        mirror.record(job, outcomes[job.job_id])
    if step == "its own run":
        mirror._queue.put(None)
        mirror._thread.join()
        (store.workdir / "there").touch()
        time.sleep(60)
    while not (store.workdir / "go on").exists():
        time.sleep(0.01)
    assert mirror.finish(outcomes=outcomes) == []


def ended(store: Store) -> dict[str, list[str]]:
    """Return how the runs ended, those of jobs by their names."""
    client = tracking.connect(store.workdir)
    found: dict[str, list[str]] = {}
    for run in client.search_runs([client.get_experiment_by_name("toy").experiment_id]):
        is_suite = run.data.tags["vitbench.role"] == "suite"
        found.setdefault("toy" if is_suite else run.info.run_name, []).append(run.info.status)
    return {name: sorted(statuses) for name, statuses in sorted(found.items())}


JOBS = {"job 0": ["FINISHED"], "job 1": ["FINISHED"], "job 2": ["FAILED"], "job 3": ["FAILED"]}


def test_many_drivers_at_once_on_a_fresh_store_make_one_run_of_each_job(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    (store.workdir / "go on").touch()
    many = [FORK.Process(target=drive, args=(store, graph, outcomes, "")) for _ in range(3)]
    for process in many:
        process.start()
    for process in many:
        process.join()
    assert [process.exitcode for process in many] == [0] * 3
    assert ended(store) == {**JOBS, "toy": ["FAILED"] * 3}  # not every job was done
    assert tracking.read_results(store.workdir, graph) == outcomes
    assert not list((store.workdir / "drivers").iterdir())


def test_only_a_driver_that_is_gone_has_its_own_run_closed(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    process = FORK.Process(target=drive, args=(store, graph, outcomes, "its own run"))
    process.start()
    while not (store.workdir / "there").exists():
        assert process.is_alive()
        time.sleep(0.01)
    assert carry(store, graph, outcomes) == []
    assert ended(store) == {**JOBS, "toy": ["FAILED", "RUNNING"]}
    process.kill()
    process.join()
    assert carry(store, graph, outcomes) == []
    assert ended(store) == {**JOBS, "toy": ["FAILED", "FAILED", "KILLED"]}
    assert not list((store.workdir / "drivers").iterdir())


def test_the_half_written_run_of_a_job_is_written_anew(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    process = FORK.Process(target=drive, args=(store, graph, outcomes, "half a run"))
    process.start()
    assert process.pid is not None
    status = os.waitpid(process.pid, os.WUNTRACED)[1]
    assert os.WIFSTOPPED(status)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.tracking_uri(store.workdir))
    other = client.create_run("1", run_name="a person's own", tags={"vitbench.role": "notes"})
    process.kill()
    process.join()
    assert carry(store, graph, outcomes) == []
    assert ended(store) == {
        **JOBS, "a person's own": ["RUNNING"], "toy": ["FAILED", "KILLED"],
    }  # fmt: skip
    assert client.get_run(other.info.run_id).info.lifecycle_stage == "active"


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


def test_a_driver_killed_while_it_makes_the_database_leaves_none(tmp_path: Path) -> None:
    process = FORK.Process(target=tracking.connect, args=(tmp_path,))
    process.start()
    while not any("secrets" in tables(path) for path in tmp_path.rglob("*.db")):
        assert process.is_alive()
    process.kill()
    process.join()
    assert len(tracking.connect(tmp_path).search_experiments()) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {
        "mlflow.db", "mlflow.db-shm", "mlflow.db-wal", "mlflow.lock",
    }  # fmt: skip


def tables(database: Path) -> list[str]:
    """Return the names of the tables that are there, of a database that another one writes."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    except sqlite3.OperationalError:
        return []


def test_sql_reads_what_mlflow_reads(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    carry(store, graph, outcomes)
    database = store.workdir / "mlflow.db"
    texts = sql.records(database, "toy")
    assert texts is not None
    assert texts == reading._searched(store.workdir, "toy")
    assert sorted(JobResult.model_validate_json(text).job_id for text in texts) == sorted(outcomes)
    client = tracking.connect(store.workdir)
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([experiment], "tags.`vitbench.role` = 'job'")
    assert sql.records(database, "other") is None
    client.delete_run(runs[0].info.run_id)
    assert len(sql.records(database, "toy") or ()) == 3


def test_an_unknown_schema_is_left_to_mlflow(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, graph, outcomes = suite
    carry(store, graph, outcomes)
    monkeypatch.setattr(sql, "KNOWN_SCHEMAS", ("of another year",))
    with pytest.raises(sql.UnknownSchema, match="schema "):
        sql.records(store.workdir / "mlflow.db", "toy")
    caplog.set_level(logging.DEBUG, logger="bench.tracking.reading")
    assert tracking.read_results(store.workdir, graph) == outcomes
    assert "read through search_runs" in caplog.text
    assert carry(store, graph, outcomes) == []


def test_a_damaged_record_is_told(suite: tuple[Store, JobGraph, dict[str, JobResult]]) -> None:
    store, graph, outcomes = suite
    carry(store, graph, outcomes)
    with sqlite3.connect(store.workdir / "mlflow.db") as database:
        database.execute("UPDATE tags SET value = '{' WHERE key = 'vitbench.result.0'")
    with pytest.raises(BenchError, match="a run holds no complete record"):
        tracking.read_results(store.workdir, graph)


def test_runs_carry_the_verdicts_of_the_report(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    first, second = (job.job_id for job in graph.jobs[:2])

    def told(verdicts: dict[str, str]) -> dict[str, str]:
        mirror = tracking.Mirror(graph, store)
        for job in graph.jobs:
            mirror.record(job, outcomes[job.job_id])
        assert mirror.finish(outcomes=outcomes, verdicts=verdicts) == []
        client = tracking.connect(store.workdir)
        experiment = client.get_experiment_by_name("toy").experiment_id
        return {
            run.data.tags.get("vitbench.job_id", "suite"): run.data.tags["verdict"]
            for run in reversed(client.search_runs([experiment], "tags.verdict LIKE '%'"))
        }

    assert told({first: "reproduced", second: "reproduced"}) == {
        first: "reproduced", second: "reproduced", "suite": "2 reproduced",
    }  # fmt: skip
    assert told({first: "reproduced", second: "off"}) == {
        first: "reproduced", second: "off", "suite": "1 off, 1 reproduced",
    }  # fmt: skip
    ledger = tracking.Ledger(store.workdir, "toy")
    assert ledger.unsaid({first: "reproduced", second: "off", "0" * 16: "off"}) == {}


def test_the_documented_searches_find_their_runs(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    import mlflow

    store, graph, outcomes = suite
    mirror = tracking.Mirror(graph, store)
    for job in graph.jobs:
        mirror.record(job, outcomes[job.job_id])
    assert mirror.finish(outcomes=outcomes, verdicts={graph.jobs[0].job_id: "off"}) == []
    text = (REPOSITORY / "docs" / "mlflow.md").read_text(encoding="utf-8")
    table = text.partition("## Searches")[2].partition("##")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| ")]
    searches = {row[1].strip(): row[2].strip().strip("`") for row in rows[1:]}
    assert len(searches) >= 8
    mlflow.set_tracking_uri(tracking.tracking_uri(store.workdir))
    found = {
        what: set(
            mlflow.search_runs(
                experiment_names=["toy"], filter_string=query, output_format="pandas"
            ).get("tags.mlflow.runName", ())
        )
        for what, query in searches.items()
    }
    jobs = {f"job {seed}" for seed in range(4)}
    assert found["all jobs"] == jobs
    assert found["what failed"] == {"job 2", "job 3"}
    assert found["one seed of pre-training"] == {"job 0"}
    assert found["one verdict"] == {"job 0"}
    assert found["one system"] == set()  # the toy suite has no such system, but the words hold
    assert len(found["the suite's own runs"]) == 1


def test_the_saved_view_is_what_the_page_reads(
    suite: tuple[Store, JobGraph, dict[str, JobResult]],
) -> None:
    store, graph, outcomes = suite
    carry(store, graph, outcomes)
    client = tracking.connect(store.workdir)
    experiment = client.get_experiment_by_name("toy")
    state = json.loads(experiment.tags["mlflow.sharedViewState.vitbench"])
    assert state == view.state(graph)
    runs = client.search_runs([experiment.experiment_id], state["searchFilter"])
    assert len(runs) == 4


def test_the_saved_view_has_what_is_reported_and_no_choice() -> None:
    spec = suites.load("quickstart")
    graph = plan(spec, datasets=catalog.datasets(), protocols=catalog.protocols())
    state = view.state(graph)
    columns = state["selectedColumns"]
    found = [name.split("`")[1] for name in columns if name.startswith("metrics.")]
    assert found == [
        "test_top1", "fewshot_top1/1", "fewshot_top1/5", "fewshot_top1/10", "exaflops", "core_s",
    ]  # fmt: skip
    assert state["searchFilter"].endswith(
        "params.stage != 'candidate' AND params.stage != 'select'"
    )
