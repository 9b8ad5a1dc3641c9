"""Reading and rendering 10,000 job records, side by side with `mlflow.search_runs`.

Run `pytest tests/benchmarks/test_reports_speed.py -s` on a quiet machine to see the figures; those
of record stand in docs/performance.md, section "Reports". What is asserted is that both sides read
the same; a time is printed, never asserted.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import baselines
import reports
from bench import tracking
from bench.cli import wiring
from bench.specs import JobResult, PlannedJob
from bench.store import Store
from bench.tracking import reading, runs, sql
from reports.study.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]

NUM_SIZES, NUM_SEEDS = 60, 18


def _miniature() -> Any:
    """Return the module of the reports' made-up suite, which is a conftest elsewhere."""
    path = Path(__file__).parents[1] / "reports" / "conftest.py"
    spec = importlib.util.spec_from_file_location("miniature_suite", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["miniature_suite"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def many() -> Any:
    """A suite of 10,260 jobs, all done: 3 systems at 60 upstream sizes with 18 seeds."""
    made = _miniature()
    made.SIZES = tuple(512 + 128 * i for i in range(NUM_SIZES))
    made.ACCURACY = {
        family: tuple(low + (high - low) * i / NUM_SIZES for i in range(NUM_SIZES))
        for family, (low, _, high) in made.ACCURACY.items()
    }
    block = made.default_suite().report.model_copy(update={"figures": ()})
    found = made.make_suite(made.default_suite(seeds=tuple(range(NUM_SEEDS)), report=block))
    assert len(found.graph.jobs) > 10_000
    return found


def fastest(work: Callable[[], object], *, rounds: int = 3) -> float:
    """Return the least CPU seconds of a few rounds, the first call counted too."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def fill(workdir: Path, suite: Any) -> None:
    """Put a run for every job into an MLflow store that MLflow has made, by plain SQL."""
    client = tracking.connect(workdir)
    experiment = int(client.create_experiment(suite.graph.suite.name))
    with sqlite3.connect(workdir / "mlflow.db") as database:
        for index, job in enumerate(suite.graph.jobs):
            result = suite.results[job.job_id]
            run_id = f"{index:032x}"
            database.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, user_id, status, "
                "start_time, end_time, lifecycle_stage, artifact_uri, experiment_id) VALUES "
                "(?, ?, 'LOCAL', 'vitbench', 'someone', 'FINISHED', ?, ?, 'active', '', ?)",
                (run_id, job.name, 1000 + index, 2000 + index, experiment),
            )
            _fill_rows(database, run_id, job, result)
    database.close()


def _fill_rows(
    database: sqlite3.Connection, run_id: str, job: PlannedJob, result: JobResult
) -> None:
    def many(statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        database.executemany(statement, rows)

    tags, params, metrics = (
        runs.tags(job, result, False), runs.params(job, result), runs.metrics(job, result)
    )  # fmt: skip
    many("INSERT INTO tags VALUES (?, ?, ?)", [(k, v, run_id) for k, v in tags.items()])
    many("INSERT INTO params VALUES (?, ?, ?)", [(k, v, run_id) for k, v in params.items()])
    many(
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
        "VALUES (?, ?, 2000, 0, 0, ?)",
        [(k, v, run_id) for k, v in metrics.items()],
    )


def test_reading_10000_runs(many: Any, tmp_path: Path) -> None:
    import mlflow

    fill(tmp_path, many)
    mlflow.set_tracking_uri(tracking.tracking_uri(tmp_path))
    name = many.graph.suite.name
    frames = []

    def search() -> None:
        frames[:] = [mlflow.search_runs(experiment_names=[name], max_results=50_000)]

    found: dict[str, JobResult] = {}
    peer_s = fastest(search, rounds=1)
    ours_s = fastest(lambda: found.update(tracking.read_results(tmp_path, many.graph)))
    sql_s = fastest(lambda: sql.records(tmp_path / "mlflow.db", name))
    assert len(frames[0]) == len(many.graph.jobs)
    assert found == many.results
    assert sql.records(tmp_path / "mlflow.db", name) == reading._searched(tmp_path, name)
    print(
        f"\n{len(found)} runs: mlflow.search_runs {peer_s:.2f} s, records by SQL {sql_s:.3f} s "
        f"({peer_s / sql_s:.0f}x), with every record parsed and checked {ours_s:.3f} s "
        f"({peer_s / ours_s:.0f}x)"
    )


def _in_folders(workdir: Path, suite: Any) -> Store:
    store = Store(workdir)
    store.create()
    for job_id, result in suite.results.items():
        folder = store.folder(job_id)
        folder.mkdir()
        (folder / "result.json").write_text(result.model_dump_json(indent=1))
        for name in result.files:
            (folder / name).write_bytes(b"x")
    return store


def test_a_report_over_10000_records(many: Any, tmp_path: Path) -> None:
    import jinja2  # noqa: F401
    import pandas  # noqa: F401
    import scipy.stats  # noqa: F401

    store = _in_folders(tmp_path / "runs", many)
    graph, ids = many.graph, [job.job_id for job in many.graph.jobs]
    published = baselines.published()

    def tables() -> None:
        study = Study(graph, many.results, {}, published=published)
        with reports.without_collection():
            made = reports.make_tables(study)
            versions = reports.versions_of(graph)
            assert dict(reports.table_files(made, reports.FORMATS, versions=versions))

    tables_s = fastest(tables)
    wiring.make_report(graph, store)

    def unchanged() -> None:
        made = wiring.make_report(graph, store)
        assert made.terminal(width=140)

    unchanged_s = fastest(unchanged)
    outcomes_s = fastest(lambda: store.outcomes(ids))
    print(
        f"\n{len(ids)} records: all tables in all formats {tables_s:.2f} s; nothing changed "
        f"{unchanged_s:.2f} s, terminal table included (reading every record: {outcomes_s:.2f} s)"
    )
