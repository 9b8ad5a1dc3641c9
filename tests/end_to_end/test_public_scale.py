"""The public scale to its tables on a CPU: true systems and image sizes, files in owners' layouts.

Weights and data sets are made here (`tests/public/`); steps are limited, batches and sets are
small. Nothing else differs from what a person with the real files runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli.wiring import graph_of
from bench.plan.spec import JobGraph
from bench.specs import JobResult
from bench.store import Store
from tests.public import suites

ON_CPU = "gpus=0"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all suites, so that what they share is done once; it grows to gigabytes."""
    folder = tmp_path_factory.mktemp("public")
    yield folder
    shutil.rmtree(folder)


def check_results(graph: JobGraph, results: dict[str, JobResult]) -> None:
    done = [job for job in graph.jobs if not job.refused]
    assert [job.name for job in done if job.job_id not in results] == []
    for job in done:
        for metric in results[job.job_id].metrics.values():
            sought = not metric.name.endswith("largest_batch")  # never on a CPU without a limit
            assert metric.value is not None or not sought, f"{job.name}: {metric}"


@pytest.mark.slow
@pytest.mark.rehearsal
@pytest.mark.xdist_group("public")
@pytest.mark.parametrize("name", suites.NAMES)
def test_the_public_scale_runs_to_its_tables(name: str, root: Path) -> None:
    suite = suites.make(name, root)
    finished = suites.run(suite, "--set", ON_CPU)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    graph = graph_of(str(suite), [ON_CPU], None, suites.LIMIT_STEPS, scale="public")
    check_results(graph, Store(root / "runs").results(job.job_id for job in graph.jobs))
    report = root / "runs" / "reports" / f"{name}-public"
    written = {path.stem: path.read_text(encoding="utf-8") for path in report.rglob("*.md")}
    assert {*graph.suite.report.tables} <= written.keys()
    assert name == "speed" or "Limited run" in written["comparison"]
