"""Results read back from MLflow: in bulk by SQL, or through MLflow where its schema is unknown."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError
from bench.paths import WorkPaths
from bench.plan.spec import JobGraph
from bench.specs import JobResult
from bench.tracking import runs, sql
from bench.tracking.database import TAG, connect

log = logging.getLogger(__name__)

_PAGE = 5000


def read_results(workdir: Path, graph: JobGraph) -> dict[str, JobResult]:
    """Return the outcomes of a suite's jobs as MLflow holds them, by job id.

    Raises BenchError when the work folder has no MLflow store, no such experiment, or a record
    that is damaged.
    """
    database = WorkPaths(workdir).mlflow_database
    suite = graph.suite.label
    if not database.is_file():
        raise BenchError(f"{workdir}: no MLflow store there", hint="Run the suite first")
    try:
        texts = sql.records(database, suite)
    except sqlite3.Error as error:
        log.debug("MLflow is read through search_runs: %s: %s", database, error)
        texts = _searched(workdir, suite)
    if texts is None:
        scale = f" --scale {graph.suite.scale}" if graph.suite.scale else ""
        raise BenchError(
            f"MLflow has no experiment {suite!r}", hint=f"vitbench sync {graph.suite.name}{scale}"
        )
    wanted = {job.job_id for job in graph.jobs}
    found = (_parsed(text, suite) for text in texts)
    return {result.job_id: result for result in found if result.job_id in wanted}


def _parsed(text: str, suite: str) -> JobResult:
    try:
        return JobResult.model_validate_json(text)
    except ValueError as error:
        raise BenchError(
            f"MLflow, experiment {suite!r}: a run holds no complete record",
            hint="The job folders do: vitbench report --from folders",
        ) from error


def _searched(workdir: Path, suite: str) -> list[str] | None:
    """Return what `sql.records` returns, asked of MLflow."""
    client = connect(workdir)
    found = client.get_experiment_by_name(suite)
    if found is None:
        return None

    def texts() -> Iterator[str]:
        token = None
        while True:
            page = client.search_runs(
                [found.experiment_id],
                filter_string=f"tags.`{TAG}role` = 'job'",
                order_by=["attributes.start_time ASC"],
                max_results=_PAGE,
                page_token=token,
            )
            yield from (runs.from_tags(run.data.tags) for run in page)
            token = page.token
            if not token:
                return

    return list(texts())
